"""Calls at a later time, nearly all of which are cancelled before: one thread for all, where a timer is one each."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True)
class _Entry:
    when: float
    number: int
    call: Callable[[], None] | None = field(compare=False)


class Deadlines:
    """Safe to use from several threads. The calls are made in a thread of its own: they must not block, nor raise."""

    #: Cancelled calls that are kept until their time, at most as many as live ones and these.
    _SPARE = 1000

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: list[_Entry] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._wakes_at: float | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def call_after(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """
        :returns: what cancels it; the call may just be under way.
        """
        entry = _Entry(self._clock() + seconds, next(self._numbers), call)
        with self._changed:
            heapq.heappush(self._entries, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._wakes_at is None or entry.when < self._wakes_at:
                self._changed.notify()
        return lambda: self._cancel(entry)

    def __len__(self) -> int:
        """Calls that are kept, cancelled ones among them."""
        return len(self._entries)

    def _cancel(self, entry: _Entry) -> None:
        with self._changed:
            if entry.call is None:
                return
            entry.call = None
            self._cancelled += 1
            # Not the thread is woken: it finds nothing to do when it wakes by itself.
            if self._cancelled > len(self._entries) // 2 + self._SPARE:
                self._entries = [other for other in self._entries if other.call is not None]
                heapq.heapify(self._entries)
                self._cancelled = 0

    def _run(self) -> None:
        while True:
            call = self._next()
            if call is not None:
                call()

    def _next(self) -> Callable[[], None] | None:
        """Waits until something is due."""
        with self._changed:
            while not self._entries or self._entries[0].when > self._clock():
                self._wakes_at = self._entries[0].when if self._entries else None
                self._changed.wait(None if self._wakes_at is None else max(0.0, self._wakes_at - self._clock()))
            entry = heapq.heappop(self._entries)
            call, entry.call = entry.call, None
            if call is None:
                self._cancelled -= 1
            return call


_SHARED = Deadlines()

call_after = _SHARED.call_after
