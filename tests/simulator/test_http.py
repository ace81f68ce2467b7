"""How A1111's server speaks HTTP, as a client sees it."""

from __future__ import annotations

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

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_) -> None:
        self.reader.close()
        self.sock.close()

    def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self.sock.sendall(data)
        return self.answer()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int(self.reader.readline().split()[1])
        headers = {}
        while (line := self.reader.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name] = value.strip()
        return status, headers, self.reader.read(int(headers.get("content-length", "0")))

    def closed(self) -> bool:
        return self.reader.read(1) == b""


@pytest.fixture
def raw(api):
    with Raw(api.sim) as one:
        yield one


def test_a_connection_serves_many_requests_even_sent_at_once(raw):
    status, headers, body = raw.ask(PING * 3)
    assert (status, body) == (200, b"{}")
    assert list(headers) == ["date", "server", "content-type", "x-process-time", "content-length"]
    assert (headers["content-type"], headers["server"]) == ("application/json", "uvicorn")
    assert [raw.answer()[0] for _ in range(2)] == [200] * 2
    assert raw.ask(PING)[0] == 200


@pytest.mark.parametrize(
    "head", [b"GET /internal/ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", PING[:-2] + b"Connection: close\r\n\r\n"]
)
def test_http_1_0_and_close_end_the_connection(raw, head):
    assert raw.ask(head)[1]["Connection"] == "close"
    assert raw.closed()


@pytest.mark.parametrize("data", [b"garbage\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", PING[:-2] + b"bad\r\n\r\n"])
def test_anything_else_is_refused_in_plain_text(raw, data):
    status, headers, _ = raw.ask(data)
    assert (status, headers) == (400, {"content-type": "text/plain; charset=utf-8", "Connection": "close"})


def test_half_a_body_is_not_a_request(api):
    with Raw(api.sim) as raw:
        raw.sock.sendall(b"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{")
    api.paint()
    assert len(api.sim.generations) == 1


@pytest.mark.parametrize(("accept", "zipped"), [(b"gzip", True), (b"gzip;q=0", True), (b"identity", False)])
def test_gzip_wherever_the_word_occurs(api, raw, accept, zipped):
    head = b"GET %s HTTP/1.1\r\nHost: x\r\nAccept-Encoding: " + accept + b"\r\n\r\n"
    _, headers, body = raw.ask(head % b"/sdapi/v1/samplers")
    assert ("content-encoding" in headers) == zipped
    assert json.loads(gzip.decompress(body) if zipped else body) == api.get("samplers").json()
    assert "content-encoding" not in raw.ask(head % b"/internal/ping")[1], "a small answer is not worth it"


@pytest.mark.parametrize(
    ("method", "path", "status", "header"),
    [
        ("GET", "/sdapi/v1/txt2img", 405, ("allow", "POST")),
        ("HEAD", "/sdapi/v1/progress", 405, ("allow", "GET")),
        ("GET", "/sdapi/v1/nope", 404, None),
        ("GET", "//sdapi/v1/progress", 404, None),
        ("GET", "/sdapi/v1/%70rogress", 200, None),
        ("GET", "/sdapi/v1/progress/", 307, ("location", "/sdapi/v1/progress")),
    ],
)
def test_routing(api, method, path, status, header):
    answer = requests.request(method, api.sim.url + path, allow_redirects=False, timeout=20)
    assert answer.status_code == status
    assert header is None or answer.headers[header[0]].removeprefix(api.sim.url) == header[1]


@pytest.mark.parametrize(
    ("body", "kind", "status", "detail"),
    [
        (b'{"prompt": "a cat", ', "application/json", 422, "value_error.jsondecode"),
        (b"", "application/json", 422, "value_error.missing"),
        (b'"x"', "application/json", 422, "type_error.dict"),
        (BODY, "text/plain", 422, "type_error.dict"),
        (b'{"steps": "abc"}', "application/json", 422, "type_error.integer"),
        (b'{"styles": 5}', "application/json", 422, "type_error.list"),
        (b'{"send_images": null}', "application/json", 422, "type_error.none.not_allowed"),
        (BODY, None, 200, None),
        (b'{"prompt":"\xe9"}', "application/json", 400, None),
        (b'{"a":' * 100_000, "application/json", 400, None),
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
    if detail == "value_error.jsondecode":
        assert response.json()["detail"][0]["ctx"]["doc"] == body.decode(), "the whole body is quoted"


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
    ],
)
def test_authentication(start, headers, detail):
    api = start(api_auth="user:pass")
    response = api.get("progress", headers=headers)
    assert response.status_code == 401
    assert response.json() == {"error": "HTTPException", "detail": detail, "body": "", "errors": ""}
    assert api.get("progress", auth=("user", "pass")).status_code == 200


def test_some_routes_are_never_protected(start):
    api = start(api_auth="user:pass")
    assert api.get("loras").status_code == 200
    assert requests.get(f"{api.sim.url}/internal/ping", timeout=20).status_code == 200
    # Malformed JSON is found before the credentials are asked for, a wrong type after it.
    assert requests.post(f"{api.sim.url}/sdapi/v1/txt2img", data="{bad", timeout=20).status_code == 422
    assert api.post("txt2img", {"steps": "abc"}).status_code == 401


def test_a_prefix(start):
    api = start(prefix="/some/path/")
    assert api.sim.url.endswith("/some/path")
    assert api.paint()["images"]
    assert [one.path for one in api.sim.generations] == ["/some/path/sdapi/v1/txt2img"]
    assert requests.get(api.sim.url.replace("/some/path", "/sdapi/v1/progress"), timeout=20).status_code == 404


def test_while_starting_sdapi_is_not_there_but_ping_is(start):
    api = start(startup_time=0.3)
    assert api.get("sd-models").json() == {"detail": "Not Found"}
    assert requests.get(f"{api.sim.url}/internal/ping", timeout=20).status_code == 200
    until(lambda: api.get("sd-models").status_code == 200, "it has started")


def test_without_the_page_nothing_is_below_internal(start):
    api = start(has_page=False)
    for method, path in (("GET", "ping"), ("POST", "progress")):
        assert requests.request(method, f"{api.sim.url}/internal/{path}", json={}, timeout=20).status_code == 404


@pytest.mark.parametrize(("flavour", "jobs"), [("a1111", 40), ("sdcpp", 8)])
def test_with_so_many_jobs_waiting_other_routes_hang_too(start, flavour, jobs):
    api = start(flavour=flavour, step_time=1000)

    def ask() -> None:
        with pytest.raises(requests.ConnectionError):
            requests.post(f"{api.sim.url}/sdapi/v1/txt2img", json={"prompt": "a", "steps": 150}, timeout=60)

    threads = [threading.Thread(target=ask) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    until(lambda: len(api.sim.generations) == jobs, "all have come")
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{api.sim.url}/sdapi/v1/samplers", timeout=0.2)
    api.sim.close()
    for thread in threads:
        thread.join()


def test_requests_are_remembered(api):
    before = time.monotonic()
    api.get("progress", params={"skip_current_image": "true"})
    api.paint(prompt="remember")
    until(lambda: api.sim.requests[-1].finished, "the last has been answered")
    first, second = api.sim.requests
    assert (first.method, first.path, first.query) == ("GET", "/sdapi/v1/progress", "skip_current_image=true")
    assert first.headers["accept-encoding"] == "identity"
    assert json.loads(second.body)["prompt"] == "remember"
    assert second.connection == first.connection
    assert before < first.started <= first.finished <= second.started
    assert (api.sim.generations, api.sim.most_concurrent) == ([second], 1)
    api.sim.forget_requests()
    assert api.sim.requests == []
