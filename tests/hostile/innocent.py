"""Callers who do nothing wrong while others attack: what they get, and how long they wait at worst."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import requests

from tests.running import DEADLINE_S, PREFIX, wait_until

SMALL = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}

#: What nobody may wait, with room for a loaded machine: each attack here once held everybody up for far longer.
AT_WORST_S = 5.0


class Calls:
    """
    Of one kind, one after the other.

    :ivar answers: how often each status came, or the name of what came instead.
    :ivar refused: the texts of those that were no 200.
    """

    def __init__(self, call: Callable[[], requests.Response], *, pause_s: float) -> None:
        self._call = call
        self._pause_s = pause_s
        self.answers: Counter[int | str] = Counter()
        self.refused: list[str] = []
        self.worst_s = 0.0

    def wait_for(self, more: int) -> None:
        """Until so many more have been answered."""
        wanted = self.answers.total() + more
        wait_until(lambda: self.answers.total() >= wanted, f"{more} more are answered")

    def go_on(self, over: threading.Event) -> None:
        while not over.wait(self._pause_s):
            begun = time.monotonic()
            try:
                got = self._call()
                answer: int | str = got.status_code
                if answer != 200:
                    self.refused.append(got.text)
            except requests.RequestException as error:
                answer = type(error).__name__
            self.worst_s = max(self.worst_s, time.monotonic() - begun)
            self.answers[answer] += 1


@contextmanager
def innocent_callers(root: str) -> Iterator[tuple[Calls, Calls]]:
    """
    Health checks and jobs, as long as the block lasts; at its end each has been answered.

    :param root: of the service, or of what stands in front of it.
    """
    url = root + PREFIX
    health = Calls(lambda: requests.get(f"{url}/health", timeout=DEADLINE_S), pause_s=0.03)
    jobs = Calls(lambda: requests.post(f"{url}/txt2img", json=SMALL, timeout=DEADLINE_S), pause_s=0.1)
    over = threading.Event()
    with ThreadPoolExecutor(2) as threads:
        calling = [threads.submit(calls.go_on, over) for calls in (health, jobs)]
        try:
            yield health, jobs
        finally:
            over.set()
    for one in calling:
        one.result()


def assert_nothing_noticed(*kinds: Calls) -> None:
    for calls in kinds:
        assert set(calls.answers) == {200}, (calls.answers, calls.refused)
        assert calls.worst_s < AT_WORST_S
