"""nginx with the project's own configuration in front of the real service."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from simulator import Simulator
from tests.api.answers import a1111_failure_of
from tests.deploy.nginx_server import Nginx, needs_nginx, running_nginx
from tests.running import DEADLINE_S, PREFIX, Service, free_port, running_service, wait_until

pytestmark = needs_nginx

BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}
ORIGIN = "https://shop.example"
TIMEOUTS = (
    "proxy_read_timeout 60s;",
    "proxy_read_timeout 500s;",
)
SETTINGS = {"TRUSTED_PROXIES": "1", "CORS_ORIGINS": ORIGIN, "RATE_LIMIT_GLOBAL": "100000/minute"}


@pytest.fixture(scope="module")
def webui() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture(scope="module")
def handing(webui: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that lets nginx send the images."""
    folder = tmp_path_factory.mktemp("handing")
    with running_service(folder, webui.url, SENDFILE_HEADER="X-Accel-Redirect", **SETTINGS) as service:
        service.wait_until_answering()
        yield service


@pytest.fixture(scope="module")
def nginx(handing: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with running_nginx(tmp_path_factory.mktemp("nginx"), handing.port, images=handing.images) as running:
        yield running


@pytest.fixture(scope="module")
def sending(webui: Simulator, handing: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service without nginx, of the same images."""
    images = {"IMAGE_DIR": str(handing.images)}
    with running_service(tmp_path_factory.mktemp("sending"), webui.url, workers=1, **images, **SETTINGS) as service:
        service.wait_until_answering()
        yield service


@pytest.fixture(scope="module")
def image_id(handing: Service) -> str:
    return str(handing.post("/txt2img", BODY).json()["image_id"])


def call(place: Nginx | Service, method: str, path: str, **options: Any) -> requests.Response:
    return requests.request(method, f"{place.root}{PREFIX}{path}", timeout=DEADLINE_S, **options)


#: What must differ: nginx tells itself and its own validator, and each answer has its own moment.
OWN = {"Server", "ETag", "Date", "Connection", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Last-Modified"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": ORIGIN}, 200),
        ({"Range": "bytes=5-9"}, 206),
        ({"Range": "bytes=-7"}, 206),
        ({"Range": "bytes=-99999999"}, 206),
        ({"Range": "lines=0-9"}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-None-Match": "*", "Range": "bytes=0-3"}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"Range": "bytes=0-3", "If-Range": '"other"'}, 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_image_is_the_same_with_nginx_and_without(
    nginx: Nginx, sending: Service, image_id: str, method: str, headers: dict[str, str], status: int
) -> None:
    same = {**headers, "X-Request-ID": "one"}
    through, straight = (call(place, method, f"/image/{image_id}", headers=same) for place in (nginx, sending))

    if (method, status) == ("HEAD", 206):  # of which only GET knows parts (RFC 9110, 14.2); nginx does not mind
        assert straight.status_code == 200
        return
    assert (through.status_code, straight.status_code) == (status, status)
    assert through.content == straight.content
    own = OWN if status == 200 else OWN | {"Accept-Ranges"}
    found = [
        {name: answer.headers[name] for name in answer.headers if name not in own} for answer in (through, straight)
    ]
    assert found[0] == found[1]


def test_the_service_itself_sends_no_byte(handing: Service, image_id: str) -> None:
    answer = handing.get(f"/image/{image_id}")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["X-Accel-Redirect"] == f"/_images/{image_id[:2]}/{image_id[2:4]}/{image_id}.png"


def test_validators_of_nginx_are_taken_back(nginx: Nginx, image_id: str) -> None:
    first = call(nginx, "GET", f"/image/{image_id}")
    tag = first.headers["ETag"]
    assert "X-Accel-Redirect" not in first.headers

    def status(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(nginx, "GET", f"/image/{image_id}", headers=named).status_code

    assert status(If_None_Match=tag) == 304
    assert status(If_Modified_Since=first.headers["Last-Modified"]) == 304
    assert status(Range="bytes=0-3", If_Range=tag) == 206
    assert status(If_Match=tag) == 200
    assert call(nginx, "GET", f"/image/{image_id}", headers={"If-None-Match": tag}).headers["Cache-Control"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_copies_come_from_the_service(nginx: Nginx, sending: Service, image_id: str, method: str) -> None:
    path = f"/image/{image_id}?format=webp&width=32"
    through, straight = (call(place, method, path) for place in (nginx, sending))
    assert through.status_code == 200
    assert through.content == straight.content
    assert through.headers["ETag"] == straight.headers["ETag"]
    assert through.headers["Content-Length"] == straight.headers["Content-Length"]
    if method == "GET":
        with Image.open(io.BytesIO(through.content)) as picture:
            assert (picture.format, picture.width) == ("WEBP", 32)
    again = call(nginx, method, path, headers={"If-None-Match": through.headers["ETag"]})
    assert again.status_code == 304


def problem_of(answer: requests.Response) -> dict[str, Any]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert set(body) >= {"type", "title", "status", "code", "detail", "retryable", "request_id"}
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert body["type"].endswith(f"#{body['code']}")
    return body


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", f"{PREFIX}/image/{{id}}", {"Range": "bytes=99999999-"}, 416, "range_not_satisfiable"),
        ("GET", f"{PREFIX}/image/{{id}}", {"If-Match": '"other"'}, 412, "precondition_failed"),
        ("GET", "/_images/00/00/x.png", {}, 404, "not_found"),
        ("GET", "/metrics", {}, 404, "not_found"),
        ("GET", "/" + "a" * 20_000, {}, 414, "malformed_request"),
        ("GET", "/", {"X-Long": "a" * 20_000}, 431, "malformed_request"),
        ("GET", f"{PREFIX}/nothing", {}, 404, "not_found"),
        ("TRACE", f"{PREFIX}/health", {}, 405, "method_not_allowed"),
    ],
)
def test_failures_are_problems(
    nginx: Nginx, image_id: str, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", "Connection": "close", **headers}.items())
    answer = _exchange(nginx, f"{method} {path.format(id=image_id)} HTTP/1.1\r\n{head}\r\n")
    problem = problem_of(answer)
    assert (problem["status"], problem["code"]) == (status, code)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
    ],
)
def test_what_is_no_http_is_a_problem(nginx: Nginx, sent: str, status: int) -> None:
    problem = problem_of(_exchange(nginx, sent))
    assert (problem["status"], problem["code"]) == (status, "malformed_request")


def test_one_caller_does_not_take_all_places(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running_nginx(
            tmp_path, int(silent.getsockname()[1]), changes={"limit_conn callers 100;": "limit_conn callers 2;"}
        ) as nginx,
        ExitStack() as stack,
    ):
        for _ in range(2):
            waiting = stack.enter_context(socket.create_connection(("127.0.0.1", nginx.port)))
            waiting.sendall(f"GET {PREFIX}/models HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            stack.enter_context(silent.accept()[0])
        answer = call(nginx, "GET", "/health")
        assert (problem_of(answer)["code"], answer.headers["Retry-After"]) == ("rate_limited", "5")


def test_an_image_that_is_gone(nginx: Nginx, handing: Service) -> None:
    lost = str(handing.post("/txt2img", BODY).json()["image_id"])
    file = handing.images / lost[:2] / lost[2:4] / f"{lost}.png"
    file.unlink()
    assert problem_of(call(nginx, "GET", f"/image/{lost}"))["code"] == "image_not_found"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start nginx as another user")
def test_images_that_nginx_may_not_read(handing: Service, image_id: str, tmp_path: Path) -> None:
    # pytest's folders are closed to others.
    with running_nginx(tmp_path, handing.port, images=handing.images, user="nobody nogroup") as nginx:
        problem = problem_of(call(nginx, "GET", f"/image/{image_id}"))
    assert (problem["status"], problem["code"]) == (500, "internal_error")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(nginx: Nginx, chunked: bool) -> None:
    pieces = [b" " * 1_048_576] * 33
    data = iter(pieces) if chunked else b"".join(pieces)
    problem = problem_of(call(nginx, "POST", "/txt2img", data=data, headers={"Content-Type": "application/json"}))
    assert (problem["status"], problem["code"]) == (413, "payload_too_large")


def test_the_request_id_is_one_in_all_logs(nginx: Nginx, handing: Service, webui: Simulator) -> None:
    answer = call(nginx, "POST", "/txt2img", json=BODY, headers={"X-Request-ID": "the-one.1"})
    assert answer.headers["X-Request-ID"] == "the-one.1"
    assert json.loads(webui.generations[-1].body)["force_task_id"] == "the-one.1"
    wait_until(lambda: "the-one.1" in nginx.access_log and "the-one.1" in handing.printed, "both logs have the line")
    (line,) = (json.loads(text) for text in nginx.access_log.splitlines() if "the-one.1" in text)
    assert (line["method"], line["status"], line["service_status"]) == ("POST", 200, "200")
    assert "127.0.0.1" not in nginx.access_log
    assert PREFIX not in nginx.access_log


@pytest.mark.parametrize("wrong", ["has blank", "a" * 129, 'quo"te', "ümlaut"])
def test_a_wrong_request_id_is_replaced_by_nginx(nginx: Nginx, wrong: str) -> None:
    answer = call(nginx, "GET", "/health", headers={"X-Request-ID": wrong.encode()})
    made = answer.headers["X-Request-ID"]
    assert len(made) == 32
    wait_until(lambda: made in nginx.access_log, "nginx logs the same id")


def test_callers_are_told_apart_and_cannot_pretend(webui: Simulator, tmp_path: Path) -> None:
    settings = {**SETTINGS, "RATE_LIMIT_GLOBAL": "3/hour"}
    with (
        running_service(tmp_path / "service", webui.url, workers=1, **settings) as service,
        running_nginx(tmp_path / "nginx", service.port) as nginx,
    ):
        service.wait_until_answering()
        for claimed, status in (("9.9.9.1", 200), ("9.9.9.2", 200), ("9.9.9.3", 200), ("9.9.9.4", 429)):
            answer = call(nginx, "GET", "/models", headers={"X-Forwarded-For": claimed})
            assert answer.status_code == status
        # From another address of this machine.
        with socket.create_connection(("127.0.0.1", nginx.port), source_address=("127.0.0.2", 0)) as other:
            answer = _read(other, f"GET {PREFIX}/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.status_code == 200


def test_a_caller_who_hangs_up_stops_its_job(nginx: Nginx, handing: Service, webui: Simulator) -> None:
    webui.forget_requests()
    webui.set_fault("hang-before", times=1)
    body = json.dumps({**BODY, "steps": 2}).encode()
    head = f"POST {PREFIX}/txt2img HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=DEADLINE_S) as caller:
        caller.sendall(head.encode() + b"\r\n\r\n" + body)
        wait_until(lambda: len(webui.generations) == 1, "the job runs")
    wait_until(lambda: any(one.path.endswith("/interrupt") for one in webui.requests), "the job is interrupted")
    webui.clear_faults()


class Dying:
    """A replica that takes what comes to it and hangs up: what became of it, nobody knows."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.heads: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Dying:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.heads.append(connection.recv(65_536))


def test_a_post_that_was_sent_is_never_sent_again(tmp_path: Path) -> None:
    with Dying() as first, Dying() as second, running_nginx(tmp_path, first.port, second.port) as nginx:
        problem = problem_of(call(nginx, "POST", "/txt2img", json=BODY))
        assert (problem["status"], problem["code"]) == (502, "service_unavailable")
        assert len(first.heads + second.heads) == 1


def test_a_get_is_tried_elsewhere(tmp_path: Path) -> None:
    with Dying() as first, Dying() as second, running_nginx(tmp_path, first.port, second.port) as nginx:
        assert problem_of(call(nginx, "GET", "/models"))["status"] == 502
        assert (len(first.heads), len(second.heads)) == (1, 1)


def test_a_post_to_a_replica_that_is_away_goes_to_the_other(handing: Service, tmp_path: Path) -> None:
    with running_nginx(tmp_path, free_port(), handing.port) as nginx:
        assert [call(nginx, "POST", "/txt2img", json=BODY).status_code for _ in range(4)] == [200] * 4


def test_a_replica_that_failed_once_is_asked_again_at_once(handing: Service, tmp_path: Path) -> None:
    """What one caller makes a replica do must not keep it from all others."""
    with Dying() as dying, running_nginx(tmp_path, dying.port, handing.port) as nginx:
        for _ in range(10):
            assert call(nginx, "GET", "/models").status_code == 200
        assert len(dying.heads) > 2, "else each of nginx' processes leaves it out after its first failure"


def test_no_service_and_a_silent_one(tmp_path: Path) -> None:
    with running_nginx(tmp_path / "away", free_port()) as nginx:
        answer = call(nginx, "POST", "/txt2img", json=BODY)
        assert problem_of(answer)["code"] == "service_unavailable"
        assert answer.headers["Retry-After"] == "5"
        assert answer.headers["X-Should-Retry"] == "true"
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running_nginx(
            tmp_path / "silent",
            int(silent.getsockname()[1]),
            changes={"proxy_read_timeout 500s;": "proxy_read_timeout 100ms;"},
        ) as nginx,
    ):
        answer = call(nginx, "POST", "/txt2img", json=BODY)
        problem = problem_of(answer)
        assert (problem["status"], problem["code"], problem["retryable"]) == (504, "service_timeout", False)
        assert answer.headers["X-Should-Retry"] == "false", "OpenAI's libraries would have it generated again"


def a1111_said(answer: requests.Response) -> tuple[str, str]:
    """Sentence and code, in the shape that A1111's programs read."""
    return a1111_failure_of(answer)["error"], answer.json()["code"]


def openai_said(answer: requests.Response) -> tuple[str, str]:
    """Sentence and code, in the shape that OpenAI's programs read."""
    assert answer.headers["Content-Type"] == "application/json"
    (error,) = answer.json().values()
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] is None
    expected = {429: "rate_limit_error", 500: "server_error", 502: "server_error", 504: "server_error"}
    assert error["type"] == expected.get(answer.status_code, "invalid_request_error")
    return error["message"], error["code"]


DOORS = {
    "/sdapi/v1/txt2img": a1111_said,
    "/sdapi/v1/progress": a1111_said,
    "/controlnet/version": a1111_said,
    "/v1/images/generations": openai_said,
    "/v1/models": openai_said,
}


@pytest.mark.parametrize("path", DOORS)
def test_failures_of_nginx_have_the_shape_of_a_paths_api(tmp_path: Path, path: str) -> None:
    said = DOORS[path]
    changes = {"limit_conn callers 100;": "limit_conn callers 1;", **dict.fromkeys(TIMEOUTS, "proxy_read_timeout 2s;")}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = int(silent.getsockname()[1])
        with running_nginx(tmp_path / "silent", port, changes=changes) as nginx:
            with socket.create_connection(("127.0.0.1", nginx.port)) as waiting:
                waiting.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                with silent.accept()[0]:
                    refused = requests.get(nginx.root + path, timeout=DEADLINE_S)
                    late = _received(waiting)
            large = requests.post(nginx.root + path, data=b" " * (32 * 1024**2 + 1), timeout=DEADLINE_S)
    with running_nginx(tmp_path / "down", free_port()) as nginx:
        down = requests.get(nginx.root + path, timeout=DEADLINE_S)
    again = "; try again in 5 s" if said is a1111_said else ""
    found = [(answer.status_code, *said(answer)) for answer in (refused, late, large, down)]
    assert found == [
        (429, f"too many requests of this address are being answered at once{again}", "rate_limited"),
        (504, "the service did not answer in time", "service_timeout"),
        (413, "the body is larger than is accepted", "payload_too_large"),
        (502, f"the service cannot be reached, or its answer was lost{again}", "service_unavailable"),
    ]
    assert [answer.headers["X-Should-Retry"] for answer in (refused, late, large, down)] == [
        *("true", "false", "false", "true")
    ]


@pytest.mark.parametrize("name", ["", "_a1111", "_openai", "_nothing"])
def test_nobody_asks_for_the_failures_themselves(nginx: Nginx, name: str) -> None:
    answer = requests.get(f"{nginx.root}/_problem{name}", timeout=DEADLINE_S)
    assert problem_of(answer)["code"] == "not_found"


def test_the_services_own_errors_pass_through(nginx: Nginx) -> None:
    problem = problem_of(call(nginx, "POST", "/txt2img", json={**BODY, "steps": 0}))
    assert (problem["status"], problem["code"], problem["errors"][0]["field"]) == (422, "validation_error", "steps")


def test_tls(handing: Service, image_id: str, tmp_path: Path) -> None:
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True, timeout=DEADLINE_S)
    changes = {"include listen.conf;": "include listen-tls.conf;"}
    with running_nginx(tmp_path, handing.port, images=handing.images, changes=changes) as nginx:
        url = f"https://127.0.0.1:{nginx.port}{PREFIX}/image/{image_id}"
        answer = requests.get(url, verify=str(tmp_path / "certificate.pem"), timeout=DEADLINE_S)
        assert answer.content.startswith(b"\x89PNG")
        plain = _exchange(nginx, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert problem_of(plain)["code"] == "malformed_request"


def _exchange(nginx: Nginx, request: str) -> requests.Response:
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=DEADLINE_S) as connection:
        return _read(connection, request)


def _read(connection: socket.socket, request: str) -> requests.Response:
    """As it was written, to the letter: no client library in between."""
    connection.sendall(request.encode())
    return _received(connection)


def _received(connection: socket.socket) -> requests.Response:
    connection.settimeout(DEADLINE_S)
    data = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    answer = requests.Response()
    answer.status_code = int(line.split()[1])
    answer.headers.update(field.split(": ", 1) for field in fields)
    answer._content = body
    return answer


def test_a_stream_passes_at_once(nginx: Nginx, handing: Service, webui: Simulator) -> None:
    webui.set_fault("hang-before:times=1")
    body = {"prompt": "a", "size": "64x64", "steps": 1, "stream": True}
    address = f"{nginx.root}/v1/images/generations"
    with requests.post(address, json=body, stream=True, timeout=DEADLINE_S) as answer:
        lines = answer.iter_lines()
        assert next(lines) == b": waiting"
        webui.clear_faults()
        assert b"event: image_generation.completed" in list(lines)
