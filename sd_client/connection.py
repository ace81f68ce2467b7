"""The connection of one exchange: knows whether it came about, and ends when the exchange's time is over.

The timeouts of requests do neither: each begins anew with every piece that arrives, so an answer that drips has no end;
and the time to send a picture to a busy WebUI would be the time to connect.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Self
from urllib.parse import urlsplit

from requests import PreparedRequest, Response
from requests.adapters import BaseAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPResponse

from sd_client.deadlines import call_after

#: 102 is sent every few seconds at most while a request is worked on, 103 once.
_MOST_INTERIM_ANSWERS = 1000


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
    with suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not SSLSocket's, which forgets its TLS state


class ExchangeAdapter(BaseAdapter):
    """
    Sends requests to one WebUI, over connections that the :class:`Exchange` under way can end.

    What requests' usual adapter adds to http.client (proxies, a pool, repetitions, cookies) is not used here, and costs
    as much CPU as the exchange itself.

    :param keeps: whether the next request goes over the connection of the last one, if the WebUI keeps it. Such an
        adapter is for one thread, and for requests that may be sent twice: the WebUI may close it at any moment.
    """

    def __init__(self, *, keeps: bool = False) -> None:
        super().__init__()
        self._keeps = keeps
        self._kept: _Connection | None = None

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """
        :param timeout: seconds for connecting. The rest of the answer must be read within the ``with`` block.
        :raises OSError: :raises HTTPException: the exchange failed.
        :raises UnicodeError: no host can have this name.
        """
        kept, self._kept = self._kept, None
        if kept is not None:
            with suppress(OSError, http.client.HTTPException):
                _UNDER_WAY.get().note_connected(kept.sock)
                return self._sent(kept, request)
            kept.close()
        connection = _connection(
            str(request.url), connect_s=timeout, ca=DEFAULT_CA_BUNDLE_PATH if verify is True else str(verify)
        )
        try:
            connection.connect()
            return self._sent(connection, request)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def _sent(self, connection: _Connection, request: PreparedRequest) -> Response:
        # A WebUI may answer before it has read the whole request, and close.
        with suppress(BrokenPipeError, ConnectionResetError):
            body: Any = request.body  # bytes, or pieces of them
            connection.request(str(request.method), request.path_url, body, request.headers)
        received = connection.getresponse()
        if len(set(received.headers.get_all("Content-Length", ()))) > 1:
            raise http.client.HTTPException("the answer has two lengths")
        return _Answer(received, lambda: self._release(connection, received))

    def _release(self, connection: _Connection, received: http.client.HTTPResponse) -> None:
        if self._keeps and received.isclosed() and connection.sock is not None:
            self._kept = connection
        else:
            received.close()
            connection.close()


class _Answer(Response):
    """What :class:`Transport` reads of it: no cookie is kept, and no text is decoded."""

    def __init__(self, received: http.client.HTTPResponse, release: Callable[[], None]) -> None:
        super().__init__()
        self.status_code, self.headers, self.raw = received.status, received.headers, received  # type: ignore[assignment]
        if "Content-Encoding" in received.headers:
            self.raw = HTTPResponse(received, dict(received.headers), preload_content=False)
        self._release = release

    def close(self) -> None:
        self._release()


class _Received(http.client.HTTPResponse):
    """Skips interim answers (102, 103), which a proxy may send first; http.client itself skips only 100."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM_ANSWERS):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == http.HTTPStatus.CONTINUE or not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("too many interim answers")

    def read(self, amt: int | None = None) -> bytes:
        """:raises IncompleteRead: the body was cut off; http.client notices that only if all is read at once."""
        piece = super().read(amt)
        if not piece and amt and self.length:
            raise http.client.IncompleteRead(b"", self.length)
        return piece


class _PlainConnection(http.client.HTTPConnection):
    response_class = _Received

    def connect(self) -> None:
        super().connect()
        _UNDER_WAY.get().note_connected(self.sock)


class _TLSConnection(http.client.HTTPSConnection):
    response_class = _Received

    def connect(self) -> None:
        super().connect()
        _UNDER_WAY.get().note_connected(self.sock)


_Connection = _PlainConnection | _TLSConnection


def _connection(url: str, *, connect_s: float, ca: str) -> _Connection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = _tls(ca, os.stat(ca).st_mtime_ns)
        return _TLSConnection(host, parts.port, timeout=connect_s, context=context)
    return _PlainConnection(host, parts.port, timeout=connect_s)


@lru_cache(maxsize=4)
def _tls(ca: str, changed: int) -> ssl.SSLContext:
    """:param ca: the path of a file or folder of certificates. :param changed: it is read again when it has changed."""
    is_folder = os.path.isdir(ca)
    context = ssl.create_default_context(cafile=None if is_folder else ca, capath=ca if is_folder else None)
    context.set_alpn_protocols(["http/1.1"])
    return context
