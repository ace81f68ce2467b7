"""Callers of the balancer who paint and fetch without a pause, and the answers they get."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import requests

from tests.pool.webuis import STEPS_PER_S
from tests.running import DEADLINE_S

_SECONDS = 0.25
_seeds = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``what``: "painted", "fetched", the status and the code of a problem, or how the connection failed."""

    what: str
    began: float
    ended: float

    @property
    def taken_s(self) -> float:
        return self.ended - self.began


class Traffic:
    """Begins at once; ``images`` are the IDs that answers named."""

    def __init__(self, balancer: str, *, painters: int = 4, fetchers: int = 2) -> None:
        self._balancer = balancer
        self._ended = threading.Event()
        self.images: list[str] = []
        self.painted: list[Outcome] = []
        self.fetched: list[Outcome] = []
        jobs = [self._paint_on] * painters + [self._fetch_on] * fetchers
        self._threads = [threading.Thread(target=job) for job in jobs]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _paint_on(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self.painted.append(Outcome(what=self._paint(), began=began, ended=time.monotonic()))
            self._rest(self.painted[-1])

    def _fetch_on(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            if self.images:
                self.fetched.append(Outcome(what=self._fetch(self.images[-1]), began=began, ended=time.monotonic()))
            time.sleep(0.1)

    def _rest(self, last: Outcome) -> None:
        if last.what != "painted":
            time.sleep(0.25)

    def _paint(self) -> str:
        body: dict[str, Any] = {"prompt": "a", "width": 64, "height": 64, "steps": round(_SECONDS * STEPS_PER_S)}
        body |= {"seed": next(_seeds), "response_format": "url"}
        try:
            answer = requests.post(f"{self._balancer}/txt2img", json=body, timeout=DEADLINE_S)
        except requests.RequestException as error:
            return type(error).__name__
        if not answer.ok:
            return _problem(answer)
        if answer.json()["image_url"] is None:
            return "painted, not kept"
        self.images.append(answer.json()["image_id"])
        return "painted"

    def _fetch(self, image_id: str) -> str:
        try:
            answer = requests.get(f"{self._balancer}/image/{image_id}", timeout=DEADLINE_S)
        except requests.RequestException as error:
            return type(error).__name__
        return "fetched" if answer.ok else _problem(answer)


def _problem(answer: requests.Response) -> str:
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return f"{problem['status']} {problem['code']}"


def counted(outcomes: list[Outcome]) -> dict[str, int]:
    return dict(Counter(one.what for one in outcomes).most_common())


def longest_s(outcomes: list[Outcome]) -> float:
    return max((one.taken_s for one in outcomes), default=0.0)
