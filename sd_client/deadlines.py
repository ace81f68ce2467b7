"""
Calls at a later time, nearly all of which are cancelled before: one thread for all, where a timer is one each. And when
what recurs is due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: A call may come this much later than it was asked for: the deadlines of exchanges are seconds and minutes.
RESOLUTION_S = 0.1


class Deadlines:
    """Safe to use from several threads. The calls are made in a separate thread: they must neither block nor raise."""

    def __init__(self) -> None:
        self._pending: dict[object, tuple[float, Callable[[], None]]] = {}
        self._mutex = threading.Lock()
        self._any_pending = threading.Event()
        self._thread: threading.Thread | None = None

    def call_after(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """
        :returns: what cancels it; the call may just be under way.
        """
        key = object()
        with self._mutex:
            self._pending[key] = time.monotonic() + seconds, call
            if len(self._pending) == 1:
                self._any_pending.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
        return lambda: self._cancel(key)

    def _cancel(self, key: object) -> None:
        with self._mutex:
            self._pending.pop(key, None)

    def _run(self) -> None:
        while True:
            self._any_pending.wait()
            time.sleep(RESOLUTION_S)
            for call in self._due():
                call()

    def _due(self) -> list[Callable[[], None]]:
        """Removes the calls whose time has come."""
        with self._mutex:
            now = time.monotonic()
            due = sorted(
                ((when, key) for key, (when, _) in self._pending.items() if when <= now), key=lambda one: one[0]
            )
            calls = [self._pending.pop(key)[1] for _, key in due]
            if not self._pending:
                self._any_pending.clear()
        return calls


_SHARED = Deadlines()

call_after = _SHARED.call_after


def until_beat(period_s: float, *, now: float | None = None, phase_s: float = 0.0) -> float:
    """
    Seconds until whatever recurs is due: more than 0, and ``period_s`` at most.

    It is due on the beats of a clock that all processes of the host share, so that an idle service wakes for all of it
    at the same moments: a thread that wakes alone finds nothing in the processor's caches.

    :param now: by ``time.monotonic``, if another moment than now.
    :param phase_s: how much later than the other beats of this period it is.
    """
    return period_s - ((time.monotonic() if now is None else now) - phase_s) % period_s
