"""Callers of the balancer who paint and fetch without a pause, and the answers they get."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import requests

from tests.pool.callers import painting
from tests.running import DEADLINE_S, Repeating


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``what``: "painted", "fetched", the status and the code of a problem, or how the connection failed."""

    what: str
    began: float
    ended: float

    @property
    def taken_s(self) -> float:
        return self.ended - self.began


class Traffic(Repeating):
    """Begins at once; ``images`` are the IDs that answers named."""

    def __init__(self, balancer: str, *, painters: int = 4, fetchers: int = 2) -> None:
        super().__init__([self._paint_on] * painters + [self._fetch_on] * fetchers)
        self._balancer = balancer
        self.images: list[str] = []
        self.painted: list[Outcome] = []
        self.fetched: list[Outcome] = []
        self.start()

    def _paint_on(self) -> None:
        while not self.ended.is_set():
            began = time.monotonic()
            self.painted.append(Outcome(what=self._paint(), began=began, ended=time.monotonic()))
            self._rest(self.painted[-1])

    def _fetch_on(self) -> None:
        while not self.ended.is_set():
            began = time.monotonic()
            if self.images:
                self.fetched.append(Outcome(what=self._fetch(self.images[-1]), began=began, ended=time.monotonic()))
            time.sleep(0.1)

    def _rest(self, last: Outcome) -> None:
        if last.what != "painted":
            time.sleep(0.25)

    def _paint(self) -> str:
        try:
            answer = requests.post(f"{self._balancer}/txt2img", json=painting(), timeout=DEADLINE_S)
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
