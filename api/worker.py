"""gunicorn's threaded worker where it meets what comes over a connection, before any of the service does.

Three things are other than gunicorn has them. A thread is taken only once a request's head is whole: gunicorn lets a
thread wait for it, so that as many callers as there are threads, who send a line and then nothing, would hold the
service. A caller's next request, where it comes at once, is answered by the same thread: to give its connection to the
main thread and have it back costs as much as a health check. And what is no HTTP is answered and logged as everything
else is: gunicorn answers HTML that quotes the caller, and logs the caller's address and its request line, in which a
prompt or a key may stand.
"""

from __future__ import annotations

import contextlib
import json
import logging
import select
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.workers.gthread import _DEFER, ThreadWorker

from api.body import PIECE_BYTES
from api.security_headers import SECURITY_HEADERS

log = logging.getLogger(__name__)

#: gunicorn allows a hundred fields of 8 kB; all of ours together have less than 4 kB.
MOST_HEAD_BYTES = 64 * 1024

#: What a stopping worker waits for a head, as gunicorn's own STOP_KEEPALIVE_LINGER.
_STOPPING_S = 2.0

_PIECE_BYTES = 8192

#: What a thread waits for a caller's next request, and how many threads may at a time: each may be wanted by others,
#: and these are half of ``config.SPARE_THREADS``.
_LINGER_MS = 2
_MOST_LINGERING = 8

_REFUSALS: Mapping[type[Exception], tuple[int, str, str]] = {
    errors.LimitRequestLine: (414, "URI Too Long", "the path is too long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large", "the headers are too large"),
    errors.ExpectationFailed: (417, "Expectation Failed", "the only expectation that is met is 100-continue"),
    errors.UnsupportedTransferCoding: (501, "Not Implemented", "the only transfer coding that is read is chunked"),
}
_NO_HTTP = (400, "Bad Request", "the request is no valid HTTP")
_OURS = (500, "Internal Server Error", "an internal error; it is in the log")


class QuietLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """
    To be named as gunicorn's ``logger_class``: each request has its line from the service itself. gunicorn would put
    together its own for each, for a logger that writes none.
    """

    access_log_enabled = False


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """
    To be named as gunicorn's ``worker_class``.

    :cvar head_s: seconds in which a request's head must come, from its first byte on.
    """

    head_s = 20.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lingering = threading.BoundedSemaphore(_MOST_LINGERING)

    def handle(self, conn: Any) -> Any:
        """Called in a thread for every connection on which something came."""
        while (outcome := self._handle_one(conn)) is True and self._more_comes(conn):
            pass
        return outcome

    def _more_comes(self, conn: Any) -> bool:
        """Not where it is here already, sent before it was its turn: gunicorn lets others go first."""
        if not self.alive or self.cfg.is_ssl or conn.parser.unreader.buf.getvalue():
            return False
        if not self._lingering.acquire(blocking=False):
            return False
        try:
            waiting = select.poll()
            waiting.register(conn.sock, select.POLLIN)
            return bool(waiting.poll(_LINGER_MS))
        finally:
            self._lingering.release()

    def _handle_one(self, conn: Any) -> Any:
        if self.cfg.is_ssl:  # whose bytes can only be read by who decodes them
            return super().handle(conn)
        conn.init()
        try:
            if not conn.is_http2:
                conn.parser.unreader.max_body_chunk = PIECE_BYTES
            if conn.is_http2 or self._head_is_there(conn):
                conn.head_since = None  # the next request's is another
                conn.data_ready = True
                return super().handle(conn)
        except errors.LimitRequestHeaders as error:
            self.handle_error(None, conn.sock, conn.client, error)
            return False
        except OSError:  # reset
            return False
        return _DEFER if self.alive and self._is_in_time(conn) else False

    def _head_is_there(self, conn: Any) -> bool:
        """
        Takes what has come so far; True also at the end of a connection, of which gunicorn makes what it is.

        :raises LimitRequestHeaders: more than any head may have.
        """
        unreader = conn.parser.unreader
        flags = int(socket.MSG_DONTWAIT)
        if not self.alive:
            conn.sock.settimeout(_STOPPING_S)
            flags = 0
        while b"\r\n\r\n" not in (head := unreader.take_buffered()):
            unreader.unread(head)
            if len(head) > MOST_HEAD_BYTES:
                raise errors.LimitRequestHeaders("the head is too large")
            try:
                piece = conn.sock.recv(_PIECE_BYTES, flags)
            except (BlockingIOError, TimeoutError):
                return False
            if not piece:
                return True
            unreader.unread(unreader.take_buffered() + piece)
        unreader.unread(head)
        return True

    def _is_in_time(self, conn: Any) -> bool:
        """A connection on which nothing has come may be one that a browser keeps for later: gunicorn ends it."""
        if not conn.parser.unreader.buf.getvalue():
            return True
        now = time.monotonic()
        conn.head_since = getattr(conn, "head_since", None) or now
        return bool(now - conn.head_since <= self.head_s)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        if keepalive and getattr(conn.parser.mesg.body.reader, "length", None) == 0:
            return True  # all of the body has been read, where there was one
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        except errors.ParseException:
            # The rest of the body is broken. The request has its answer: a second one would be taken for the next's.
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answers what is no request that the service could be called with."""
        if isinstance(exc, errors.ParseException):
            refusal = next((told for kind, told in _REFUSALS.items() if isinstance(exc, kind)), _NO_HTTP)
        else:
            refusal = _OURS
        status, reason, detail = refusal
        request_id = uuid4().hex
        level, trace = (logging.ERROR, exc) if status == 500 else (logging.WARNING, None)
        fields = {"status": status, "error": type(exc).__name__, "request_id": request_id}
        log.log(level, "not a request", extra=fields, exc_info=trace)
        with contextlib.suppress(OSError):
            client.settimeout(1.0)
            client.sendall(_answer(status, reason, detail, request_id, self.wsgi.config["ERRORS_PAGE"]))


def _answer(status: int, reason: str, detail: str, request_id: str, errors_page: str) -> bytes:
    code = "internal_error" if status == 500 else "malformed_request"
    body = {
        "type": f"{errors_page}#{code}",
        "title": reason,
        "status": status,
        "code": code,
        "detail": detail,
        "retryable": False,
        "request_id": request_id,
    }
    data = json.dumps(body).encode()
    head = [
        f"HTTP/1.1 {status} {reason}",
        "Connection: close",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(data)}",
        f"X-Request-ID: {request_id}",
        *(f"{name}: {value}" for name, value in SECURITY_HEADERS.items()),
    ]
    return "\r\n".join([*head, "", ""]).encode() + data
