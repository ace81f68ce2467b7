"""Answers that are bounded, and requests that are cut off from beside."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sd_client.client import JobCall
from sd_client.errors import InvalidAnswerError, JobCancelledError, WebUIReadError
from sd_client.transport import Transport
from tests.sd_client.servers import drip, read_request, socket_server, until_hung_up, wait_for


def test_a_list_beyond_its_bound_is_not_read() -> None:
    with socket_server(_endless) as server, pytest.raises(InvalidAnswerError, match="too large"):
        Transport(server.url).get("/", timeout_s=20, max_bytes=100_000)


def _endless(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    drip(connection, b"[" * 50_000, pause_s=0.0)


def test_whoever_hangs_up_does_not_wait_for_the_answer() -> None:
    gone = threading.Event()

    def silent(connection: socket.socket) -> None:
        read_request(connection)
        until_hung_up(connection)
        gone.set()

    call = JobCall()
    with socket_server(silent) as server:
        transport = Transport(server.url)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(transport.exchange, "POST", "/", b"{}", timeout_s=60, over=call.over)
            wait_for(lambda: server.connections == 1, "the request")
            call.end(hang_up=True)
            assert isinstance(waiting.exception(20), WebUIReadError)
        assert gone.wait(20)
        with pytest.raises(JobCancelledError):
            transport.exchange("POST", "/", b"{}", timeout_s=60, over=call.over)
        assert server.connections == 1
