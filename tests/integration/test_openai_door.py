"""OpenAI's Images API over real gunicorn: pictures, streams, failures, and callers that leave."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from simulator import Simulator
from tests.api.bad_inputs import PNG
from tests.api.doors.openai_requests import HOLED, SMALL, error_of, opened, pictures_of
from tests.running import DEADLINE_S, Service, running_service, wait_until
from tests.services import picture_samples as samples


def ask(service: Service, route: str = "generations", **call: Any) -> requests.Response:
    return requests.post(f"{service.root}/v1/images/{route}", timeout=DEADLINE_S, **call)


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and data of a stream's events, its comments aside."""
    found = re.findall(r"^event: (.+)\ndata: (.+)$", text, re.MULTILINE)
    return [(name, json.loads(data)) for name, data in found]


def log_of(service: Service, request_id: str) -> dict[str, Any]:
    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in service.printed.splitlines() if line.startswith("{")]
        return [line for line in found if line["message"] == "request" and line["request_id"] == request_id]

    wait_until(lambda: len(lines()) > 0, "the request's line in the log")
    (line,) = lines()
    return line


def test_a_generation(service: Service) -> None:
    answer = ask(service, json={**SMALL, "n": 2, "seed": 7}, headers={"Authorization": "Bearer any"})
    assert answer.status_code == 200, answer.text
    assert [image.size for image in pictures_of(answer)] == [(64, 64)] * 2
    assert [item["seed"] for item in answer.json()["data"]] == [7, 8]
    stored = service.get(f"/image/{answer.headers['X-Image-Id']}").content
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == stored


@pytest.mark.parametrize("chunked", [False, True])
def test_an_edit_keeps_what_its_mask_keeps(service: Service, chunked: bool) -> None:
    picture = samples.gradient(64, 64)
    files = [("image[]", ("p.png", samples.encode(picture), "image/png")), ("mask", ("m", HOLED, "text/plain"))]
    call: dict[str, Any] = {"data": {**SMALL, "mask_blur": "0"}, "files": files}
    if chunked:
        prepared = requests.Request("POST", "http://x", **call).prepare()
        body = prepared.body
        pieces = (body[start : start + 100] for start in range(0, len(body), 100))
        call = {"data": pieces, "headers": {"Content-Type": prepared.headers["Content-Type"]}}
    answer = ask(service, "edits", **call)
    assert answer.status_code == 200, answer.text
    (made,) = pictures_of(answer)
    kept = (0, 0, 64, 16)
    assert made.convert("RGB").crop(kept).tobytes() == picture.convert("RGB").crop(kept).tobytes()
    assert made.convert("RGB").getpixel((32, 32)) != picture.convert("RGB").getpixel((32, 32))


def test_addresses_lead_to_the_pictures(tmp_path: Path, service_simulator: Simulator) -> None:
    settings = {"PUBLIC_URL": "https://pictures.example/sd"}
    with running_service(tmp_path, service_simulator.url, workers=1, **settings) as service:
        service.wait_until_answering()
        answer = ask(service, json={**SMALL, "response_format": "url", "output_format": "webp"})
        (item,) = answer.json()["data"]
        address = item["url"].replace("https://pictures.example/sd", service.root)
        assert opened(requests.get(address, timeout=DEADLINE_S).content).format == "WEBP"


# Streams.


@pytest.mark.parametrize("route", ["generations", "edits"])
def test_a_stream(service: Service, service_simulator: Simulator, route: str) -> None:
    service_simulator.set_fault("slow:seconds=1.5:times=1")
    call: dict[str, Any] = {"json": {**SMALL, "stream": True, "n": 2}}
    if route == "edits":
        call = {"data": {**SMALL, "stream": "true", "n": "2"}, "files": {"image": ("p.png", PNG)}}
    with ask(service, route, stream=True, headers={"X-Request-ID": f"stream-{route}"}, **call) as answer:
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert "X-RateLimit-Limit" in answer.headers
        lines = answer.iter_lines()
        assert next(lines) == b": waiting"
        assert len(service_simulator.generations) == 1
        assert service_simulator.generations[0].finished is None, "the head comes before the pictures"
        text = b"\n".join(lines).decode()
    kind = {"generations": "image_generation", "edits": "image_edit"}[route]
    events = events_of(text)
    assert [name for name, _ in events] == [f"{kind}.completed"] * 2
    for name, data in events:
        assert data["type"] == name
        assert data.keys() == {
            *("type", "b64_json", "created_at", "size", "quality", "background", "output_format", "seed")
        }
        assert opened(base64.b64decode(data["b64_json"])).size == (64, 64)
    line = log_of(service, f"stream-{route}")
    assert (line["status"], line["mode"]) == (200, "txt2img" if route == "generations" else "img2img")
    assert line["seconds"] > 1.4
    assert line["webui_seconds"] > 1.4
    assert len(line["seeds"]) == 2


def test_a_stream_whose_job_is_cancelled(service: Service, service_simulator: Simulator) -> None:
    service_simulator.set_fault("hang-before:times=1")
    own = {"X-Request-ID": uuid4().hex}
    with ask(service, json={**SMALL, "stream": True}, headers=own, stream=True) as answer:
        lines = answer.iter_lines()
        assert next(lines) == b": waiting"
        assert requests.delete(f"{service.url}/requests/{own['X-Request-ID']}", timeout=DEADLINE_S).status_code == 204
        ((name, data),) = events_of(b"\n".join(lines).decode())
    service_simulator.clear_faults()
    assert name == "error"
    assert data["type"] == "error"
    assert data["error"]["code"] == "cancelled"
    assert data["error"].keys() == {"message", "type", "param", "code"}
    line = log_of(service, own["X-Request-ID"])
    assert (line["status"], line["code"]) == (200, "cancelled")


def test_a_stream_that_takes_longer_than_its_caller_waits(service: Service, service_simulator: Simulator) -> None:
    service_simulator.set_fault("hang-before:times=1")
    answer = ask(service, json={**SMALL, "stream": True}, headers={"Prefer": "wait=1"})
    service_simulator.clear_faults()
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=1")
    ((name, data),) = events_of(answer.text)
    assert (name, data["error"]["code"]) == ("error", "webui_timeout")


def test_what_is_refused_at_once_has_its_status(service: Service) -> None:
    for fields, status in (({"n": 99}, 400), ({"model": "none such"}, 404), ({"response_format": "url"}, 400)):
        answer = ask(service, json={**SMALL, "stream": True, **fields})
        assert (answer.status_code, bool(error_of(answer))) == (status, True)


def test_a_stream_with_a_key_is_painted_once(service: Service, service_simulator: Simulator) -> None:
    service_simulator.set_fault("slow:seconds=1.2:times=1")
    key = {"Idempotency-Key": uuid4().hex}
    with ThreadPoolExecutor(3) as threads:
        texts = [
            answer.text
            for answer in threads.map(lambda _: ask(service, json={**SMALL, "stream": True}, headers=key), range(3))
        ]
    pictures = {data["b64_json"] for text in texts for _, data in events_of(text)}
    assert len(pictures) == 1
    assert len(service_simulator.generations) == 1
    assert ask(service, json=SMALL, headers=key).json()["data"][0]["b64_json"] in pictures


def test_a_stream_of_what_is_there_says_that_it_is_a_replay(service: Service, service_simulator: Simulator) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    first, second = (ask(service, json={**SMALL, "stream": True}, headers=key) for _ in range(2))
    assert [answer.headers.get("Idempotency-Replayed") for answer in (first, second)] == [None, "true"]
    assert events_of(first.text)[0][1]["b64_json"] == events_of(second.text)[0][1]["b64_json"]
    assert len(service_simulator.generations) == 1


def hang_up_while_painting(service: Service, webui: Simulator, body: dict[str, Any], *headers: str) -> None:
    data = json.dumps(body).encode()
    head = ["POST /v1/images/generations HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall("\r\n".join([*head, f"Content-Length: {len(data)}", "", ""]).encode() + data)
        wait_until(lambda: len(webui.generations) == 1, "the job runs")


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_hangs_up_stops_its_job(service: Service, service_simulator: Simulator, stream: bool) -> None:
    service_simulator.set_fault("hang-before:times=1")
    hang_up_while_painting(service, service_simulator, {**SMALL, "stream": stream})
    wait_until(lambda: any(one.route == "interrupt" for one in service_simulator.requests), "the job is interrupted")
    service_simulator.clear_faults()
    wait_until(lambda: ask(service, json=SMALL).status_code == 200, "the next one is painted")


def test_with_a_key_it_goes_on_and_is_found(service: Service, service_simulator: Simulator) -> None:
    service_simulator.set_fault("slow:seconds=1.5:times=1")
    key = uuid4().hex
    hang_up_while_painting(service, service_simulator, {**SMALL, "stream": True}, f"Idempotency-Key: {key}")
    answer = ask(service, json={**SMALL, "stream": True}, headers={"Idempotency-Key": key})
    assert [name for name, _ in events_of(answer.text)] == ["image_generation.completed"]
    assert len(service_simulator.generations) == 1
    assert not [one for one in service_simulator.requests if one.route == "interrupt"]


def test_a_service_that_stops_waits_for_a_stream(tmp_path: Path) -> None:
    with Simulator() as webui, running_service(tmp_path, webui.url, workers=1) as service:
        service.wait_until_answering()
        webui.set_fault("slow:seconds=3:times=1")
        with ask(service, json={**SMALL, "stream": True}, stream=True) as answer:
            lines = answer.iter_lines()
            assert next(lines) == b": waiting"
            with ThreadPoolExecutor(1) as threads:
                stopped = threads.submit(service.stop)
                wait_until(lambda: service.get("/health").status_code == 503, "the service drains")
                refused = ask(service, json={**SMALL, "stream": True})
                assert (refused.status_code, error_of(refused)["code"]) == (503, "draining")
                assert refused.headers["X-Should-Retry"] == "true"
                events = events_of(b"\n".join(lines).decode())
                assert stopped.result() == 0
        assert [name for name, _ in events] == ["image_generation.completed"]


# Failures.


@pytest.fixture
def crowded(tmp_path: Path, service_simulator: Simulator) -> Iterator[Service]:
    """Nobody may wait for the one WebUI."""
    service_simulator.clear_faults()
    service_simulator.forget_requests()
    settings = {"SD_QUEUE_LIMIT": "0", "SD_TIMEOUT": "2"}
    with running_service(tmp_path, service_simulator.url, workers=1, **settings) as service:
        service.wait_until_answering()
        yield service
    service_simulator.clear_faults()


@pytest.mark.parametrize("stream", [False, True])
def test_queue_full_and_timeout(crowded: Service, service_simulator: Simulator, stream: bool) -> None:
    service_simulator.set_fault("hang-before:times=1")
    body = {**SMALL, "stream": stream}
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(ask, crowded, json=body)
        wait_until(lambda: len(service_simulator.generations) == 1, "the first one is painted")
        error = error_of(full := ask(crowded, json=body))
        assert (full.status_code, error["type"], error["code"]) == (503, "server_error", "queue_full")
        assert full.headers["X-Should-Retry"] == "true"
        late = first.result()
    if stream:
        ((_, data),) = events_of(late.text)
        assert (late.status_code, data["error"]["code"]) == (200, "webui_timeout")
    else:
        assert (late.status_code, error_of(late)["code"]) == (400, "webui_timeout")
        assert late.headers["X-Should-Retry"] == "false"
    assert len(service_simulator.generations) == 1


def test_a_job_that_is_cancelled_is_not_asked_for_again(service: Service, service_simulator: Simulator) -> None:
    service_simulator.set_fault("hang-before:times=1")
    own = uuid4().hex
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask, service, json=SMALL, headers={"X-Request-ID": own})
        wait_until(lambda: len(service_simulator.generations) == 1, "the job runs")
        assert requests.delete(f"{service.url}/requests/{own}", timeout=DEADLINE_S).status_code == 204
        answer = waiting.result()
    service_simulator.clear_faults()
    error = error_of(answer)
    assert (answer.status_code, error["type"], error["code"]) == (400, "job_error", "cancelled")
    assert answer.headers["X-Should-Retry"] == "false"


def test_metrics_know_the_entrance(service: Service) -> None:
    assert ask(service, json=SMALL).status_code == 200
    text = requests.get(f"{service.root}/metrics", timeout=DEADLINE_S).text
    counted = [line for line in text.splitlines() if 'route="/v1/images/generations"' in line and "_requests_" in line]
    assert any('door="openai"' in line and 'status="200"' in line for line in counted), counted
