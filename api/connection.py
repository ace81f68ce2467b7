"""One caller's connection: until a request is complete, whether a response has room, and how it ends.

Nothing in here blocks: the worker's poller waits for what is still missing, with a deadline and without a thread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Any

from gunicorn.http import RequestParser, errors
from gunicorn.http.wsgi import Response

from api.body import PIECE_BYTES

#: gunicorn allows a hundred fields of 8 kB; those that this service reads take less than 4 kB together.
MOST_HEAD_BYTES = 64 * 1024

#: Bytes discarded after a response that was given before the body had been read: eight times the largest body taken by
#: default, since most senders read the response only once they have sent everything. A whole body has as long as one
#: that is read (``transfers.WHOLE_BODY_S``); a sender that pauses has seen its response.
MOST_DISCARDED_BYTES = 256 * 1024 * 1024
DISCARD_S = 60.0
PAUSE_S = 5.0

#: Of a body that no route has read, up to so many bytes are taken if they have arrived, so that the connection can be
#: used again.
_SMALL_BODY_BYTES = 64 * 1024

_PIECE_BYTES = 8192

#: The state of a connection that neither side has ended, with which Linux' ``tcp_info`` begins.
_ESTABLISHED = 1

_discarded = bytearray(64 * 1024)


class Next(Enum):
    """What a connection waits for: the next request, the rest of a head, room for a response, or its end."""

    REQUEST = auto()
    HEAD = auto()
    ROOM = auto()
    END = auto()


class Connection:
    """
    The socket blocks, so that a request's thread simply reads its body and writes its response.

    :param send_s: how long a thread waits for the caller to take the next piece of a response.
    :ivar until: the deadline of what it waits for, on the monotonic clock.
    :ivar head_since: when the first byte of a head that is still incomplete arrived.
    """

    def __init__(self, sock: socket.socket, client: Any, server: Any, cfg: Any, *, send_s: float) -> None:
        self.sock = sock
        self.client = client
        self.server = server
        self.until = 0.0
        self.head_since: float | None = None
        self._cfg = cfg
        self._parser: Any = None
        self._handshaken = False
        self._answered = False
        self._left = MOST_DISCARDED_BYTES
        self._discards_until = 0.0
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(send_s), int(send_s % 1 * 1e6)))

    def open(self, tls: ssl.SSLContext | None) -> None:
        """To be called in a thread, once."""
        if tls is not None:
            self.sock = tls.wrap_socket(
                self.sock,
                server_side=True,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=self._cfg.suppress_ragged_eofs,
            )
            self.head_since = time.monotonic()  # the handshake counts, too
        self._parser = RequestParser(self._cfg, self.sock, self.client)
        self._parser.unreader.max_body_chunk = PIECE_BYTES

    @property
    def is_open(self) -> bool:
        return self._parser is not None

    @property
    def _tls(self) -> ssl.SSLSocket | None:
        return self.sock if isinstance(self.sock, ssl.SSLSocket) else None

    @property
    def has_more(self) -> bool:
        """Whether some of the next request has been read from the socket already."""
        if self._parser.unreader.buf.getbuffer().nbytes:
            return True
        return self._tls is not None and self._tls.pending() > 0

    @property
    def has_room(self) -> bool:
        """Whether the caller has taken enough of earlier responses that the next one fits."""
        if not self._answered:
            return True
        room = select.poll()
        room.register(self.sock, select.POLLOUT)
        return bool(room.poll(0))

    def next_request(self) -> Any:
        """
        The request, its body unread; HEAD if its head is incomplete, END if none will come.

        :raises ParseException: it is not valid.
        :raises OSError: the connection is broken.
        """
        if not self._head_is_there():
            return Next.HEAD
        self.head_since = None  # the next head has a new deadline
        self._answered = True
        try:
            request = next(self._parser)
        except (errors.NoMoreData, StopIteration):
            return Next.END
        if request is None:
            return Next.END
        _refuse_codings(request.headers)
        return request

    def _head_is_there(self) -> bool:
        """
        Takes what has arrived. True also at the end of the connection, which the parser deals with.

        :raises LimitRequestHeaders: the head is larger than any may be.
        """
        unreader = self._parser.unreader
        while b"\r\n\r\n" not in (head := unreader.take_buffered()):
            unreader.unread(head)
            if len(head) > MOST_HEAD_BYTES:
                raise errors.LimitRequestHeaders("the head is too large")
            piece = self._received()
            if not piece:
                return piece is not None
            self.head_since = self.head_since or time.monotonic()
            unreader.unread(unreader.take_buffered() + piece)
        unreader.unread(head)
        return True

    def _received(self) -> bytes | None:
        """What has arrived: nothing at the end of the connection, None if more may come."""
        try:
            if self._tls is None:
                return self.sock.recv(_PIECE_BYTES, socket.MSG_DONTWAIT)
            with self._unblocked():
                if not self._handshaken:
                    self._tls.do_handshake()
                    self._handshaken = True
                    self.head_since = None
                return self._tls.recv(_PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    @contextlib.contextmanager
    def _unblocked(self) -> Iterator[None]:
        self.sock.setblocking(False)
        try:
            yield
        finally:
            self.sock.setblocking(True)

    def body_is_read(self) -> bool:
        """Whether nothing is left of the request's body, which would be read as the next request."""
        body = self._parser.mesg.body
        if _is_at_end(body.reader):
            return True
        if getattr(body.reader, "length", 0) > _SMALL_BODY_BYTES:
            return False
        try:
            with self._unblocked():
                self._parser.finish_body(max_bytes=_SMALL_BODY_BYTES)
        except (OSError, errors.ParseException):
            return False
        return _is_at_end(body.reader)

    def half_close(self) -> bool:
        """
        Ends sending.

        :returns: whether to discard what the caller still sends. If the connection were closed before that has arrived,
            the system would reset it, and the response would be lost.
        """
        self._discards_until = time.monotonic() + DISCARD_S
        try:
            if self._tls is not None:
                self.sock.setblocking(False)
                with contextlib.suppress(OSError, ValueError):  # also because the caller's own goodbye has not come yet
                    self._tls.unwrap()
            # Not SSLSocket's, which forgets its TLS state.
            socket.socket.shutdown(self.sock, socket.SHUT_WR)
        except OSError:  # the caller is gone
            return False
        return True

    def stopped_reading(self) -> bool:
        """
        Whether this side has stopped reading a body that did not arrive in time. If sending were ended as well, the
        system would reset the connection at the next byte.
        """
        try:
            at_end = socket.socket.recv(self.sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
            return at_end and self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
        except (OSError, AttributeError):  # nothing there; no TCP; no Linux
            return False

    def discard(self) -> bool:
        """Takes what has arrived, and moves the deadline. Returns whether more may come."""
        try:
            count = socket.socket.recv_into(self.sock, _discarded, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._left -= count
        self.until = min(self._discards_until, time.monotonic() + PAUSE_S)
        return count > 0 and self._left > 0

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


def _refuse_codings(headers: Sequence[tuple[str, str]]) -> None:
    """
    gunicorn passes a compressed transfer coding (``gzip, chunked``) on as if it were the body.

    :raises UnsupportedTransferCoding:
    """
    for name, value in headers:
        if name == "TRANSFER-ENCODING" and value.strip(" \t").lower() != "chunked":
            raise errors.UnsupportedTransferCoding(value)


def _is_at_end(reader: Any) -> bool:
    """For a body with a Content-Length as well as for one in chunks."""
    return getattr(reader, "length", None) == 0 or getattr(reader, "parser", reader) is None


class ConnectionResponse(Response):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's response, with ``Connection: close`` if the body was not read."""

    def __init__(self, req: Any, sock: socket.socket, cfg: Any, connection: Connection) -> None:
        super().__init__(req, sock, cfg)
        self._connection = connection

    def should_close(self) -> bool:
        if not self.must_close and (super().should_close() or not self._connection.body_is_read()):
            self.force_close()
        return bool(self.must_close)
