"""The storage of a process for the limits library."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from limits.storage import MemoryStorage

#: How often callers are forgotten whose requests no longer count.
SWEEP_S = 60.0


class ProcessStorage(MemoryStorage):
    """
    Moving windows of this process, to be named as ``process://``.

    The one of limits starts a thread with nearly every request, which goes through all callers (16 ms of CPU with
    10,000 of them), and never forgets a caller.
    """

    STORAGE_SCHEME = ["process"]  # noqa: RUF012 - declared like this where it comes from

    def __init__(self, uri: str = "process://", *, clock: Callable[[], float] = time.time, **options: Any) -> None:
        super().__init__(uri, **options)
        self.now = clock
        self._ends: dict[str, deque[float]] = {}  # until when each request counts, the oldest first
        self._sweep_at = 0.0
        self._mutex = threading.Lock()

    def __len__(self) -> int:
        """The number of windows that are kept."""
        return len(self._ends)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        with self._mutex:
            now = self.now()
            self._sweep(now)
            ends = self._counting(key, expiry, now)
            acquired = len(ends) + amount <= limit
            if acquired:
                ends.extend([now + expiry] * amount)
            return acquired

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        with self._mutex:
            now = self.now()
            ends = self._counting(key, expiry, now)
            return (ends[0] - expiry, len(ends)) if ends else (now, 0)

    def _counting(self, key: str, expiry: int, now: float) -> deque[float]:
        ends = self._ends.setdefault(key, deque())
        while ends and not now <= ends[0] <= now + expiry:  # later: the clock was set back
            ends.popleft()
        return ends

    def _sweep(self, now: float) -> None:
        if self._sweep_at - SWEEP_S <= now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S
        self._ends = {key: ends for key, ends in self._ends.items() if ends and ends[-1] >= now}
