"""What trials with small pictures have shown: remembered by this process, failures for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from sd_client.models import SMALL_SIZE, PaintedImage
from sd_client.pixels import rgb

K = TypeVar("K", bound=Hashable)

#: Seconds for which what has failed is not tried again: its file may be replaced.
FAILED_S: Final = 600.0

#: So many are remembered, which is more than any pool has.
_MOST: Final = 20_000


class Trials(Generic[K]):
    """By key: what passed, with the hash of its file if the WebUI says one, and what failed lately."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._passed: dict[K, str | None] = {}
        self._failed: dict[K, float] = {}
        self._mutex = threading.Lock()

    def has_passed(self, key: K) -> bool:
        return key in self._passed

    def hash(self, key: K) -> str | None:
        """Of the file that passed."""
        return self._passed.get(key)

    def has_failed(self, key: K) -> bool:
        failed = self._failed.get(key)
        return failed is not None and self._clock() - failed < FAILED_S

    def put(self, key: K, *, passed: bool, hash: str | None = None) -> None:
        with self._mutex:
            if len(self._passed) + len(self._failed) >= _MOST:
                self._passed.clear()
                self._failed.clear()
            self._forget(key)
            if passed:
                self._passed[key] = hash
            else:
                self._failed[key] = self._clock()

    def forget(self, *keys: K) -> None:
        """The next job tries them again."""
        with self._mutex:
            for key in keys:
                self._forget(key)

    def forget_where(self, matches: Callable[[K], bool]) -> None:
        with self._mutex:
            for key in [*self._passed, *self._failed]:
                if matches(key):
                    self._forget(key)

    def _forget(self, key: K) -> None:
        self._passed.pop(key, None)
        self._failed.pop(key, None)


def small_pixels(image: PaintedImage) -> bytes:
    """:raises InvalidAnswerError: it is damaged, or has another size."""
    return rgb(image.data, size=SMALL_SIZE, message="the WebUI painted a small picture in another size")
