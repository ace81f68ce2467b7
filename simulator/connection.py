"""One client's connection: requests in, answers out, and every way to spoil that."""

import select
import socket
import struct
import time
from dataclasses import replace
from functools import partial

from simulator.broken import INTERIM, broken_answer, changed_answer, without
from simulator.errors import ClosingError
from simulator.faults import ANSWER_KINDS, CHANGE_KINDS, DEFAULT_SLOW_S, DROP_KINDS, Strike
from simulator.journal import ReceivedRequest
from simulator.site import Site
from simulator.wire import BadRequestError, Head, Request, Response, answer_head, read_body, read_head

IDLE_S = 5.0  # As uvicorn in web-UI mode and stable-diffusion.cpp's server have it.
DRIP_BYTES = 2
DRIP_PAUSE_S = 0.5
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
        except (_LostError, ClosingError, OSError):
            pass  # Clients may go at any time, and nobody is left to answer.
        except BadRequestError:
            self._reject()
        finally:
            self._reader.close()
            self._sock.close()

    def _next_request(self) -> bool:
        """Serve one.

        :returns: whether another may follow.
        """
        self._sock.settimeout(IDLE_S)
        self._reader.peek(1)
        self._sock.settimeout(None)
        head = read_head(self._reader)
        if head is None:
            return False
        fault = None if self._site.is_control(head) else self._site.faults.take(head.method, self._site.route(head))
        self._before_body(head, fault)
        body = read_body(self._reader, head)
        if body is None:
            return False
        request = Request(head=head, path=self._site.path(head), body=body, client_has_gone=self._client_has_gone)
        if self._site.is_control(head):
            return self._send(head, self._site.control(request))
        # Once a client has the answer it may send the next job before this thread runs again.
        with self._site.journal.entry(self._received(head, body)):
            response = self._response(request, fault)
        return self._send(head, response)

    def _before_body(self, head: Head, fault: Strike | None) -> None:
        if fault and fault.kind == "refuse":
            self._reset()
        if fault and fault.kind == "reset-before":
            with self._site.journal.entry(self._received(head, b"")):
                self._reset()

    def _received(self, head: Head, body: bytes) -> ReceivedRequest:
        return ReceivedRequest(
            method=head.method,
            path=head.raw_path,
            query=head.query,
            route=self._site.route(head),
            headers=head.headers,
            body=body,
            connection=self._number,
            started=time.monotonic(),
        )

    def _response(self, request: Request, fault: Strike | None) -> Response:
        if fault:
            self._before_work(fault)
        response = self._work(request, fault)
        if fault and fault.kind in ("cut", "hang-middle", "drip"):
            self._send_badly(request.head, response, fault)
        return response

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
            return flavour.dress(request, broken_answer(fault.kind, flavour, request), 0.001)
        if fault and fault.kind in DROP_KINDS:
            return flavour.respond(without(fault.kind, fault.seconds, request))
        if not fault or fault.kind not in CHANGE_KINDS:
            return flavour.respond(request)
        # To be changed it has to come uncompressed.
        headers = {name: value for name, value in request.headers.items() if name != "accept-encoding"}
        plain = replace(request, head=replace(request.head, headers=headers))
        return changed_answer(fault.kind, flavour.respond(plain))

    def _full_head(self, head: Head, response: Response) -> bytes:
        version, headers = self._site.flavour.http_version, list(response.headers)
        if response.status != 204 and response.has_length:
            headers.append(("content-length", str(len(response.body))))
        if not head.keeps_alive and version == "1.1":
            headers.append(("Connection", "close"))
        return answer_head(response.status, tuple(headers), version)

    def _send(self, head: Head, response: Response) -> bool:
        self._sock.sendall(self._full_head(head, response))
        if head.method != "HEAD":
            self._sock.sendall(response.body)
        closes = ("Connection", "close") in response.headers or self._site.flavour.http_version == "1.0"
        return head.keeps_alive and not closes

    def _send_badly(self, head: Head, response: Response, fault: Strike) -> None:
        self._sock.sendall(self._full_head(head, response))
        if fault.kind == "drip":
            self._drip(response.body, fault)
        self._sock.sendall(response.body[: len(response.body) // 2])
        if fault.kind == "hang-middle":
            self._site.faults.hang(fault, self._client_has_gone)
        raise _LostError

    def _drip(self, body: bytes, fault: Strike) -> None:
        for start in range(0, len(body), DRIP_BYTES):
            self._sock.sendall(body[start : start + DRIP_BYTES])
            pause_ends = time.monotonic() + DRIP_PAUSE_S
            if self._site.faults.hang(fault, partial(self._next_drop_is_due, pause_ends)) or self._client_has_gone():
                break
        raise _LostError

    def _next_drop_is_due(self, pause_ends: float) -> bool:
        return time.monotonic() >= pause_ends or self._client_has_gone()

    def _client_has_gone(self) -> bool:
        # poll, not select: that one fails beyond file descriptor 1023.
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        try:
            return bool(poll.poll(0)) and not self._sock.recv(1, socket.MSG_PEEK)
        except OSError:  # Reset, which is gone as well.
            return True

    def _reset(self) -> None:
        """Close with RST instead of FIN.

        :raises _LostError: always.
        """
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _LostError

    def _reject(self) -> None:
        headers = (("content-type", "text/plain; charset=utf-8"), ("Connection", "close"))
        try:
            self._sock.sendall(answer_head(400, headers) + INVALID_REQUEST)
        except OSError:
            return
