"""The WebUI's time is what it was waited for, not what was done with its answer meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from sd_client.errors import WebUIReadError
from sd_client.exchange_time import ExchangeTime
from tests.clock import Clock


def arriving(clock: Clock, *, each_s: float, lost: bool = False) -> Iterator[bytes]:
    for piece in (b"a", b"b", b"c"):
        clock.now += each_s
        yield piece
    clock.now += each_s  # until its end is known
    if lost:
        raise WebUIReadError("lost")


def worker(clock: Clock, *, each_s: float, after_s: float):
    def take(pieces: Iterable[bytes]) -> bytes:
        taken = b""
        for piece in pieces:
            clock.now += each_s
            taken += piece
        clock.now += after_s
        return taken

    return take


def test_work_between_pieces_is_not_the_webuis() -> None:
    clock = Clock()
    exchange = ExchangeTime(clock)
    clock.now += 5.0
    take = exchange.apart(worker(clock, each_s=0.25, after_s=0.5))
    assert take(arriving(clock, each_s=1.0)) == b"abc"
    assert exchange.webui_s() == pytest.approx(5.0 + 4 * 1.0)


def test_an_exchange_without_an_answer_is_all_the_webuis() -> None:
    clock = Clock()
    exchange = ExchangeTime(clock)
    clock.now += 3.0
    assert exchange.webui_s() == 3.0


def test_an_answer_that_is_lost() -> None:
    clock = Clock()
    exchange = ExchangeTime(clock)
    with pytest.raises(WebUIReadError):
        exchange.apart(worker(clock, each_s=0.25, after_s=0.5))(arriving(clock, each_s=1.0, lost=True))
    assert exchange.webui_s() == pytest.approx(4 * 1.0)
