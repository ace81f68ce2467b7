"""Reading bodies without being held up: a slow sender costs one of a few places, and only for so long.

Jobs and health checks have threads of their own number (``gunicorn.conf.py``), which no sender can take.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Request

from sd_client.errors import QueueFullError

#: For the whole body, from its request's head on: 32 MB at 4 Mbit/s.
WHOLE_BODY_S = 60.0


class SlowBodyError(Exception):
    """The body did not come in time. Sending it again, faster, is safe."""


class Uploads:
    """
    :param most: bodies read at a time by this process; the next is refused at once.
    :param time_s: until the whole body must be there.
    """

    def __init__(self, *, most: int, time_s: float = WHOLE_BODY_S) -> None:
        self._places = threading.BoundedSemaphore(most)
        self._time_s = time_s

    @contextmanager
    def reading(self, request: Request) -> Iterator[None]:
        """
        The time in which the request's body is read.

        :raises QueueFullError: too many are being read.
        :raises SlowBodyError: it did not come in time.
        """
        if not self._places.acquire(blocking=False):
            raise QueueFullError("too many requests are being received", retry_after_s=1)
        try:
            with _ended_after(self._time_s, request.environ.get("gunicorn.socket")):
                yield
        finally:
            self._places.release()


@contextmanager
def _ended_after(time_s: float, connection: socket.socket | None) -> Iterator[None]:
    """Whoever reads the connection finds its end then. Under a server that keeps it to itself, nobody does."""
    if connection is None:
        yield
        return
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RD)

    timer = threading.Timer(time_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if late.is_set():
            raise SlowBodyError from error
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise SlowBodyError
