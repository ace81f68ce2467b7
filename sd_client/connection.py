"""The connection of one exchange: knows whether it came about, and ends when the exchange's time is over.

The timeouts of requests do neither: each begins anew with every piece that arrives, so an answer that drips has no end;
and the time to send a picture to a busy WebUI would be the time to connect.
"""

from __future__ import annotations

import http.client
import os
import re
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
#: As http.client's own.
_MOST_FIELDS = 100
_LONGEST_LINE = 65_536
#: Any other one is none: the answer ends with its connection.
_LENGTH = re.compile(r"[0-9]{1,18}")


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

    What requests' usual adapter and http.client add (proxies, a pool, repetitions, cookies, heads read as emails) is
    not used here, and costs more CPU than the exchange itself.

    :param keeps: whether the next request goes over the connection of the last one, if the WebUI keeps it. Such an
        adapter is for one thread, and for requests that may be sent twice: the WebUI may close it at any moment.
    """

    def __init__(self, *, keeps: bool = False) -> None:
        super().__init__()
        self._keeps = keeps
        self._kept: socket.socket | None = None

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
        scheme, _, host, path = str(request.url).split("/", 3)
        head = _head(request, host, path)
        kept, self._kept = self._kept, None
        if kept is not None:
            with suppress(OSError, http.client.HTTPException):
                _UNDER_WAY.get().note_connected(kept)
                return self._sent(kept, head, request.body)
            kept.close()
        ca = DEFAULT_CA_BUNDLE_PATH if verify is True else str(verify)
        connection = _connected(*_place(scheme, host), connect_s=timeout, ca=ca)
        try:
            _UNDER_WAY.get().note_connected(connection)
            return self._sent(connection, head, request.body)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def _sent(self, connection: socket.socket, head: bytes, body: Any) -> Response:
        """:param body: bytes, or pieces of them; None if there is none."""
        # A WebUI may answer before it has read the whole request, and close.
        with suppress(BrokenPipeError, ConnectionResetError):
            if body is None or isinstance(body, bytes):
                connection.sendall(head + (body or b""))
            else:
                connection.sendall(head)
                for piece in body:
                    connection.sendall(piece)
        received = _Received(connection)
        try:
            received.begin()
        except BaseException:
            received.close()
            raise
        return _Answer(received, lambda: self._release(connection, received))

    def _release(self, connection: socket.socket, received: _Received) -> None:
        if self._keeps and received.isclosed() and not received.will_close:
            self._kept = connection
        else:
            received.close()
            connection.close()


class _Answer(Response):
    """What :class:`Transport` reads of it: no cookie is kept, and no text is decoded."""

    def __init__(self, received: _Received, release: Callable[[], None]) -> None:
        # Not requests' own, which makes a jar for cookies.
        self.status_code, self.raw = received.status, received
        if "content-encoding" in received.fields:
            self.raw = HTTPResponse(received, received.fields, preload_content=False)
        self._release = release

    def close(self) -> None:
        self._release()


class _Received(http.client.HTTPResponse):
    """
    An answer whose head is read for a few fields; http.client reads it as it would an email, which takes as long as the
    rest of the exchange. Interim answers (102, 103), which a proxy may send first, are skipped.

    :ivar fields: by lower-case name; of those that occur twice, the last.
    """

    def begin(self) -> None:
        """:raises HTTPException: it is no answer, or has two lengths. :raises OSError:"""
        for _ in range(_MOST_INTERIM_ANSWERS):
            version, self.status, _ = self._read_status()  # type: ignore[attr-defined]
            self._read_fields()
            if not 100 <= self.status < 200:
                break
        else:
            raise http.client.HTTPException("too many interim answers")
        self.chunked = self.fields.get("transfer-encoding", "").lower() == "chunked"
        self.chunk_left = None
        length = self.fields.get("content-length", "")
        self.length = int(length) if _LENGTH.fullmatch(length) and not self.chunked else None
        if self.status in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED):
            self.length = 0
        ends = self.chunked or self.length is not None
        self.will_close = not ends or version != "HTTP/1.1" or "close" in self.fields.get("connection", "").lower()

    def _read_fields(self) -> None:
        self.fields: dict[str, str] = {}
        for _ in range(_MOST_FIELDS):
            line = self.fp.readline(_LONGEST_LINE + 1)
            if len(line) > _LONGEST_LINE:
                raise http.client.LineTooLong("header line")
            if line in (b"\r\n", b"\n", b""):
                return
            name, _, value = line.decode("iso-8859-1").partition(":")
            name, value = name.lower(), value.strip()
            if name == "content-length" and self.fields.get(name, value) != value:
                raise http.client.HTTPException("the answer has two lengths")
            self.fields[name] = value
        raise http.client.HTTPException("too many headers")

    def read(self, amt: int | None = None) -> bytes:
        """:raises IncompleteRead: the body was cut off; http.client notices that only if all is read at once."""
        piece = super().read(amt)
        if not piece and amt and self.length:
            raise http.client.IncompleteRead(b"", self.length)
        return piece


def _head(request: PreparedRequest, host: str, path: str) -> bytes:
    fields = "".join(f"{name}: {value!s}\r\n" for name, value in request.headers.items())
    return f"{request.method!s} /{path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode("ascii")


@lru_cache(maxsize=1024)
def _place(scheme: str, host: str) -> tuple[str, int, bool]:
    """
    :param host: with its port, if it has one.
    :returns: the host's name, its port, and whether it speaks TLS.
    """
    parts = urlsplit(f"{scheme}//{host}")
    tls = parts.scheme == "https"
    return parts.hostname or "", parts.port or (443 if tls else 80), tls


def _connected(host: str, port: int, tls: bool, *, connect_s: float, ca: str) -> socket.socket:
    connected = socket.create_connection((host, port), connect_s)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _tls(ca, os.stat(ca).st_mtime_ns).wrap_socket(connected, server_hostname=host) if tls else connected
    except BaseException:
        connected.close()
        raise


@lru_cache(maxsize=4)
def _tls(ca: str, changed: int) -> ssl.SSLContext:
    """:param ca: the path of a file or folder of certificates. :param changed: it is read again when it has changed."""
    is_folder = os.path.isdir(ca)
    context = ssl.create_default_context(cafile=None if is_folder else ca, capath=ca if is_folder else None)
    context.set_alpn_protocols(["http/1.1"])
    return context
