"""Counting in one process, as limits' own storage does, but for its threads and what it never forgets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from api.moving_windows import Count, Window
from api.process_counts import SWEEP_S, ProcessCounts
from tests.clock import Clock

MINUTE_S = 60


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counts(clock: Clock) -> ProcessCounts:
    made = ProcessCounts(clock=clock)
    made.timer.join()  # limits' own starts one when it is made
    return made


def test_a_window_moves(counts: ProcessCounts, clock: Clock) -> None:
    assert counts.get_moving_window("a", 2, MINUTE_S) == (1000.0, 0)
    assert counts.acquire_entry("a", 2, MINUTE_S)
    clock.now = 1030.0
    assert counts.acquire_entry("a", 2, MINUTE_S)
    assert not counts.acquire_entry("a", 2, MINUTE_S)
    assert counts.acquire_entry("b", 2, MINUTE_S), "each caller has its own"
    assert counts.get_moving_window("a", 2, MINUTE_S) == (1000.0, 2)
    clock.now = 1060.0
    assert not counts.acquire_entry("a", 2, MINUTE_S), "the whole minute counts"
    clock.now = 1060.5
    assert counts.get_moving_window("a", 2, MINUTE_S) == (1030.0, 1)
    assert counts.acquire_entry("a", 2, MINUTE_S)
    assert not counts.acquire_entry("a", 2, MINUTE_S)


def test_what_was_refused_does_not_count(counts: ProcessCounts, clock: Clock) -> None:
    assert [counts.acquire_entry("a", 1, MINUTE_S) for _ in range(5)] == [True] + [False] * 4
    clock.now += MINUTE_S + 1
    assert counts.acquire_entry("a", 1, MINUTE_S)


@pytest.mark.parametrize(("taken", "amount", "passes"), [(0, 3, True), (0, 4, False), (1, 2, True), (1, 3, False)])
def test_several_at_once_pass_or_none(counts: ProcessCounts, taken: int, amount: int, passes: bool) -> None:
    for _ in range(taken):
        counts.acquire_entry("a", 3, MINUTE_S)
    assert counts.acquire_entry("a", 3, MINUTE_S, amount) is passes
    assert counts.get_moving_window("a", 3, MINUTE_S)[1] == taken + amount * passes


def test_windows_are_taken_in_order_up_to_the_first_that_is_full(counts: ProcessCounts, clock: Clock) -> None:
    minute, hour, day = Window("a", 2, MINUTE_S), Window("b", 3, 60 * MINUTE_S), Window("c", 9, 24 * 60 * MINUTE_S)
    for taken in (1, 2):
        assert counts.acquire_in_order([minute, hour, day]) == [Count(True, 1000.0, taken, 1000.0)] * 3
    assert counts.acquire_in_order([minute, hour, day]) == [Count(False, 1000.0, 2, 1000.0)]
    clock.now += MINUTE_S + 1
    assert counts.acquire_in_order([minute, hour]) == [Count(True, 1061.0, 1, 1061.0), Count(True, 1000.0, 3, 1061.0)]
    assert counts.acquire_in_order([minute, hour, day]) == [
        Count(True, 1061.0, 2, 1061.0),
        Count(False, 1000.0, 3, 1061.0),
    ]
    assert counts.get_moving_window("c", 9, day.expiry_s) == (1000.0, 2)


def test_threads_get_no_more_than_the_limit(counts: ProcessCounts) -> None:
    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(lambda _: counts.acquire_entry("a", 50, MINUTE_S), range(400)))
    assert sum(passed) == 50


def test_callers_are_forgotten(counts: ProcessCounts, clock: Clock) -> None:
    for caller in range(100):
        counts.acquire_entry(f"minute {caller}", 5, MINUTE_S)
        counts.acquire_entry(f"hour {caller}", 5, 60 * MINUTE_S)
    clock.now += MINUTE_S + SWEEP_S
    counts.acquire_entry("another", 5, MINUTE_S)
    assert len(counts) == 101
    assert counts.get_moving_window("hour 0", 5, 60 * MINUTE_S) == (1000.0, 1)


def test_no_thread_is_started(counts: ProcessCounts) -> None:
    last = counts.timer
    assert all(counts.acquire_entry("a", 100, MINUTE_S) for _ in range(100))
    assert counts.timer is last


def test_one_caller_or_all_can_be_let_off(counts: ProcessCounts) -> None:
    for caller in "abc":
        counts.acquire_entry(caller, 1, MINUTE_S)
    counts.clear("a")
    assert [counts.acquire_entry(caller, 1, MINUTE_S) for caller in "abc"] == [True, False, False]
    assert counts.reset() == 3
    assert all(counts.acquire_entry(caller, 1, MINUTE_S) for caller in "abc")
