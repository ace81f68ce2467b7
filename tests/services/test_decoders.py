"""Waiting for a decoder: in order, not for ever, and not without a caller."""

from __future__ import annotations

import threading

import pytest

from api.transfers import CallerGoneError
from sd_client.errors import QueueTimeoutError
from services.decoders import Decoders, Decoding
from tests.clock import Clock
from tests.running import wait_until


def nothing() -> None:
    """Of a caller who is there."""


def test_those_who_wait_come_in_the_order_they_came_in() -> None:
    decoders, order = Decoders(count=1), []
    decoders.acquire(until=float("inf"), check=nothing)

    def decode(number: int) -> None:
        decoders.acquire(until=float("inf"), check=nothing)
        order.append(number)
        decoders.release()

    threads = [threading.Thread(target=decode, args=[number]) for number in range(5)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda: len(decoders) == number + 1, "it waits")  # noqa: B023 - called at once
    decoders.release()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_a_wait_has_an_end() -> None:
    clock = Clock()
    decoders = Decoders(count=1, clock=clock)
    decoders.acquire(until=clock.now, check=nothing)
    with pytest.raises(QueueTimeoutError):
        decoders.acquire(until=clock.now, check=nothing)
    assert len(decoders) == 0
    decoders.release()
    decoders.acquire(until=clock.now, check=nothing)  # a free one is there for whoever comes late, too


def test_a_caller_who_is_gone_does_not_wait() -> None:
    def gone() -> None:
        raise CallerGoneError

    decoders = Decoders(count=1)
    decoders.acquire(until=float("inf"), check=nothing)
    with pytest.raises(CallerGoneError):
        decoders.acquire(until=float("inf"), check=gone)
    assert len(decoders) == 0


def test_who_must_not_wait_is_asked_once_and_the_wait_is_told() -> None:
    clock, asked = Clock(), []

    def later() -> None:
        clock.now += 3
        decoders.release()

    decoders = Decoders(count=1, clock=clock)
    decoding = Decoding(
        decoders=decoders, until=clock.now + 10, check=later, admit=lambda: asked.append(len(decoders)), clock=clock
    )
    with decoding():
        assert decoding.waited_s == 0
        clock.now += 5  # its own work
    decoders.acquire(until=clock.now, check=nothing)
    with decoding():
        assert decoding.waited_s == 3
    assert asked == [0]
