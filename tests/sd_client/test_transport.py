"""One exchange over real sockets: what each misbehaviour of the other side becomes."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sd_client.errors import (
    InvalidAnswerError,
    MissingRouteError,
    OutOfMemoryError,
    WebUIAuthError,
    WebUIBusyError,
    WebUIConnectError,
    WebUIError,
    WebUIReadError,
    WebUIStatusError,
    WebUITimeoutError,
)
from sd_client.transport import Transport
from tests.sd_client.servers import (
    Answer,
    SocketServer,
    WebServer,
    closed_port,
    drip,
    read_request,
    reset,
    socket_server,
    until_hung_up,
)

PROJECT_ROOT = Path(__file__).resolve().parents[2]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

Handler = Callable[[socket.socket], None]


def after_request(*pieces: bytes) -> Handler:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece)

    return handle


def exchange(handle: Handler, *, timeout_s: float = 15.0, body: bytes = b"{}") -> bytes:
    with socket_server(handle) as server:
        return Transport(server.url).exchange("POST", "/sdapi/v1/txt2img", body, timeout_s=timeout_s)


def error_of(handle: Handler, **kwargs: float) -> WebUIError:
    with pytest.raises(WebUIError) as caught:
        exchange(handle, **kwargs)
    return caught.value


# --- Never sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "no-such-host.invalid", "[::1]:{port}", ".a", "*b*"])
def test_without_a_connection_nothing_was_sent(host: str) -> None:
    url = "http://" + host.format(port=closed_port())
    with pytest.raises(WebUIConnectError):
        Transport(url).get("/sdapi/v1/options", timeout_s=15)


def test_a_full_backlog_is_a_connect_error() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as fillers:
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(WebUIConnectError):
            Transport(url).get("/", timeout_s=0.3)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:{port}", "refused"),
        ("http://no-such-host.invalid", "unknown host name"),
        (f"http://{'a' * 70}.invalid", "unknown host name"),
    ],
)
def test_why_there_is_no_connection(url: str, reason: str) -> None:
    with pytest.raises(WebUIConnectError, match=reason):
        Transport(url.format(port=closed_port())).get("/", timeout_s=15)


@pytest.mark.parametrize("reply", [HEAD, b""])
def test_a_tls_handshake_that_fails_is_a_connect_error(reply: bytes) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(reply)

    with socket_server(handle) as server, pytest.raises(WebUIConnectError):
        Transport(server.url.replace("http://", "https://")).get("/", timeout_s=15)


# --- Interim answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 5,
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nX: y\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 \r\n\r\n",
    ],
)
def test_interim_answers_are_read_over(interim: bytes) -> None:
    assert exchange(after_request(interim, HEAD + b"Content-Length: 2\r\n\r\n{}")) == b"{}"


def test_interim_answers_do_not_go_on_for_ever() -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        drip(connection, b"HTTP/1.1 102 Processing\r\n\r\n")

    assert isinstance(error_of(handle, timeout_s=0.3), WebUITimeoutError)
    assert isinstance(error_of(after_request(b"HTTP/1.1 102 Processing\r\n\r\n" * 5000)), WebUIReadError)


# --- Sent again and again -------------------------------------------------------------------------------------------


class _Chunks:
    """A body that is made while it is sent."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._chunks)


def test_no_request_takes_anything_from_the_one_before() -> None:
    path = "/sdapi/v1/txt2img"
    with contextlib.closing(
        WebServer({f"POST {path}": Answer(body=b"{}"), f"GET {path}": Answer(body=b"{}")})
    ) as webui:
        transport = Transport(webui.url.replace("://", "://user:secret@"))
        for body in (b"{}", _Chunks(b"{", b'"a":1}'), b"", b'{"b": 22}', b"{}"):
            transport.exchange("POST", path, body, timeout_s=15)
        transport.get(path, timeout_s=15)
        transport.post(path, b"[]", timeout_s=15)
    sent = [(got.method, got.body, got.headers.get("Content-Length")) for got in webui.received]
    assert sent == [
        ("POST", b"{}", "2"),
        ("POST", b'{"a":1}', "7"),
        ("POST", b"", "0"),
        ("POST", b'{"b": 22}', "9"),
        ("POST", b"{}", "2"),
        ("GET", b"", None),
        ("POST", b"[]", "2"),
    ]
    assert ["Content-Type" in got.headers for got in webui.received] == [True] * 5 + [False, True]
    assert {got.headers.get("Authorization") for got in webui.received} == {"Basic dXNlcjpzZWNyZXQ="}


# --- Sent, and the answer was lost ----------------------------------------------------------------------------------


def _read_nothing_and_reset(connection: socket.socket) -> None:
    connection.recv(1)
    reset(connection)


def _read_all_and_reset(connection: socket.socket) -> None:
    read_request(connection)
    reset(connection)


def _half_a_body_and_reset(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(HEAD + b'Content-Length: 1000\r\n\r\n{"images"')
    time.sleep(0.05)  # a reset may overtake what was sent; either way the answer is lost
    reset(connection)


LOST: dict[str, Handler] = {
    "reset before the request was read": _read_nothing_and_reset,
    "reset after the request was read": _read_all_and_reset,
    "reset within the body": _half_a_body_and_reset,
    "closed without a byte": after_request(),
    "closed within the status line": after_request(b"HTTP/1.1 2"),
    "closed within the head": after_request(HEAD + b"Content-Length: 1000\r\nDate"),
    "closed within the body": after_request(HEAD + b'Content-Length: 1000\r\n\r\n{"images"'),
    "closed within a chunk": after_request(HEAD + b"Transfer-Encoding: chunked\r\n\r\n20\r\n{"),
    "closed before the last chunk": after_request(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
    "a chunk's size that is none": after_request(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
    "no HTTP at all": after_request(b"220 mail.example ESMTP\r\n\r\n"),
    "two lengths": after_request(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "an endless header": after_request(HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n"),
    "200 headers": after_request(HEAD + b"X: y\r\n" * 200 + b"\r\n"),
    "broken gzip": after_request(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"),
}


@pytest.mark.parametrize("handle", LOST.values(), ids=LOST.keys())
def test_a_lost_answer_is_a_read_error(handle: Handler) -> None:
    assert type(error_of(handle)) is WebUIReadError


def test_a_reset_under_a_large_body_is_a_read_error() -> None:
    with socket_server(_read_nothing_and_reset) as server, pytest.raises(WebUIReadError):
        Transport(server.url).exchange("POST", "/", b"x" * 20_000_000, timeout_s=15)


def test_the_text_of_a_lost_answer_names_no_address() -> None:
    with socket_server(after_request()) as server, pytest.raises(WebUIReadError) as caught:
        Transport(server.url).get("/sdapi/v1/options", timeout_s=15)
    assert str(server.port) not in str(caught.value)
    assert "RemoteDisconnected" in str(caught.value)


# --- Sent, and no whole answer in time ------------------------------------------------------------------------------


def _silent(connection: socket.socket) -> None:
    read_request(connection)
    until_hung_up(connection)


def _silent_after(sent: bytes) -> Handler:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(sent)
        until_hung_up(connection)

    return handle


def _dripping(sent: bytes, piece: bytes) -> Handler:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(sent)
        drip(connection, piece)

    return handle


LATE: dict[str, Handler] = {
    "silence": _silent,
    "silence in the head": _silent_after(HEAD),
    "silence in the body": _silent_after(HEAD + b"Content-Length: 1000\r\n\r\n{"),
    "silence in an error's body": _silent_after(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000\r\n\r\n{"),
    "silence in a body without length": _silent_after(HEAD + b'\r\n{"images": []}'),
    "a dripping status line": _dripping(b"HTTP/1.1 200 ", b"x"),
    "a dripping head": _dripping(HEAD, b"X-Y: z\r\n"),
    "a dripping header": _dripping(HEAD + b"X: ", b"y"),
    "a dripping body": _dripping(HEAD + b"Content-Length: 10000000\r\n\r\n", b" "),
    "a dripping body without length": _dripping(HEAD + b"\r\n", b" "),
    "dripping chunks": _dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "a dripping error": _dripping(b"HTTP/1.1 500 Oops\r\nContent-Length: 10000\r\n\r\n", b" "),
    "100 Continue for ever": _dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("handle", LATE.values(), ids=LATE.keys())
def test_no_whole_answer_in_time_is_a_timeout(handle: Handler) -> None:
    # That it ends at all is the test: a dripping server goes on for longer than a test may last.
    assert type(error_of(handle, timeout_s=0.3)) is WebUITimeoutError


def test_a_request_that_nobody_reads_is_a_timeout() -> None:
    given_up = threading.Event()

    def handle(connection: socket.socket) -> None:
        given_up.wait(15)

    with socket_server(handle) as server:
        with pytest.raises(WebUITimeoutError):
            Transport(server.url).exchange("POST", "/", b"x" * 30_000_000, timeout_s=0.5)
        given_up.set()


def test_sending_may_take_longer_than_connecting() -> None:
    """A busy WebUI takes a large picture when it gets to it."""
    picture = b"x" * 20_000_000  # more than the sockets' buffers hold

    def handle(connection: socket.socket) -> None:
        time.sleep(0.5)
        assert len(read_request(connection)) > len(picture)
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")

    with socket_server(handle) as server:
        transport = Transport(server.url, connect_timeout_s=0.2)
        assert transport.exchange("POST", "/", picture, timeout_s=15) == b"{}"


def test_an_exchange_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with socket_server(after_request(HEAD + b"Content-Length: 2\r\n\r\n{}")) as server:
        Transport(server.url).get("/", timeout_s=600)
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- Answered with an error -----------------------------------------------------------------------------------------

SECRET = "a castle by the sea /home/someone/models"


def a1111(name: str, detail: object = "", errors: object = "") -> bytes:
    return json.dumps({"error": name, "detail": detail, "body": "", "errors": errors}).encode()


ERRORS: list[tuple[str, int, bytes, type[WebUIStatusError], str]] = [
    ("A1111, an exception", 500, a1111("NansException", "", SECRET), WebUIStatusError, "NansException"),
    ("A1111, HTTPException", 404, a1111("HTTPException", "Init image not found"), WebUIStatusError, "HTTPException"),
    ("A1111 before 1.9.4", 404, a1111("HTTPException", "Sampler not found"), WebUIStatusError, "HTTPException"),
    ("A1111 1.10", 400, a1111("HTTPException", "Sampler not found"), WebUIStatusError, "HTTPException"),
    ("A1111, a script", 422, a1111("HTTPException", "Script 'x' not found"), WebUIStatusError, "HTTPException"),
    ("A1111, no route", 404, a1111("HTTPException", "Not Found"), MissingRouteError, "HTTPException"),
    ("A1111, credentials", 401, a1111("HTTPException", "Not authenticated"), WebUIAuthError, "HTTPException"),
    ("A1111, memory, by its class", 500, a1111("OutOfMemoryError", "", "x"), OutOfMemoryError, "OutOfMemoryError"),
    (
        "A1111, memory, by its text",
        500,
        a1111("RuntimeError", "", "MPS backend out of memory"),
        OutOfMemoryError,
        "RuntimeError",
    ),
    (
        "A1111, memory, DirectML",
        500,
        a1111("RuntimeError", "", "Could not allocate tensor with 2 bytes"),
        OutOfMemoryError,
        "RuntimeError",
    ),
    (
        "A1111, memory, on the CPU",
        500,
        a1111("RuntimeError", "", "DefaultCPUAllocator: not enough memory"),
        OutOfMemoryError,
        "RuntimeError",
    ),
    ("torch's own class", 500, a1111("torch.cuda.OutOfMemoryError"), OutOfMemoryError, ""),
    (
        "FastAPI, a list",
        422,
        b'{"detail":[{"loc":["body","steps"],"msg":"%s","type":"type_error"}]}' % SECRET.encode(),
        WebUIStatusError,
        "",
    ),
    ("Starlette, no route", 404, b'{"detail":"Not Found"}', MissingRouteError, ""),
    ("Starlette, no method", 405, b'{"detail":"Method Not Allowed"}', MissingRouteError, ""),
    ("Starlette, a body", 400, b'{"detail":"There was an error parsing the body"}', WebUIStatusError, ""),
    (
        "Forge, an exception",
        500,
        json.dumps({"error": "TypeError", "detail": "", "body": "", "message": SECRET}).encode(),
        WebUIStatusError,
        "TypeError",
    ),
    (
        "Forge, memory",
        500,
        json.dumps({"error": "OutOfMemoryError", "message": "CUDA out of memory."}).encode(),
        OutOfMemoryError,
        "OutOfMemoryError",
    ),
    ("Forge, HTTPException", 404, b'{"detail":"Init image not found"}', WebUIStatusError, ""),
    ("Forge, older", 500, b"Internal Server Error", WebUIStatusError, ""),
    ("SD.Next", 400, b'{"error":"Init image is none"}', WebUIStatusError, ""),
    (
        "SD.Next, a code",
        404,
        b'{"error":"HTTPException","code":404,"detail":"Sampler not found"}',
        WebUIStatusError,
        "HTTPException",
    ),
    ("SD.Next, too many", 429, b'{"error":"rate limit"}', WebUIBusyError, ""),
    ("a word that is no class", 500, b'{"error":"castle"}', WebUIStatusError, ""),
    ("sd.cpp, a client's error", 400, b'{"error":"prompt required"}', WebUIStatusError, ""),
    (
        "sd.cpp, its own",
        500,
        b'{"error":"server_error","message":"[json.exception.type_error.302]"}',
        WebUIStatusError,
        "server_error",
    ),
    ("sd.cpp, no route", 404, b"", MissingRouteError, ""),
    ("sd.cpp, empty", 500, b"", WebUIStatusError, ""),
    ("sd.cpp, memory", 500, b'{"error":"generate_image: failed to allocate the compute buffer"}', OutOfMemoryError, ""),
    (
        "KoboldCpp, busy",
        503,
        b'{"detail":{"msg":"Server is busy; please try again later.","type":"service_unavailable"}}',
        WebUIBusyError,
        "",
    ),
    ("KoboldCpp, memory", 500, b'{"detail":{"msg":"out of memory","type":"x"}}', OutOfMemoryError, ""),
    (
        "KoboldCpp, no route",
        404,
        b"Error: KoboldCpp HTTP Server is running, but this endpoint does not exist.",
        MissingRouteError,
        "",
    ),
    ("A1111, server-restart", 501, b"", MissingRouteError, ""),
    ("uvicorn", 400, b"Invalid HTTP request received.", WebUIStatusError, ""),
    ("CORS", 400, b"Disallowed CORS origin", WebUIStatusError, ""),
    ("a proxy in front", 502, b"<html><h1>502 Bad Gateway</h1></html>", WebUIStatusError, ""),
    ("a proxy, too large", 413, b"<html>413</html>", WebUIStatusError, ""),
    ("credentials, no body", 401, b"", WebUIAuthError, ""),
    ("no object", 500, b'["a"]', WebUIStatusError, ""),
    ("an object as the class", 500, b'{"error":{"msg":"CUDA out of memory"}}', OutOfMemoryError, ""),
    ("nulls", 500, b'{"error":null,"detail":null,"errors":null,"message":null}', WebUIStatusError, ""),
    ("no UTF-8", 500, b"\xff\xfe", WebUIStatusError, ""),
]


@pytest.mark.parametrize(
    ("status", "body", "expected", "kind"), [case[1:] for case in ERRORS], ids=[case[0] for case in ERRORS]
)
def test_every_shape_of_error(status: int, body: bytes, expected: type[WebUIStatusError], kind: str) -> None:
    error = error_of(after_request(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body))
    assert type(error) is expected
    assert isinstance(error, WebUIStatusError)
    assert (error.status, error.kind) == (status, kind)
    assert str(error) == f"the WebUI answered {status}" + (f" ({kind})" if kind else "") + expected.meaning
    assert error.reason == f"http_{status}"


def test_a_class_name_that_is_a_text_is_not_passed_on() -> None:
    body = a1111(SECRET)
    error = error_of(after_request(b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    assert "castle" not in f"{error} {error.__dict__} {error.args}"


def test_only_the_beginning_of_a_huge_error_is_read() -> None:
    error = error_of(after_request(b"HTTP/1.1 500 X\r\nContent-Length: 90000000\r\n\r\n" + b"y" * 2_500_000))
    assert type(error) is WebUIStatusError


@pytest.mark.parametrize("location", [b"http://[", b"//\xff\xfe", b"\x00", b"http://%zz:x/", b""])
def test_where_a_redirect_leads_is_not_looked_at(location: bytes) -> None:
    head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"
    error = error_of(after_request(head))
    assert (type(error), getattr(error, "status", None)) == (WebUIStatusError, 302)


def test_only_the_beginning_of_a_huge_redirect_is_read() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 1000000000\r\n\r\n"
    error = error_of(after_request(head, *[b"x" * 1_000_000] * 3))
    assert (type(error), getattr(error, "status", None)) == (WebUIStatusError, 302)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(web_server: WebServer, status: int) -> None:
    elsewhere = {"Location": f"{web_server.url}/elsewhere"}
    web_server.routes["POST /sdapi/v1/txt2img"] = Answer(status=status, headers=elsewhere)
    with pytest.raises(WebUIStatusError) as caught:
        Transport(web_server.url).post("/sdapi/v1/txt2img", b"{}", timeout_s=15)
    assert caught.value.status == status
    assert web_server.paths() == ["/sdapi/v1/txt2img"]


# --- Answered -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "value"), [(b'{"a": 1}', {"a": 1}), (b"null", None), (b"", None), (b" \n", None), (b"[]", []), (b"1", 1)]
)
def test_json(web_server: WebServer, body: bytes, value: object) -> None:
    web_server.routes["GET /x"] = web_server.routes["POST /x"] = Answer(body=body)
    assert Transport(web_server.url).get("/x", timeout_s=15) == value
    assert Transport(web_server.url).post("/x", b"{}", timeout_s=15) == value


def test_no_content() -> None:
    with socket_server(after_request(b"HTTP/1.1 204 No Content\r\n\r\n")) as server:
        assert Transport(server.url).post("/sdapi/v1/interrupt", b"", timeout_s=15) is None


@pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"images": [', b"\xff", b"{'a': 1}"])
def test_what_is_no_json(web_server: WebServer, body: bytes) -> None:
    web_server.routes["GET /x"] = Answer(body=body)
    with pytest.raises(InvalidAnswerError) as caught:
        Transport(web_server.url).get("/x", timeout_s=15)
    assert str(caught.value) == "the WebUI's answer is not JSON"


def test_a_body_in_one_byte_pieces() -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        body = gzip.compress(b'{"images": ["' + b"A" * 2000 + b'"]}')
        connection.sendall(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body))
        for number in range(len(body)):
            connection.sendall(body[number : number + 1])

    assert json.loads(exchange(handle)) == {"images": ["A" * 2000]}


def test_gzip_is_decoded_though_not_asked_for(web_server: WebServer) -> None:
    packed = gzip.compress(b'{"a": 1}' + b" " * 3_000_000)
    web_server.routes["GET /x"] = Answer(body=packed, headers={"Content-Encoding": "gzip"})
    assert Transport(web_server.url).get("/x", timeout_s=15) == {"a": 1}
    assert web_server.received[0].headers["Accept-Encoding"] == "identity"


def test_an_early_answer_to_a_request_not_read_to_its_end() -> None:
    """A front that refuses a body answers before it has taken it."""

    def handle(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        until_hung_up(connection)

    with socket_server(handle) as server, pytest.raises(WebUIStatusError) as caught:
        Transport(server.url).exchange("POST", "/", b"x" * 8_000_000, timeout_s=15)
    assert caught.value.status == 413


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_answer_beyond_the_limit_is_refused(web_server: WebServer, encoding: str) -> None:
    body = b'"' + b"A" * 9998 + b'"'
    packed = gzip.compress(body) if encoding == "gzip" else body
    web_server.routes["GET /x"] = Answer(body=packed, headers={"Content-Encoding": encoding})
    assert Transport(web_server.url, max_answer_bytes=10_000).get("/x", timeout_s=15) == "A" * 9998
    with pytest.raises(InvalidAnswerError, match="too large"):
        Transport(web_server.url, max_answer_bytes=9_999).get("/x", timeout_s=15)


def test_an_endless_answer_ends_at_the_limit() -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + b"\r\n")
        drip(connection, b"A" * 100_000, pause_s=0)

    with socket_server(handle) as server, pytest.raises(InvalidAnswerError, match="too large"):
        Transport(server.url, max_answer_bytes=5_000_000).get("/", timeout_s=15)


HEADS = {
    "a length": b"Content-Length: 2\r\n\r\n{}x",
    "by another spelling": b"CONTENT-length:2  \r\n\r\n{}x",
    "the same twice": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}x",
    "over two lines": b"X: a\r\n Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}x",
    "without returns": b"Content-Length: 2\n\n{}x",
    "a line that is no field": b"hello\r\nContent-Length: 2\r\n\r\n{}x",
    "no length": b"\r\n{}",
    "a length below zero": b"Content-Length: -2\r\n\r\n{}",
    "a length that is a word": b"Content-Length: two\r\n\r\n{}",
    "a length beyond all": b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "chunks": b"transfer-encoding: Chunked\r\nContent-Length: 1\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "letters that are no ASCII": b"X\xe9: \xff\r\nContent-Length: 2\r\n\r\n{}x",
}


@pytest.mark.parametrize("rest", HEADS.values(), ids=HEADS.keys())
def test_where_an_answer_ends(rest: bytes) -> None:
    assert exchange(after_request(HEAD + rest)) == b"{}"


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_an_answer_that_must_not_have_a_body_has_none(version: bytes) -> None:
    assert exchange(after_request(version + b" 204 No Content\r\nContent-Length: 2\r\n\r\n{}")) == b""


# --- What is sent ---------------------------------------------------------------------------------------------------


def sent(transport: Transport, server: WebServer) -> dict[str, str]:
    server.routes["POST /sdapi/v1/txt2img"] = Answer(body=b"{}")
    transport.post("/sdapi/v1/txt2img", b'{"prompt": "a cat"}', timeout_s=15)
    assert server.received[-1].body == b'{"prompt": "a cat"}'
    return dict(server.received[-1].headers)


def test_headers(web_server: WebServer) -> None:
    headers = sent(Transport(web_server.url), web_server)
    assert headers == {
        "Host": f"127.0.0.1:{web_server.port}",
        "User-Agent": "stable-diffusion-api",
        "Accept-Encoding": "identity",
        "Accept": "application/json",
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": "19",
    }


def test_a_get_has_no_body_and_no_type(web_server: WebServer) -> None:
    web_server.routes["GET /x"] = Answer(body=b"{}")
    Transport(web_server.url).get("/x", timeout_s=15)
    assert not {"Content-Type", "Content-Length", "Authorization"} & web_server.received[0].headers.keys()


@pytest.mark.parametrize(
    ("user_info", "expected"),
    [
        ("user:secret", "user:secret"),
        ("us%40er:p%3Aa%2Fs%25s", "us@er:p:a/s%s"),
        ("user", "user:"),
        ("user:", "user:"),
        ("us%C3%A9r:%E2%82%AC", "usér:€"),
    ],
)
def test_basic_auth(web_server: WebServer, user_info: str, expected: str) -> None:
    headers = sent(Transport(web_server.url.replace("//", f"//{user_info}@")), web_server)
    scheme, _, value = headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(value).decode()) == ("Basic", expected)
    assert "@" not in headers["Host"]


@pytest.mark.parametrize("prefix", ["/webui", "/webui/", "/a/b"])
def test_path_prefix(web_server: WebServer, prefix: str) -> None:
    web_server.routes[f"GET {prefix.rstrip('/')}/sdapi/v1/sd-models"] = Answer(body=b"[]")
    assert Transport(web_server.url + prefix).get("/sdapi/v1/sd-models", timeout_s=15) == []


def test_every_exchange_has_a_connection_of_its_own() -> None:
    answer = HEAD + b"Connection: keep-alive\r\nContent-Length: 2\r\n\r\n{}"

    def handle(connection: socket.socket) -> None:
        assert b"Connection: close" in read_request(connection)
        connection.sendall(answer)
        until_hung_up(connection)  # ends only because the client closes, though the server would keep it

    server: SocketServer
    with socket_server(handle) as server:
        transport = Transport(server.url)
        for _ in range(3):
            transport.get("/", timeout_s=15)
    assert server.connections == 3


def test_several_exchanges_over_one_connection() -> None:
    def handle(connection: socket.socket) -> None:
        for status, body in ((b"200 OK", b"{}"), (b"404 Not Found", b"[]"), (b"200 OK", b"[1]")):
            assert b"Connection: close" not in read_request(connection)
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        until_hung_up(connection)  # ends only because the client closes

    with socket_server(handle) as server, Transport(server.url).over_one_connection() as transport:
        assert transport.get("/a", timeout_s=15) == {}
        with pytest.raises(WebUIStatusError):
            transport.get("/b", timeout_s=15)
        assert transport.get("/c", timeout_s=15) == [1]
    assert server.connections == 1


@pytest.mark.parametrize("head", [HEAD, HEAD + b"Connection: close\r\n"])
def test_a_connection_that_the_webui_does_not_keep_is_followed_by_another(head: bytes) -> None:
    handle = after_request(head + b"Content-Length: 2\r\n\r\n{}")
    with socket_server(handle) as server, Transport(server.url).over_one_connection() as transport:
        for _ in range(3):
            assert transport.get("/", timeout_s=15) == {}
    assert server.connections == 3


def test_a_kept_connection_is_not_used_after_an_answer_that_was_too_large() -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + b"[" + b" " * 99_998 + b"]")

    with socket_server(handle) as server, Transport(server.url).over_one_connection() as transport:
        with pytest.raises(InvalidAnswerError):
            transport.get("/", timeout_s=15, max_bytes=10)
        assert transport.get("/", timeout_s=15) == []
    assert server.connections == 2


def test_proxies_and_netrc_of_the_environment_are_not_used(web_server: WebServer, tmp_path: Path) -> None:
    web_server.routes["GET /x"] = Answer(body=b"{}")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    nowhere = f"http://127.0.0.1:{closed_port()}"
    code = (
        "import sys; from sd_client.transport import Transport; print(Transport(sys.argv[1]).get('/x', timeout_s=15))"
    )
    subprocess.run(
        [sys.executable, "-c", code, web_server.url],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "NETRC": str(netrc)}
        | dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), nowhere)
        | {"no_proxy": "", "NO_PROXY": ""},
        check=True,
        timeout=60,
    )
    assert web_server.received[0].path == "/x"
    assert "Authorization" not in web_server.received[0].headers
