"""Limits how many pictures are decoded at a time to the number of processors; others wait in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sd_client.errors import QueueTimeoutError

#: How often a waiting request checks that its caller is still there.
_LOOK_S = 0.25

#: Any request may wait this long, whatever ``SD_QUEUE_TIMEOUT`` is: several large pictures take as long, without a
#: WebUI.
SHORTEST_WAIT_S = 5.0


class Decoders:
    """:param count: pictures decoded at a time: more would only share the processors and add up their memory."""

    def __init__(self, *, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = count
        self._clock = clock
        self._waiting: deque[threading.Event] = deque()
        self._mutex = threading.Lock()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def acquire(self, *, until: float, check: Callable[[], None]) -> None:
        """
        :param until: when to give up, by the clock.
        :param check: called while waiting; what it raises ends the wait.
        :raises QueueTimeoutError: none became free in time.
        """
        with self._mutex:
            if self._free:
                self._free -= 1
                return
            mine = threading.Event()
            self._waiting.append(mine)
        try:
            while not mine.wait(min(_LOOK_S, max(0.0, until - self._clock()))):
                check()
                if self._clock() >= until:
                    raise QueueTimeoutError("too many pictures are being decoded", retry_after_s=5)
        except BaseException:
            self._leave(mine)
            raise

    def release(self) -> None:
        """Whoever has waited longest is next."""
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1

    def _leave(self, mine: threading.Event) -> None:
        with self._mutex:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return
        self.release()  # it received a decoder at the last moment


@dataclass(kw_only=True)
class Decoding:
    """
    One request's use of the decoders, in which it may wait for all its pictures together until a certain time.

    :param until: by the clock.
    :param check: called while it waits.
    :param admit: called once, before the first picture: if it raises, the request does not wait at all.
    :param waited_s: so far.
    """

    decoders: Decoders
    until: float
    check: Callable[[], None]
    admit: Callable[[], None] | None = None
    clock: Callable[[], float] = time.monotonic
    waited_s: float = 0.0

    def begin(self) -> None:
        """To be called before the first picture is fetched; it raises what the call does that admits the request."""
        if self.admit is not None:
            self.admit()
            self.admit = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """
        :raises QueueTimeoutError: no decoder became free in time; and whatever the two calls raise.
        """
        self.begin()
        begun = self.clock()
        self.decoders.acquire(until=self.until, check=self.check)
        self.waited_s += self.clock() - begun
        try:
            yield
        finally:
            self.decoders.release()
