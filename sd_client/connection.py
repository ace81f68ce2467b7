"""The connection of one exchange: knows whether it came about, and ends when the exchange's time is over.

A socket's own timeout does neither: it begins anew with every piece that arrives, so an answer that drips has no end,
and the time to send a picture to a busy WebUI would be the time to connect.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterable, Mapping

from sd_client.deadlines import call_after

#: 102 is sent every few seconds at most while a request is worked on, 103 once.
_MOST_INTERIM_ANSWERS = 1000


class OneExchange:
    """
    Sends one request and receives its answer. Its errors are those of :mod:`http.client` and the operating system.

    :param connection: not connected yet; its timeout is the time to connect, the TLS handshake included.
    :param timeout_s: seconds from :meth:`send` until the socket is shut down.
    """

    def __init__(self, connection: http.client.HTTPConnection, *, timeout_s: float) -> None:
        self._connection = connection
        self._connection.response_class = _FinalAnswer
        self._answer: http.client.HTTPResponse | None = None
        self._socket: socket.socket | None = None
        self._mutex = threading.Lock()
        self._timeout_s = timeout_s
        self._cancel: Callable[[], None] = lambda: None
        self.expired = False
        self._hung_up = False

    @property
    def connected(self) -> bool:
        """False: nothing of the request was sent."""
        return self._socket is not None

    def send(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        """The answer's head; its body can be read until :meth:`close`."""
        self._cancel = call_after(self._timeout_s, self._expire)
        self._connection.connect()
        self._note_connected(self._connection.sock)
        # A server may refuse a body before it has read it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(method, path, body, headers)
        self._answer = self._connection.getresponse()
        return self._answer

    def close(self) -> None:
        self._cancel()
        if self._answer is not None:
            self._answer.close()
        self._connection.close()

    def hang_up(self) -> None:
        """Whoever waits for the answer finds that it was lost. May be called from any thread."""
        with self._mutex:
            connected, self._hung_up = self._socket, True
        if connected is not None:
            self._shut_down(connected)

    def _note_connected(self, connected: socket.socket) -> None:
        connected.settimeout(None)
        with self._mutex:
            self._socket = connected
            unwanted = self.expired or self._hung_up
        if unwanted:
            self._shut_down(connected)

    def _expire(self) -> None:
        with self._mutex:
            self.expired = True
            connected = self._socket
        if connected is not None:
            self._shut_down(connected)

    @staticmethod
    def _shut_down(connected: socket.socket) -> None:
        """Wakes whoever reads or writes it in another thread. The answer may have ended meanwhile."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not SSLSocket's, which forgets its TLS state


class _FinalAnswer(http.client.HTTPResponse):
    """Skips interim answers (102, 103), which a proxy may send first; http.client itself skips only 100."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM_ANSWERS):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.HTTPStatus.CONTINUE or not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many interim answers")
