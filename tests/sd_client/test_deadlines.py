"""Calls at a later time, all from one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from sd_client.deadlines import Deadlines, until_beat
from tests.running import wait_until


def test_calls_come_in_the_order_of_their_times() -> None:
    deadlines, called = Deadlines(), []
    done = threading.Event()

    def record(name: str) -> Callable[[], None]:
        return lambda: called.append(name)

    deadlines.call_after(0.15, done.set)
    deadlines.call_after(0.1, record("second"))
    deadlines.call_after(0.05, record("first"))
    deadlines.call_after(600, record("never"))
    assert done.wait(60)
    assert called == ["first", "second"]


def test_a_call_that_is_due_sooner_is_not_late() -> None:
    deadlines, done = Deadlines(), threading.Event()
    deadlines.call_after(600, lambda: None)
    deadlines.call_after(0.01, done.set)
    assert done.wait(60)


def test_a_cancelled_call_is_not_made() -> None:
    deadlines, called, done = Deadlines(), [], threading.Event()
    cancel = deadlines.call_after(0.05, lambda: called.append("cancelled"))
    deadlines.call_after(0.1, done.set)
    cancel()
    cancel()
    assert done.wait(60)
    assert called == []


def test_what_was_called_can_be_cancelled_still() -> None:
    deadlines, done = Deadlines(), threading.Event()
    cancel = deadlines.call_after(0, done.set)
    assert done.wait(60)
    cancel()


def test_one_thread_for_all() -> None:
    deadlines = Deadlines()
    before = threading.active_count()
    for _ in range(100):
        deadlines.call_after(600, lambda: None)
    assert threading.active_count() == before + 1


def test_calls_from_many_threads() -> None:
    deadlines, mutex = Deadlines(), threading.Lock()
    called = []

    def ask() -> None:
        for number in range(200):
            cancel = deadlines.call_after(0.001 * (number % 7), lambda: _append(called, mutex))
            if number % 2:
                time.sleep(0)
                cancel()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(called) >= 800, "all calls that were not cancelled")


def _append(called: list[int], mutex: threading.Lock) -> None:
    with mutex:
        called.append(1)


@pytest.mark.parametrize(
    ("now", "phase_s", "expected"),
    [(100.0, 0.0, 5.0), (101.0, 0.0, 4.0), (104.75, 0.0, 0.25), (101.0, 2.0, 1.0), (101.0, 7.0, 1.0)],
)
def test_the_next_beat(now: float, phase_s: float, expected: float) -> None:
    assert until_beat(5.0, now=now, phase_s=phase_s) == expected
