"""What was asked of the simulator, for tests to look at."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

GENERATION_ROUTES = frozenset({"txt2img", "img2img", "extra-single-image"})
MAX_REQUESTS = 10_000  # A long benchmark must not fill the memory with its own history.


@dataclass(frozen=True, kw_only=True)
class ReceivedRequest:
    """One request as it came in.

    `path` is as sent but for the query; `started` and `finished` are `time.monotonic()` when the whole
    request had been read and when its answer had been written (None while that is not so).
    """

    method: str
    path: str
    query: str
    route: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    started: float
    finished: float | None = None

    @property
    def is_generation(self) -> bool:
        """Whether it asked for pictures."""
        return self.method == "POST" and self.route in GENERATION_ROUTES


class Journal:
    """The requests in the order they were read. Thread-safe."""

    def __init__(self, *, max_body_bytes: int | None = None) -> None:
        self._max_body_bytes = max_body_bytes
        self._lock = threading.Lock()
        self._entries: deque[ReceivedRequest] = deque(maxlen=MAX_REQUESTS)
        self._generating = 0
        self._most_concurrent = 0

    @contextmanager
    def entry(self, request: ReceivedRequest) -> Iterator[None]:
        """Record a request, and when its answer was ready."""
        request = replace(request, body=request.body[: self._max_body_bytes])
        with self._lock:
            self._entries.append(request)
            self._generating += request.is_generation
            self._most_concurrent = max(self._most_concurrent, self._generating)
        try:
            yield
        finally:
            with self._lock:
                self._generating -= request.is_generation
                self._finish(request)

    def _finish(self, request: ReceivedRequest) -> None:
        # From the end: what finishes has mostly begun just now.
        for index in range(len(self._entries) - 1, -1, -1):
            if self._entries[index] is request:
                self._entries[index] = replace(request, finished=time.monotonic())
                return

    def requests(self) -> list[ReceivedRequest]:
        """A copy of the history."""
        with self._lock:
            return list(self._entries)

    @property
    def most_concurrent(self) -> int:
        """The most generation requests that were in flight at one moment."""
        with self._lock:
            return self._most_concurrent

    def clear(self) -> None:
        """Forget the history, and count from what is in flight now."""
        with self._lock:
            self._entries.clear()
            self._most_concurrent = self._generating
