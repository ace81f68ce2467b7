"""The connection of one exchange: knows whether it came about, and ends when the exchange's time is over.

The timeouts of requests and urllib3 do neither: each begins anew with every piece that arrives, so an answer that
drips has no end; and the time to send a body is that to connect, too short for a picture and a busy WebUI.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import threading
from collections.abc import Callable
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from sd_client.deadlines import call_after

#: 102 is sent every few seconds at most while a request is worked on, 103 once.
_MOST_INTERIM_ANSWERS = 1000


class OneExchange(HTTPAdapter):
    """
    To send one request with, and to be closed after its answer.

    :param timeout_s: seconds from :meth:`send` until the socket is shut down.
    """

    def __init__(self, *, timeout_s: float) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1)
        self._socket: socket.socket | None = None
        self._mutex = threading.Lock()
        self._timeout_s = timeout_s
        self._cancel: Callable[[], None] = lambda: None
        self.expired = False
        self._hung_up = False

    @property
    def connected(self) -> bool:
        """False: nothing of the request was sent. TLS' handshake is part of connecting."""
        return self._socket is not None

    def send(self, *args: Any, **kwargs: Any) -> Any:
        self._cancel = call_after(self._timeout_s, self._expire)
        return super().send(*args, **kwargs)

    def close(self) -> None:
        self._cancel()
        super().close()

    def hang_up(self) -> None:
        """Whoever waits for the answer learns that it was lost. May be called from any thread."""
        with self._mutex:
            connected, self._hung_up = self._socket, True
        if connected is not None:
            self._shut_down(connected)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        kind = _Secure if isinstance(pool, HTTPSConnectionPool) else _Plain
        pool.ConnectionCls = functools.partial(kind, on_connect=self._on_connect)  # type: ignore[assignment]
        return pool

    def _on_connect(self, connected: socket.socket) -> None:
        # No limit of its own for sending: the timer ends it.
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
        """Whoever reads or writes it in another thread is woken by that. The answer may have ended meanwhile."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not SSLSocket's, which forgets its TLS state


class _FinalAnswer(http.client.HTTPResponse):
    """Reads over interim answers (102, 103), which a proxy may send first; http.client itself knows only 100."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM_ANSWERS):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.HTTPStatus.CONTINUE or not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many interim answers")


class _Telling:
    """What both kinds of connection have in common."""

    sock: Any
    timeout: Any
    response_class: Any = _FinalAnswer

    def __init__(self, *args: Any, on_connect: Callable[[socket.socket], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_connect = on_connect

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # of urllib3's connection, which comes after this class
        self.timeout = None  # else urllib3 sends with the time to connect; it sets the one to read by itself
        self._on_connect(self.sock)


class _Plain(_Telling, HTTPConnection):
    pass


class _Secure(_Telling, HTTPSConnection):
    pass
