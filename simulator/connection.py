"""One client's connection: requests in, answers out, and every way to spoil that."""

import select
import socket
import struct
import time
from dataclasses import replace
from functools import partial

from simulator.broken import broken_answer, changed_answer
from simulator.errors import ClosingError
from simulator.faults import ANSWER_KINDS, CHANGE_KINDS, DEFAULT_SLOW_S, Strike
from simulator.journal import ReceivedRequest
from simulator.site import CONTROL, Site
from simulator.wire import BadRequestError, Head, Request, Response, answer_head, read_body, read_head

DRIP_BYTES = 2
DRIP_PAUSE_S = 0.5
NO_CONTENT = 204
#: As a proxy in front may send: RFC 8297's early hints, and WebDAV's sign of life, again and again.
INTERIM = (
    b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n" + 2 * b"HTTP/1.1 102 Processing\r\n\r\n"
)
INVALID_REQUEST = b"Invalid HTTP request received."


class _LostError(Exception):
    """The connection is of no use any longer, by accident or on purpose."""


class Connection:
    """Serves one socket until either side has had enough."""

    def __init__(self, sock: socket.socket, number: int, site: Site) -> None:
        self._sock = sock
        self._number = number
        self._site = site
        self._reader = sock.makefile("rb")

    def serve(self) -> None:
        """Answer requests one after the other; closes the socket."""
        try:
            while self._next_request():
                pass
        except (_LostError, ClosingError, ConnectionError, TimeoutError):
            pass  # Clients may go at any time, and nobody is left to be told.
        except BadRequestError:
            self._reject()
        finally:
            self._reader.close()
            self._sock.close()

    def _next_request(self) -> bool:
        """Serve one.

        :returns: whether another may follow.
        """
        self._sock.settimeout(self._site.idle_s)
        self._refuse_if_told(self._reader.peek(1))
        self._sock.settimeout(None)
        head = read_head(self._reader)
        if head is None:
            return False
        if head.raw_path.startswith(CONTROL):
            return self._control(head)
        fault = self._site.faults.take(head.method, self._site.route(head))
        if fault and fault.kind == "refuse":
            self._reset()  # Its first line came in pieces, so that it was not known before.
        if fault and fault.kind == "reset-before":
            with self._site.journal.entry(self._received(head, b"")):
                self._reset()
        body = read_body(self._reader, head, self._sock.sendall)
        if body is None:
            return False
        gone = self._client_has_gone
        request = Request(head=head, path=self._site.path(head), body=body, client_has_gone=gone)
        with self._site.journal.entry(self._received(head, body)):
            return self._answer(request, fault)

    def _refuse_if_told(self, begun: bytes) -> None:
        """Reset if a `refuse` is meant for the request whose first bytes these are."""
        words = begun.split(b"\r\n", 1)[0].decode("latin-1").split()
        if len(words) < 2 or words[1].startswith(CONTROL):
            return
        head = Head(method=words[0], target=words[1], version="1.1", headers={})
        if self._site.faults.take(head.method, self._site.route(head), only=frozenset({"refuse"})):
            self._reset()

    def _received(self, head: Head, body: bytes) -> ReceivedRequest:
        return ReceivedRequest(
            method=head.method,
            path=head.raw_path,
            query=head.target.partition("?")[2],
            route=self._site.route(head),
            headers=head.headers,
            body=body,
            connection=self._number,
            started=time.monotonic(),
        )

    def _control(self, head: Head) -> bool:
        body = read_body(self._reader, head, self._sock.sendall)
        if body is None:
            return False
        response = self._site.control(Request(head=head, path=head.path, body=body))
        assert response is not None
        return self._send(head, response)

    def _answer(self, request: Request, fault: Strike | None) -> bool:
        if fault:
            self._before_work(fault)
        response = self._work(request, fault)
        if fault and fault.kind in ("cut", "hang-middle", "drip"):
            self._send_badly(request.head, response, fault)
        return self._send(request.head, response)

    def _before_work(self, fault: Strike) -> None:
        if fault.kind == "reset-after":
            self._reset()
        if fault.kind == "slow":
            self._site.faults.pause(DEFAULT_SLOW_S if fault.seconds is None else fault.seconds)
        if fault.kind == "interim":
            self._sock.sendall(INTERIM)
        if fault.kind == "hang-before" and not self._site.faults.hang(fault, self._client_has_gone):
            raise _LostError

    def _work(self, request: Request, fault: Strike | None) -> Response:
        flavour = self._site.flavour
        if fault and fault.kind in ANSWER_KINDS:
            return flavour.dress(request, broken_answer(fault, flavour, request), 0.001)
        if not fault or fault.kind not in CHANGE_KINDS:
            return flavour.respond(request)
        # To be changed it has to come plain.
        headers = {name: value for name, value in request.headers.items() if name != "accept-encoding"}
        return changed_answer(fault, flavour.respond(replace(request, head=replace(request.head, headers=headers))))

    def _full_head(self, head: Head, response: Response) -> bytes:
        flavour, headers = self._site.flavour, [*response.headers]
        if response.status != NO_CONTENT and response.has_length:
            headers.append((flavour.length_header, str(len(response.body))))
        if not head.keeps_alive and flavour.http_version == "1.1":
            headers.append(("Connection", "close"))
        return answer_head(replace(response, headers=tuple(headers)), flavour.http_version)

    def _send(self, head: Head, response: Response) -> bool:
        self._sock.sendall(self._full_head(head, response))
        if head.method != "HEAD":
            self._sock.sendall(response.body)
        closes = any(name.lower() == "connection" and value == "close" for name, value in response.headers)
        return head.keeps_alive and not closes and self._site.flavour.http_version == "1.1"

    def _send_badly(self, head: Head, response: Response, fault: Strike) -> None:
        half = response.body[: len(response.body) // 2]
        self._sock.sendall(self._full_head(head, response))
        if fault.kind == "drip":
            self._drip(response.body, fault)
        self._sock.sendall(half)
        if fault.kind == "hang-middle":
            self._site.faults.hang(fault, self._client_has_gone)
        raise _LostError

    def _drip(self, body: bytes, fault: Strike) -> None:
        for start in range(0, len(body), DRIP_BYTES):
            self._sock.sendall(body[start : start + DRIP_BYTES])
            pause_ends = time.monotonic() + DRIP_PAUSE_S
            if self._site.faults.hang(fault, partial(self._drop_is_due, pause_ends)) or self._client_has_gone():
                break
        raise _LostError

    def _drop_is_due(self, pause_ends: float) -> bool:
        return time.monotonic() >= pause_ends or self._client_has_gone()

    def _client_has_gone(self) -> bool:
        # poll, not select: that one fails beyond file descriptor 1023.
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        try:
            return bool(poll.poll(0)) and not self._sock.recv(1, socket.MSG_PEEK)
        except OSError:  # reset, which is gone as well
            return True

    def _reset(self) -> None:
        """Close with RST instead of FIN.

        :raises _LostError: always.
        """
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _LostError

    def _reject(self) -> None:
        response = Response(status=400, body=INVALID_REQUEST, headers=self._site.flavour.invalid_head)
        try:
            self._sock.sendall(answer_head(response) + response.body)
        except OSError:
            return
