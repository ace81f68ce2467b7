"""Callers who write to the wire what no client library would."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from tests.running import DEADLINE_S, PREFIX

HEALTH = f"{PREFIX}/health"


def head(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def connect(port: int, *, receives_at_once: int | None = None) -> socket.socket:
    """:param receives_at_once: bytes that the system takes for a caller that does not read; None: megabytes."""
    connection = socket.socket()
    if receives_at_once is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives_at_once)
    connection.settimeout(DEADLINE_S)
    connection.connect(("127.0.0.1", port))
    return connection


@contextmanager
def many(port: int, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections over which the same was sent, and nothing is read."""
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(port)) for _ in range(count)]
        for connection in opened:
            connection.sendall(sent)
        yield opened


def rest_of(connection: socket.socket) -> bytes:
    """Until the other side ends; a reset is no end."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def send_all_then_read(port: int, sent: bytes | Iterable[bytes]) -> bytes:
    """As most clients do: the answer is looked at once everything has been sent, be it in pieces."""
    with connect(port) as connection:
        for piece in [sent] if isinstance(sent, bytes) else sent:
            connection.sendall(piece)
        return rest_of(connection)


def is_reset(connection: socket.socket) -> bool:
    try:
        connection.send(b"x")
    except ConnectionError:
        return True
    return False
