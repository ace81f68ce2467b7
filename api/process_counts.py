"""Where rate limits are counted within one process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from limits.storage import MemoryStorage

from api.moving_windows import Count, Window

#: How often callers are forgotten whose last request no limit counts any more.
SWEEP_S = 60.0


@dataclass(kw_only=True)
class _Times:
    """``times``: of the requests that count, the oldest first."""

    expiry_s: float
    times: deque[float] = field(default_factory=deque)

    def forget(self, now: float) -> None:
        while self.times and self.times[0] < now - self.expiry_s:
            self.times.popleft()


class ProcessCounts(MemoryStorage):
    """
    To be named as Flask-Limiter's ``storage_uri``; for moving windows.

    For these limits' own starts a thread with nearly every request, which looks at the windows of all callers, and
    keeps one for every caller that ever came.
    """

    STORAGE_SCHEME = ["process"]  # noqa: RUF012 - declared like this where it comes from

    def __init__(
        self,
        uri: str = "process://",
        wrap_exceptions: bool = False,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param clock: in seconds. Not the time of day: where that is set back, a window stays full."""
        super().__init__(uri, wrap_exceptions)
        self._clock = clock
        self._windows: dict[str, _Times] = {}
        self._sweep_at = 0.0
        self._mutex = threading.Lock()

    def __len__(self) -> int:
        """Callers, times their limits, that are kept."""
        return len(self._windows)

    def acquire_in_order(self, windows: Sequence[Window]) -> list[Count]:
        """Up to the first that is full."""
        counts = []
        with self._mutex:
            now = self._clock()
            self._sweep(now)
            for window in windows:
                counts.append(self._acquire(window, now))
                if not counts[-1].acquired:
                    break
        return counts

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        (count,) = self.acquire_in_order([Window(key, limit, expiry, amount)])
        return count.acquired

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        with self._mutex:
            now = self._clock()
            window = self._windows.get(key)
            if window is not None:
                window.forget(now)
            return (window.times[0], len(window.times)) if window and window.times else (now, 0)

    def clear(self, key: str) -> None:
        super().clear(key)
        with self._mutex:
            self._windows.pop(key, None)

    def reset(self) -> int | None:
        super().reset()
        with self._mutex:
            count = len(self._windows)
            self._windows.clear()
            return count

    def _acquire(self, window: Window, now: float) -> Count:
        kept = self._windows.get(window.key)
        if kept is None:
            kept = self._windows[window.key] = _Times(expiry_s=window.expiry_s)
        kept.forget(now)
        acquired = len(kept.times) + window.amount <= window.limit
        if acquired:
            kept.times.extend([now] * window.amount)
        return Count(acquired, kept.times[0] if kept.times else now, len(kept.times), now)

    def _sweep(self, now: float) -> None:
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S
        for key, window in list(self._windows.items()):
            window.forget(now)
            if not window.times:
                del self._windows[key]
