"""What only a real server with real connections can show: hang-ups, bodies that are too large, and busy threads."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse

import pytest
import requests

from simulator import Simulator
from tests.api.answers import problem_of
from tests.running import DEADLINE_S, PREFIX, Service, running_service, wait_until

LONG = {"prompt": "a long job", "width": 512, "height": 512, "steps": 150}
SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1}


@pytest.fixture(scope="module")
def slow() -> Iterator[Simulator]:
    """A WebUI that takes 0.2 s for a step of 512 x 512 pixels: half a minute for the longest job."""
    with Simulator(step_time=0.2) as running:
        yield running


@pytest.fixture(scope="module")
def one_worker(slow: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"SD_QUEUE_LIMIT": "6", "MAX_BODY_MB": "1"}
    with running_service(tmp_path_factory.mktemp("one"), slow.url, workers=1, **settings) as service:
        service.wait_until_answering()
        yield service


@pytest.fixture
def webui(slow: Simulator, one_worker: Service) -> Iterator[Simulator]:
    """The slow WebUI without a past; whatever still hangs is let go of."""
    wait_until_idle(one_worker)
    slow.forget_requests()
    yield slow
    slow.clear_faults()


def request_bytes(body: bytes, *headers: str, route: str = "txt2img") -> bytes:
    lines = [f"POST {PREFIX}/{route} HTTP/1.1", "Host: test", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def json_request(body: object) -> bytes:
    data = json.dumps(body).encode()
    return request_bytes(data, f"Content-Length: {len(data)}")


class RawAnswer:
    """What came over a bare socket, looking like any other answer."""

    def __init__(self, connection: socket.socket) -> None:
        response = HTTPResponse(connection)
        response.begin()
        self.status_code = response.status
        self.headers = dict(response.getheaders())
        self.text = response.read().decode()
        response.close()


@pytest.fixture
def connect(one_worker: Service) -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def open_one() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", one_worker.port), timeout=DEADLINE_S))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


def interrupts(webui: Simulator) -> int:
    return sum(one.route == "interrupt" for one in webui.requests)


def wait_until_idle(service: Service) -> None:
    def idle() -> bool:
        health = service.get("/health").json()
        return (health["webuis"]["busy"], health["queue"]["waiting"]) == (0, 0)

    wait_until(idle, "nothing waits and nothing runs")


@pytest.mark.parametrize("half", [False, True])
def test_a_caller_that_hangs_up_stops_its_job(
    one_worker: Service, webui: Simulator, connect: Callable[[], socket.socket], half: bool
) -> None:
    caller = connect()
    caller.sendall(json_request(LONG))
    wait_until(lambda: len(webui.generations) == 1, "the WebUI paints")
    if half:
        caller.shutdown(socket.SHUT_WR)
    else:
        caller.close()
    wait_until(lambda: interrupts(webui) > 0, "the job is interrupted")
    wait_until_idle(one_worker)
    wait_until(lambda: '"code": "caller_gone"' in one_worker.printed, "it is in the log")
    assert one_worker.post("/txt2img", SMALL).status_code == 200


def test_a_waiting_job_of_a_caller_that_hung_up_is_dropped(
    one_worker: Service, webui: Simulator, connect: Callable[[], socket.socket]
) -> None:
    webui.set_fault("hang-before")
    first, second = connect(), connect()
    first.sendall(json_request(SMALL))
    wait_until(lambda: len(webui.generations) == 1, "the WebUI paints")
    second.sendall(json_request(SMALL))
    wait_until(lambda: one_worker.get("/health").json()["queue"]["waiting"] == 1, "the second waits")
    second.close()
    wait_until(lambda: one_worker.get("/health").json()["queue"]["waiting"] == 0, "it waits no more")
    webui.clear_faults()
    assert RawAnswer(first).status_code == 200
    assert (len(webui.generations), interrupts(webui)) == (1, 0)


def test_a_caller_that_sends_its_next_request_already_has_not_hung_up(
    one_worker: Service, webui: Simulator, connect: Callable[[], socket.socket]
) -> None:
    caller = connect()
    caller.sendall(json_request({**LONG, "steps": 5}) + json_request(SMALL))
    assert RawAnswer(caller).status_code == 200
    assert interrupts(webui) == 0
    wait_until(lambda: len(webui.generations) == 2, "its next request is served")


def test_health_answers_while_every_generation_waits(one_worker: Service, webui: Simulator) -> None:
    webui.set_fault("hang-before", route="*")  # frozen: it answers no probe either
    with ThreadPoolExecutor(12) as threads:
        jobs = [threads.submit(one_worker.post, "/txt2img", SMALL) for _ in range(12)]

        def full() -> bool:
            queue = one_worker.get("/health").json()["queue"]
            return queue["waiting"] == queue["limit"] == 6

        wait_until(full, "as many wait as may")
        for _ in range(20):
            assert one_worker.get("/health").status_code == 200
            assert one_worker.get("/health/live").status_code == 200
        assert problem_of(one_worker.post("/txt2img", SMALL))["code"] == "queue_full"
        assert problem_of(one_worker.post("/txt2img", {}))["code"] == "validation_error"
        webui.clear_faults()
        answers = [job.result() for job in jobs]
        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [503] * 5, [
            answer.text for answer in answers if answer.status_code == 503
        ]


def test_a_declared_body_that_is_too_large_is_refused_before_it_is_read(
    connect: Callable[[], socket.socket], webui: Simulator
) -> None:
    for size in (1024 * 1024 + 1, 10**12):
        caller = connect()
        caller.sendall(request_bytes(b"", f"Content-Length: {size}"))
        problem = problem_of(RawAnswer(caller))
        assert (problem["status"], problem["code"], problem["detail"]) == (
            413,
            "payload_too_large",
            "the body is larger than 1 MB",
        )


def chunked(data: bytes) -> bytes:
    """In pieces of 64 kB."""
    pieces = [data[start : start + 0x10000] for start in range(0, len(data), 0x10000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


MEGABYTE = 1024 * 1024
BOUNDARY = "the-boundary"


def as_json(size: int) -> tuple[bytes, str]:
    """Valid but for its size: the white space at its end counts too."""
    return json.dumps(SMALL).encode().ljust(size), "application/json"


def as_form(size: int) -> tuple[bytes, str]:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n'.encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    return head + bytes(size - len(head) - len(tail)) + tail, f"multipart/form-data; boundary={BOUNDARY}"


@pytest.mark.parametrize("make", [as_json, as_form])
@pytest.mark.parametrize("size", [MEGABYTE + 1, MEGABYTE + 200_000, 3 * MEGABYTE])
def test_a_chunked_body_that_is_too_large(
    connect: Callable[[], socket.socket], webui: Simulator, make: Callable[[int], tuple[bytes, str]], size: int
) -> None:
    body, kind = make(size)
    caller = connect()
    head = f"POST {PREFIX}/txt2img HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    caller.sendall(head.encode() + chunked(body))
    problem = problem_of(RawAnswer(caller))
    assert (problem["status"], problem["code"]) == (413, "payload_too_large")
    assert webui.generations == []


@pytest.mark.parametrize("length", ["declared", "chunked"])
def test_a_body_just_as_large_as_may_be(connect: Callable[[], socket.socket], webui: Simulator, length: str) -> None:
    body, _ = as_json(MEGABYTE)
    caller = connect()
    if length == "declared":
        caller.sendall(request_bytes(body, f"Content-Length: {MEGABYTE}"))
    else:
        caller.sendall(request_bytes(chunked(body), "Transfer-Encoding: chunked"))
    assert RawAnswer(caller).status_code == 200


def test_a_chunked_body(connect: Callable[[], socket.socket], webui: Simulator) -> None:
    data = json.dumps(SMALL).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in data) + b"0\r\n\r\n"
    caller = connect()
    caller.sendall(request_bytes(chunks, "Transfer-Encoding: chunked"))
    answer = RawAnswer(caller)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "headers", [("Content-Length: x",), ("Content-Length: -1",), ("Content-Length: 1", "Content-Length: 2")]
)
def test_a_length_that_is_none(connect: Callable[[], socket.socket], headers: tuple[str, ...]) -> None:
    caller = connect()
    caller.sendall(request_bytes(b"{}", *headers))
    answer = RawAnswer(caller)
    assert answer.status_code == 400
    assert "Traceback" not in answer.text


def test_the_wire(one_worker: Service, webui: Simulator) -> None:
    with one_worker.post("/txt2img", SMALL, headers={"X-Request-ID": "wire-1"}) as answer:
        assert answer.status_code == 200
        assert answer.headers["X-Request-ID"] == "wire-1"
        url = one_worker.root + answer.json()["image_url"]
    with requests.get(url, headers={"Range": "bytes=0-7"}, timeout=DEADLINE_S) as part:
        assert (part.status_code, part.content) == (206, b"\x89PNG\r\n\x1a\n")
    with requests.get(url, timeout=DEADLINE_S) as whole:
        assert len(whole.content) == int(whole.headers["Content-Length"])
        tag = whole.headers["ETag"]
    with requests.get(url, headers={"If-None-Match": tag}, timeout=DEADLINE_S) as same:
        assert (same.status_code, same.content) == (304, b"")
