"""What a caller's connection does to its request: how long bodies and images may take, and whether it is still open.

A slow caller takes one of a few places, and only for so long. Jobs and health checks have a number of threads of their
own (``Config.threads``), which no caller can take.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from flask import Request

from sd_client.deadlines import call_after
from sd_client.errors import QueueFullError

#: For a whole body, counted from its request's head: 32 MB at 4 Mbit/s.
WHOLE_BODY_S = 60.0
#: For a whole response: the largest image at 1 Mbit/s.
WHOLE_ANSWER_S = 120.0


class SlowBodyError(Exception):
    """The body did not come in time. Sending it again, faster, is safe."""


class CallerGoneError(Exception):
    """The caller hung up: whatever is answered, nobody reads it."""


class Uploads:
    """
    :param most: requests received and decoded at a time by this process; the next is refused at once.
    :param most_bytes: of all their bodies together, and of those whose jobs wait or run.
    :param time_s: until the whole body must be there.
    """

    def __init__(self, *, most: int, most_bytes: int, time_s: float = WHOLE_BODY_S) -> None:
        self._places = threading.BoundedSemaphore(most)
        self._bytes_left = most_bytes
        self._mutex = threading.Lock()
        self._time_s = time_s

    @contextmanager
    def place(self) -> Iterator[None]:
        """
        Takes a place for a body that is received and decoded.

        :raises QueueFullError: too many bodies are being received.
        """
        if not self._places.acquire(blocking=False):
            raise QueueFullError("too many requests are being received", retry_after_s=1)
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def memory(self) -> Iterator[Callable[[int], None]]:
        """
        Takes memory for a body as long as its pictures are needed. What is yielded must be called with the number of
        bytes of each piece that has been received, and raises :class:`QueueFullError` if there is no room for them.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            with self._mutex:
                if size > self._bytes_left:
                    raise QueueFullError("too many pictures are being received or wait", retry_after_s=5)
                self._bytes_left -= size
                taken += size

        try:
            yield take
        finally:
            with self._mutex:
                self._bytes_left += taken

    def in_time(self, request: Request) -> AbstractContextManager[None]:
        """
        Limits the time in which the request's body is read.

        :raises SlowBodyError: it did not come in time.
        """
        return _ended_after(self._time_s, request.environ.get("gunicorn.socket"))


class Downloads:
    """
    :param most: images sent at a time by this process; the next is refused at once.
    """

    def __init__(self, *, most: int) -> None:
        self._places = threading.BoundedSemaphore(most)

    def begin(self) -> Callable[[], None]:
        """
        Takes a place; call what is returned to give it back.

        :raises QueueFullError: too many are being sent.
        """
        if not self._places.acquire(blocking=False):
            raise QueueFullError("too many images are being sent", retry_after_s=1)
        return self._places.release


def end_slow_reader(request: Request, *, time_s: float = WHOLE_ANSWER_S) -> Callable[[], None]:
    """
    Ends the connection of a caller that does not take its response in time.

    :returns: to be called once the response has been sent.
    """
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return lambda: None
    return call_after(time_s, lambda: _shut_down(connection, socket.SHUT_RDWR))


def still_there(request: Request) -> Callable[[], None]:
    """
    A check that raises :class:`CallerGoneError` once the caller has closed, or half-closed, its connection.

    gunicorn passes its socket on in the WSGI environment; under another server nothing is noticed.
    """
    connection: socket.socket | None = request.environ.get("gunicorn.socket")

    def check() -> None:
        if connection is not None and _has_ended(connection):
            raise CallerGoneError

    return check


def _has_ended(connection: socket.socket) -> bool:
    try:
        # Not SSLSocket's own recv, which takes no flags: with TLS as well, the end of the connection is the end.
        return socket.socket.recv(connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False  # open and silent, as it should be
    except OSError:
        return True


def _shut_down(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, how)  # not SSLSocket's, which forgets its TLS state


@contextmanager
def _ended_after(time_s: float, connection: socket.socket | None) -> Iterator[None]:
    """Ends reading from the connection after that time. Another server than gunicorn passes none on: no limit then."""
    if connection is None:
        yield
        return
    late = threading.Event()

    def end() -> None:
        late.set()
        _shut_down(connection, socket.SHUT_RD)

    cancel = call_after(time_s, end)
    try:
        yield
    except Exception as error:
        if late.is_set():
            raise SlowBodyError from error
        raise
    finally:
        cancel()
    if late.is_set():
        raise SlowBodyError
