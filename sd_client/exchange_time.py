"""How long a WebUI was waited for, when its answer is worked on while it arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class ExchangeTime:
    """Of one exchange, which begins now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._own_s = 0.0

    def webui_s(self) -> float:
        """Seconds since the beginning, without those in which pieces were worked on."""
        return self._clock() - self._begun - self._own_s

    def apart(self, take: Callable[[Iterable[bytes]], T]) -> Callable[[Iterable[bytes]], T]:
        """``take``, whose time is not the WebUI's, but for its waiting for the next piece."""

        def timed(pieces: Iterable[bytes]) -> T:
            self._own_s -= self._clock()
            try:
                return take(self._awaited(pieces))
            finally:
                self._own_s += self._clock()

        return timed

    def _awaited(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        left = iter(pieces)
        while True:
            self._own_s += self._clock()
            try:
                piece = next(left, None)
            finally:
                self._own_s -= self._clock()
            if piece is None:
                return
            yield piece
