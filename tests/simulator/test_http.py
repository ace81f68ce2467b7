import base64
import gzip
import json
import socket
import threading
import time

import pytest
import requests

from simulator import Simulator
from tests.simulator.pixels import until

PING = b"GET /internal/ping HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = json.dumps({"prompt": "a", "steps": 1, "width": 64, "height": 64, "seed": 1}).encode()


class Raw:
    """A plain socket to a simulator."""

    def __init__(self, sim: Simulator) -> None:
        host, port = sim.url.removeprefix("http://").split("/")[0].split(":")
        self.sock = socket.create_connection((host, int(port)), timeout=20)
        self.reader = self.sock.makefile("rb")

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_) -> None:
        self.reader.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.reader.readline().split()[1])
        headers = {}
        while (line := self.reader.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name] = value.strip()
        length = int({name.lower(): value for name, value in headers.items()}.get("content-length", "0"))
        return status, headers, self.reader.read(length)

    def closed(self) -> bool:
        return self.reader.read(1) == b""


@pytest.fixture
def raw(api):
    with Raw(api.sim) as one:
        yield one


def test_headers_are_lower_case_and_without_a_charset(raw):
    raw.send(PING)
    status, headers, body = raw.answer()
    assert (status, body) == (200, b"{}")
    assert list(headers) == ["date", "server", "content-type", "x-process-time", "content-length"]
    assert headers["content-type"] == "application/json"
    assert headers["server"] == "uvicorn"


def test_a_connection_serves_many_requests_even_sent_at_once(raw):
    raw.send(PING * 3)
    assert [raw.answer()[0] for _ in range(3)] == [200] * 3
    raw.send(PING)
    assert raw.answer()[0] == 200


@pytest.mark.parametrize(
    "head", [b"GET /internal/ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", PING[:-2] + b"Connection: close\r\n\r\n"]
)
def test_http_1_0_and_close_end_the_connection(raw, head):
    raw.send(head)
    assert raw.answer()[1]["Connection"] == "close"
    assert raw.closed()


@pytest.mark.parametrize(
    "data", [b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nbad\r\n\r\n"]
)
def test_what_is_no_http_is_refused_in_plain_text(raw, data):
    raw.send(data + b"\r\n")
    status, headers, _ = raw.answer()
    assert status == 400
    assert headers == {"content-type": "text/plain; charset=utf-8", "Connection": "close"}


def test_an_idle_connection_is_closed(start):
    api = start(idle_time=0.2)
    with Raw(api.sim) as raw:
        raw.send(PING)
        raw.answer()
        assert raw.closed()


def test_chunked_bodies_are_read(raw):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:])) + b"0\r\n\r\n"
    head = b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw.send(head + chunks + PING)
    assert raw.answer()[0] == 200
    assert raw.answer()[2] == b"{}"


def test_expect_100_continue_is_honoured(raw):
    raw.send(
        b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    )
    assert raw.answer()[0] == 100
    raw.send(BODY)
    assert raw.answer()[0] == 200


def test_half_a_body_is_no_request(api):
    with Raw(api.sim) as raw:
        raw.send(b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{")
    api.paint()
    assert len(api.sim.generations) == 1


@pytest.mark.parametrize(("accept", "zipped"), [("gzip", True), ("gzip;q=0", True), ("br", False), ("identity", False)])
def test_gzip_wherever_the_word_occurs(api, raw, accept, zipped):
    raw.send(b"GET /sdapi/v1/options HTTP/1.1\r\nHost: x\r\nAccept-Encoding: %s\r\n\r\n" % accept.encode())
    _, headers, body = raw.answer()
    assert ("content-encoding" in headers) == zipped
    plain = gzip.decompress(body) if zipped else body
    assert json.loads(plain) == api.get("options").json()
    raw.send(PING[:-2] + b"Accept-Encoding: gzip\r\n\r\n")
    assert "content-encoding" not in raw.answer()[1]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/sdapi/v1/txt2img", 405, "POST"),
        ("PUT", "/sdapi/v1/txt2img", 405, "POST"),
        ("POST", "/sdapi/v1/progress", 405, "GET"),
        ("HEAD", "/sdapi/v1/progress", 405, "GET"),
        ("DELETE", "/sdapi/v1/options", 405, "GET"),
        ("GET", "/sdapi/v1/nope", 404, None),
        ("GET", "//sdapi/v1/progress", 404, None),
        ("GET", "/sdapi/v1/%70rogress", 200, None),
        ("GET", "/", 200, None),
        ("HEAD", "/", 200, None),
        ("GET", "/sdapi/v1/progress/", 307, None),
    ],
)
def test_routing(api, method, path, status, allow):
    with Raw(api.sim) as raw:
        raw.send(f"{method} {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
        found, headers, _ = raw.answer() if method != "HEAD" else (*_head(raw), b"")
    assert (found, headers.get("allow")) == (status, allow)
    if status == 307:
        assert headers["location"] == "http://here/sdapi/v1/progress"


def _head(raw: Raw) -> tuple[int, dict[str, str]]:
    lines = raw.reader.read().decode().split("\r\n")
    assert lines[-2:] == ["", ""], "an answer to HEAD has no body"
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:-2])


@pytest.mark.parametrize(
    ("body", "kind", "status", "detail"),
    [
        (b'{"prompt": "a cat", ', "application/json", 422, "value_error.jsondecode"),
        (b"", "application/json", 422, "value_error.missing"),
        (b"null", "application/json", 422, "value_error.missing"),
        (b'"x"', "application/json", 422, "type_error.dict"),
        (b"prompt=a", "application/x-www-form-urlencoded", 422, "type_error.dict"),
        (BODY, "text/plain", 422, "type_error.dict"),
        (BODY, "application/merge-patch+json", 200, None),
        (BODY, None, 200, None),
        (b"\xef\xbb\xbf" + BODY, "application/json", 200, None),
        (b'{"prompt":"\xe9"}', "application/json", 400, None),
        (gzip.compress(BODY, mtime=0), "application/json", 400, None),
        (b'{"a":' * 100_000, "application/json", 400, None),
        (b'[["prompt","a"],["steps",1],["width",64],["height",64]]', "application/json", 200, None),
        (b"[]", "application/json", 200, None),
    ],
)
def test_bodies(api, body, kind, status, detail):
    headers = {"Content-Type": kind} if kind else {}
    response = requests.post(f"{api.sim.url}/sdapi/v1/txt2img", data=body, headers=headers, timeout=20)
    assert response.status_code == status
    if status == 400:
        assert response.json() == {"detail": "There was an error parsing the body"}
    if detail:
        assert [entry["type"] for entry in response.json()["detail"]] == [detail]


def test_malformed_json_is_echoed(api):
    response = requests.post(f"{api.sim.url}/sdapi/v1/txt2img", data='{"prompt": "secret", ', timeout=20)
    assert response.json()["detail"][0]["ctx"]["doc"] == '{"prompt": "secret", '


def test_cors(api):
    response = api.get("progress", headers={"Origin": "http://evil.example"})
    assert response.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" not in response.headers
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    response = requests.options(f"{api.sim.url}/sdapi/v1/txt2img", headers=headers, timeout=20)
    assert (response.status_code, response.text) == (400, "Disallowed CORS origin")


def basic(text: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text).decode()}


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "Not authenticated"),
        ({"Authorization": "Bearer x"}, "Not authenticated"),
        ({"Authorization": "Basic %%%"}, "Invalid authentication credentials"),
        (basic("user:pässwört".encode()), "Invalid authentication credentials"),
        (basic(b"user:nope"), "Incorrect username or password"),
        (basic(b"bob:pass"), "Incorrect username or password"),
    ],
)
def test_authentication(start, headers, detail):
    api = start(api_auth="user:pass")
    response = api.get("progress", headers=headers)
    assert response.status_code == 401
    assert response.json() == {"error": "HTTPException", "detail": detail, "body": "", "errors": ""}
    assert "www-authenticate" not in response.headers
    assert api.get("progress", auth=("user", "pass")).status_code == 200


def test_some_routes_are_never_protected(start):
    api = start(api_auth="user:pass")
    assert api.get("loras").status_code == 200
    assert requests.get(f"{api.sim.url}/internal/ping", timeout=20).status_code == 200
    assert "/sdapi/v1/txt2img" in requests.get(f"{api.sim.url}/openapi.json", timeout=20).json()["paths"]
    # Malformed JSON is found before the credentials are asked for, a wrong type after it.
    assert requests.post(f"{api.sim.url}/sdapi/v1/txt2img", data="{bad", timeout=20).status_code == 422
    assert api.post("txt2img", {"steps": "abc"}).status_code == 401
    assert api.get("cmd-flags", auth=("user", "pass")).json()["api_auth"] == "user:pass"


def test_a_prefix(start):
    api = start(prefix="/some/path/")
    assert api.sim.url.endswith("/some/path")
    assert api.get("progress").status_code == 200
    assert api.paint()["images"]
    assert [one.path for one in api.sim.generations] == ["/some/path/sdapi/v1/txt2img"]
    assert requests.get(api.sim.url.replace("/some/path", "/sdapi/v1/progress"), timeout=20).status_code == 404


def test_while_starting_sdapi_is_not_there_but_ping_is(start):
    api = start(startup_time=0.3)
    assert api.get("sd-models").json() == {"detail": "Not Found"}
    assert requests.get(f"{api.sim.url}/internal/ping", timeout=20).status_code == 200
    until(lambda: api.get("sd-models").status_code == 200, "it has started")


def test_with_40_jobs_waiting_ordinary_routes_hang_too(start):
    api = start(step_time=1000)
    threads = [threading.Thread(target=_ignored, args=(api.sim.url,)) for _ in range(40)]
    for thread in threads:
        thread.start()
    until(lambda: len(api.sim.generations) == 40, "all have come")
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{api.sim.url}/internal/ping", timeout=0.2)
    assert requests.get(f"{api.sim.url}/nope", timeout=20).status_code == 404
    assert requests.get(f"{api.sim.url}/openapi.json", timeout=20).status_code == 200
    api.sim.close()
    for thread in threads:
        thread.join()


def _ignored(url: str) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{url}/sdapi/v1/txt2img", json={"steps": 150}, timeout=60)


def test_requests_are_remembered(api):
    before = time.monotonic()
    api.get("progress", params={"skip_current_image": "true"})
    api.paint(prompt="remember")
    until(lambda: api.sim.requests[-1].finished, "the last has been answered")
    first, second = api.sim.requests
    assert (first.method, first.path, first.query) == ("GET", "/sdapi/v1/progress", "skip_current_image=true")
    assert first.headers["accept-encoding"] == "identity"
    assert not first.is_generation
    assert json.loads(second.body)["prompt"] == "remember"
    assert second.connection == first.connection
    assert before < first.started <= first.finished <= second.started
    assert api.sim.generations == [second]
    assert api.sim.most_concurrent == 1
    api.sim.forget_requests()
    assert api.sim.requests == []
