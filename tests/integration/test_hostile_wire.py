"""What only a bare connection can send: requests that are none, two in the clothes of one, heads that never end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from api.connection import MOST_HEAD_BYTES
from api.hooks import SECURITY_HEADERS
from simulator import Simulator
from tests.api.answers import problem_of
from tests.integration.test_connections import RawAnswer
from tests.running import DEADLINE_S, PREFIX, Service, running_service, wait_until

#: In every request of this module: it may come back nowhere.
SECRET = "Quillfeather"
BODY = json.dumps({"prompt": SECRET, "width": 64, "height": 64, "steps": 1}).encode()
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

POST = f"POST {PREFIX}/txt2img HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
GET = f"GET {PREFIX}/health HTTP/1.1\r\nHost: x\r\n".encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


#: name -> (what is sent, the status that must come)
NO_REQUESTS: dict[str, tuple[bytes, int]] = {
    # Two lengths: which is meant is a matter of taste, and two servers in a row may differ in theirs.
    "a length and chunks": (POST + LENGTH + CHUNKED + b"\r\n" + CHUNKS, 400),
    "chunks and a length": (POST + CHUNKED + b"Content-Length: 4\r\n\r\n" + CHUNKS, 400),
    "the same length twice": (POST + LENGTH + LENGTH + b"\r\n" + BODY, 400),
    "two lengths in one": (POST + b"Content-Length: 5, 5\r\n\r\n12345", 400),
    "a length with a sign": (POST + b"Content-Length: +2\r\n\r\n{}", 400),
    "a length in other digits": (POST + b"Content-Length: \xb2\r\n\r\n{}", 400),
    "chunks twice": (POST + CHUNKED * 2 + b"\r\n" + CHUNKS, 400),
    "chunks under another name": (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS, 501),
    "compressed chunks": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, 501),
    "compressed chunks in two headers": (POST + b"Transfer-Encoding: gzip\r\n" + CHUNKED + b"\r\n" + CHUNKS, 501),
    "uncompressed chunks": (POST + b"Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNKS, 501),
    "no coding": (POST + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "a blank before the colon": (POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS, 400),
    "a folded header": (POST + b"X-A: b\r\n " + SECRET.encode() + b"\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "a header without a name": (GET + b": b\r\n\r\n", 400),
    "a header without a colon": (GET + b"X-A\r\n\r\n", 400),
    "NUL in a header": (GET + b"X-A: b\0c\r\n\r\n", 400),
    "a lone CR in a request id": (GET + b"X-Request-ID: a\rSet-Cookie: b=c\r\n\r\n", 400),
    "two hosts": (GET + b"Host: y\r\n\r\n", 400),
    # Chunks that are none.
    "a chunk of negative size": (POST + CHUNKED + b"\r\n-1\r\n" + BODY, 400),
    "a chunk size with a prefix": (POST + CHUNKED + b"\r\n0x10\r\n" + BODY, 400),
    "a chunk without an end": (POST + CHUNKED + b"\r\n2\r\n{}" + SECRET.encode() + b"\r\n0\r\n\r\n", 400),
    "a chunk with a huge extension": (POST + CHUNKED + b"\r\n2;a=" + b"x" * 30_000 + b"\r\n{}\r\n0\r\n\r\n", 400),
    # Heads that are too large, and what is no HTTP at all.
    "a path of 5000 bytes": (get(f"{PREFIX}/image/{'a' * 5000}"), 414),
    "a header of 10 kB": (GET + b"X-A: " + b"a" * 10_000 + b"\r\n\r\n", 431),
    "200 headers": (GET + b"".join(b"X-%d: a\r\n" % number for number in range(200)) + b"\r\n", 431),
    "a head without an end": (GET + b"X-A: " + b"a" * (MOST_HEAD_BYTES + 8192), 431),
    "an expectation": (POST + LENGTH + f"Expect: {SECRET}\r\n\r\n".encode() + BODY, 417),
    "HTML for a method": (f"<script>{SECRET} {PREFIX}/health HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
    "another version": (GET.replace(b"1.1", b"9.9") + b"\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "raw bytes in a path": (get(f"{PREFIX}/image/{SECRET}").replace(b"Quill", b"\xff\xfe"), 400),
    "a key in a broken path": (b"GET /?key=" + SECRET.encode() + b"\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "only line ends": (b"\r\n\r\n\r\n", 400),
}

#: Paths of a request that is one, and finds nothing.
NO_PATHS = (
    *("/image/..%2f..%2fetc%2fpasswd", "/image/%00", "/image/%ff%fe", "/image/.", "/image/..", "/image/a%0d%0ab"),
    *("/image/00000000-0000-4000-8000-000000000000.json", "/image/%2e%2e", "/image/..;/", "/image/..%5c..%5c"),
    *("/requests/..%2f..%2f", "/requests/%00", "/requests/a%0d%0aSet-Cookie:%20b", "/requests/" + "a" * 2000),
    *("/requests/../../../../etc/passwd", "/health/", "/../../etc/passwd", "//health", "/health/%2e%2e/models"),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One worker, no job waits: fewer than a hundred threads."""
    with (
        Simulator() as webui,
        running_service(tmp_path_factory.mktemp("small"), webui.url, workers=1, SD_QUEUE_LIMIT="0") as service,
    ):
        service.wait_until_answering()
        yield service
        assert SECRET not in service.printed
        assert "Traceback" not in service.printed
        for line in service.printed.splitlines():
            json.loads(line)


@pytest.fixture
def connection(small: Service) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", small.port), timeout=DEADLINE_S) as opened:
        yield opened


def answers_of(connection: socket.socket) -> list[bytes]:
    """Everything until the other side closes, cut where an answer begins."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass  # it did not read all that was sent
    return [b"HTTP/1.1 " + answer for answer in received.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_what_is_no_request(connection: socket.socket, name: str) -> None:
    sent, status = NO_REQUESTS[name]
    connection.sendall(sent)
    answer = RawAnswer(connection)

    problem = problem_of(answer)
    assert (problem["status"], problem["code"], problem["retryable"]) == (status, "malformed_request", False)
    assert SECRET not in answer.text + str(answer.headers)
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize("name", [name for name in NO_REQUESTS if "head without" not in name])
def test_nothing_behind_it_is_taken_for_a_request(connection: socket.socket, name: str) -> None:
    connection.sendall(NO_REQUESTS[name][0] + GET + b"\r\n")
    connection.shutdown(socket.SHUT_WR)

    assert len(answers_of(connection)) <= 1


def test_a_body_that_no_route_reads_is_not_a_request(connection: socket.socket) -> None:
    hidden = GET + b"X-Hidden: 1\r\n\r\n"
    connection.sendall(GET + b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden)
    connection.shutdown(socket.SHUT_WR)

    assert [answer[9:12] for answer in answers_of(connection)] == [b"200"]


def test_a_broken_body_that_no_route_reads_gets_one_answer(connection: socket.socket) -> None:
    connection.sendall(GET + CHUNKED + b"\r\nzz\r\n" + GET + b"\r\n")
    connection.shutdown(socket.SHUT_WR)

    assert [answer[9:12] for answer in answers_of(connection)] == [b"200"]


@pytest.mark.parametrize("path", NO_PATHS)
def test_paths(connection: socket.socket, path: str) -> None:
    connection.sendall(get(PREFIX + path))

    assert problem_of(RawAnswer(connection))["status"] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:1", '"><script>', "", "[::1"])
def test_a_host_is_not_believed(connection: socket.socket, host: str) -> None:
    start = POST.replace(b"Host: x", f"Host: {host}\r\nX-Forwarded-Host: {host}".encode())
    connection.sendall(start + b"Accept: image/png\r\n" + LENGTH + b"Connection: close\r\n\r\n" + BODY)
    head = answers_of(connection)[0].partition(b"\r\n\r\n")[0].decode()

    assert head.startswith("HTTP/1.1 200")
    assert f"\r\nLocation: {PREFIX}/image/" in head
    assert "evil" not in head


def test_heads_that_never_end_take_no_thread(small: Service) -> None:
    """Far more callers than there are threads send a line and then nothing."""
    with ExitStack() as stack:
        for number in range(150):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", small.port), DEADLINE_S))
            slow.sendall(b"" if number % 3 == 0 else GET)
        assert {small.get("/health").status_code for _ in range(5)} == {200}
        assert small.post("/txt2img", json.loads(BODY)).status_code == 200
        slow.sendall(b"Connection: close\r\n\r\n")
        assert RawAnswer(slow).status_code == 200, "one that comes late is served"


def test_a_head_that_drips_and_one_that_stops_are_ended(simulator: Simulator, tmp_path: Path) -> None:
    impatient = {"GUNICORN_CMD_ARGS": "-k tests.integration.impatient_worker.ImpatientWorker"}
    with running_service(tmp_path, simulator.url, workers=1, **impatient) as service:
        service.wait_until_answering()
        with (
            socket.create_connection(("127.0.0.1", service.port), timeout=0.02) as dripping,
            socket.create_connection(("127.0.0.1", service.port), timeout=DEADLINE_S) as silent,
        ):
            silent.sendall(b"GET / HT")
            assert silent.recv(1) == b"", "long before an idle connection is"
            begun = time.monotonic()
            wait_until(lambda: has_ended(dripping, drip=b"X"), "the connection is ended")
            assert time.monotonic() - begun < 5, "only by chance"


def has_ended(connection: socket.socket, *, drip: bytes) -> bool:
    """After sending one byte more."""
    try:
        connection.sendall(drip)
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_head_in_single_bytes(connection: socket.socket) -> None:
    for byte in POST + LENGTH + b"\r\n" + BODY:
        connection.sendall(bytes([byte]))

    assert RawAnswer(connection).status_code == 200


def test_two_requests_at_once_are_two(connection: socket.socket) -> None:
    connection.sendall(POST + LENGTH + b"\r\n" + BODY + GET + b"Connection: close\r\n\r\n")

    assert [answer[9:12] for answer in answers_of(connection)] == [b"200", b"200"]


def test_lines_of_text_stay_lines(simulator: Simulator, tmp_path: Path) -> None:
    """A caller can neither add a line to the log nor read its prompt there."""
    odd = {"X-Request-ID": "a b", "User-Agent": "a level=ERROR", "Idempotency-Key": "k", "Accept": "image/png"}
    with running_service(tmp_path, simulator.url, workers=1, LOG_FORMAT="text", LOG_LEVEL="DEBUG") as service:
        service.wait_until_answering()
        prompt = f"{SECRET}\n2026-01-01 00:00:00,000 ERROR root: forged \u2028 \x1b[2J \x85 end"
        body = {**json.loads(BODY), "prompt": prompt}
        assert service.post("/txt2img", body, headers=odd).status_code == 200
        for wrong in ({"model": prompt}, {"sampler": prompt}, {"steps": prompt}, {prompt: 1}, {"image": prompt}):
            assert service.post("/txt2img", {**body, **wrong}).status_code == 422
        assert service.get("/image/" + prompt.replace("\n", "%0a")).status_code == 404
        assert service.get("/image/x?" + "a%0aforged=1").status_code == 404
        wait_until(lambda: service.printed.count(" status=422") == 5, "all are in the log")
        assert SECRET not in service.printed
        assert "forged" not in service.printed
