"""The connection of one exchange: knows whether it came about, and ends when the exchange's time is over.

The timeouts of requests and urllib3 do neither: each begins anew with every piece that arrives, so an answer that drips
has no end; and the time to send a picture to a busy WebUI would be the time to connect.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Self

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from sd_client.deadlines import call_after

#: 102 is sent every few seconds at most while a request is worked on, 103 once.
_MOST_INTERIM_ANSWERS = 1000

#: Jobs and probes at one WebUI at a time; more are possible, and cost an object each.
_POOL_SIZE = 32


class Exchange:
    """
    One request and its answer. Its adapter must send it within the ``with`` block, in the same thread.

    :param timeout_s: seconds from entering the block until the socket is shut down.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._socket: socket.socket | None = None
        self._mutex = threading.Lock()
        self._timeout_s = timeout_s
        self._cancel: Callable[[], None] = lambda: None
        self.expired = False
        self._hung_up = False

    def __enter__(self) -> Self:
        self._cancel = call_after(self._timeout_s, self._expire)
        self._outer = _UNDER_WAY.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _UNDER_WAY.reset(self._outer)
        self._cancel()

    @property
    def connected(self) -> bool:
        """False: nothing of the request was sent. The TLS handshake is part of connecting."""
        return self._socket is not None

    def hang_up(self) -> None:
        """Whoever waits for the answer finds that it was lost. May be called from any thread."""
        with self._mutex:
            connected, self._hung_up = self._socket, True
        if connected is not None:
            _shut_down(connected)

    def note_connected(self, connected: socket.socket) -> None:
        connected.settimeout(None)  # only the deadline counts from now on
        with self._mutex:
            self._socket = connected
            unwanted = self.expired or self._hung_up
        if unwanted:
            _shut_down(connected)

    def _expire(self) -> None:
        with self._mutex:
            self.expired = True
            connected = self._socket
        if connected is not None:
            _shut_down(connected)


_UNDER_WAY: ContextVar[Exchange] = ContextVar("exchange")


def _shut_down(connected: socket.socket) -> None:
    """Wakes whoever reads or writes it in another thread. The answer may have ended meanwhile."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not SSLSocket's, which forgets its TLS state


class ExchangeAdapter(HTTPAdapter):
    """Sends requests to one WebUI, each over a new connection that the :class:`Exchange` under way can end."""

    def __init__(self) -> None:
        super().__init__(pool_connections=1, pool_maxsize=_POOL_SIZE)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TLSPool}
        self._pool: HTTPConnectionPool | None = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> HTTPConnectionPool:
        """All requests go to one WebUI with one set of certificates, so its pool need not be searched for."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """The same without the search for a proxy."""
        return request.path_url

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """What :class:`Transport` reads of it: no cookie is kept, and no text is decoded."""
        response = Response()
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        return response


class _LastAnswer(http.client.HTTPResponse):
    """Skips interim answers (102, 103), which a proxy may send first; http.client itself skips only 100."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM_ANSWERS):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.HTTPStatus.CONTINUE or not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many interim answers")


class _ReportingConnection:
    """What both kinds of connection have in common."""

    sock: Any
    timeout: Any
    response_class: Any = _LastAnswer

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # of urllib3's connection, which comes after this class
        self.timeout = None  # else urllib3 limits sending to the time to connect
        _UNDER_WAY.get().note_connected(self.sock)


class _PlainConnection(_ReportingConnection, HTTPConnection):
    pass


class _TLSConnection(_ReportingConnection, HTTPSConnection):
    pass


class _ClosingPool:
    """Connections are not used again, though a server may offer to keep them."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.close()
        super()._put_conn(conn)  # type: ignore[misc]  # of urllib3's pool, which comes after this class


class _PlainPool(_ClosingPool, HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TLSPool(_ClosingPool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection
