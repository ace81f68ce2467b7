"""A connection as a worker sees it; how it looks to callers is in ``tests/hostile``."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from gunicorn.config import Config

from api.connection import Connection, Next
from tests.running import DEADLINE_S, wait_until


@pytest.fixture
def theirs() -> Iterator[socket.socket]:
    with socket.socket() as opened:
        opened.settimeout(DEADLINE_S)
        yield opened


@pytest.fixture
def ours(theirs: socket.socket) -> Iterator[Connection]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs.connect(listener.getsockname())
        accepted, address = listener.accept()
    connection = Connection(accepted, address, listener, Config(), send_s=30)
    connection.open(None)
    yield connection
    connection.close()


def test_what_it_waits_for(ours: Connection, theirs: socket.socket) -> None:
    assert (ours.next_request(), ours.head_since) == (Next.HEAD, None)
    theirs.sendall(b"GET / HTTP/1.1\r\n")
    wait_until(lambda: ours.next_request() is Next.HEAD and ours.head_since is not None, "half a head has come")
    theirs.sendall(b"Host: a\r\n\r\n")
    wait_until(lambda: not isinstance(ours.next_request(), Next), "a request has come")
    assert (ours.head_since, ours.has_more, ours.body_is_read()) == (None, False, True)
    theirs.close()
    wait_until(lambda: ours.next_request() is Next.END, "it has ended")


@pytest.mark.parametrize(
    ("length", "sent", "read"), [(5, b"12345", True), (5, b"1234", False), (70_000, b"", False), (5, b"12345GET", True)]
)
def test_a_body_that_nobody_reads(
    ours: Connection, theirs: socket.socket, length: int, sent: bytes, read: bool
) -> None:
    theirs.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length + sent)
    wait_until(lambda: not isinstance(ours.next_request(), Next), "a request has come")
    assert ours.body_is_read() == read
    if read:
        assert ours.has_more == (sent != b"12345"), "what follows is the next request's"


def test_one_that_was_given_up_can_still_be_sent_to(ours: Connection, theirs: socket.socket) -> None:
    """As the sender of a body does that did not come in time, before it reads that it was refused."""
    assert not ours.stopped_reading()
    ours.sock.shutdown(socket.SHUT_RD)
    assert ours.stopped_reading()
    ours.sock.sendall(b"refused")
    for _ in range(3):
        theirs.sendall(b"x")
    assert theirs.recv(100) == b"refused"


def test_one_whose_caller_has_gone_was_not_given_up(ours: Connection, theirs: socket.socket) -> None:
    theirs.close()
    wait_until(lambda: ours.next_request() is Next.END, "it has ended")
    assert not ours.stopped_reading()


def test_what_still_comes_is_discarded_until_its_sender_ends(ours: Connection, theirs: socket.socket) -> None:
    assert ours.half_close()
    assert theirs.recv(1) == b""
    theirs.sendall(b"x" * 200_000)
    assert ours.discard(), "more may come"
    theirs.close()
    wait_until(lambda: not ours.discard(), "nothing more comes")
