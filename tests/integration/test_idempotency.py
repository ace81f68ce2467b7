"""Retries over real gunicorn with two workers: one key, one generation, one answer."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from simulator import Simulator
from tests.running import PREFIX, Service, running_service, wait_until

BODY = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}


def keyed(key: str, **more: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Idempotency-Key": key, **more}}


def test_the_same_answer_twice_and_one_generation(service: Service, service_simulator: Simulator) -> None:
    key = str(uuid4())
    answers = [service.post("/txt2img", BODY, **keyed(key)) for _ in range(6)]  # over both workers
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None] + ["true"] * 5
    assert len(service_simulator.generations) == 1


def test_concurrent_retries_wait_for_the_one(service: Service, service_simulator: Simulator) -> None:
    key = str(uuid4())
    service_simulator.set_fault("slow:seconds=0.5")
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: service.post("/txt2img", BODY, **keyed(key)), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(service_simulator.generations) == 1


def test_another_body_is_a_mismatch(service: Service, service_simulator: Simulator) -> None:
    key = str(uuid4())
    assert service.post("/txt2img", BODY, **keyed(key)).status_code == 200
    other = service.post("/txt2img", BODY | {"steps": 2}, **keyed(key))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(service_simulator.generations) == 1


def test_a_failed_attempt_is_tried_anew(service: Service, service_simulator: Simulator) -> None:
    key = str(uuid4())
    service_simulator.set_fault("nan", times=1)
    assert service.post("/txt2img", BODY, **keyed(key)).status_code == 502
    assert service.post("/txt2img", BODY, **keyed(key)).status_code == 200


def test_the_picture_itself_is_given_again(service: Service) -> None:
    key = str(uuid4())
    first, second = (service.post("/txt2img", BODY, **keyed(key, Accept="image/png")) for _ in range(2))
    assert first.content == second.content
    assert first.headers["X-Image-Id"] == second.headers["X-Image-Id"]


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, "a\tb"])
def test_a_malformed_key_names_the_header(service: Service, service_simulator: Simulator, key: str) -> None:
    answer = service.post("/txt2img", BODY, headers={"Idempotency-Key": key.encode()})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert service_simulator.generations == []


def test_a_caller_that_hangs_up_finds_its_picture_later(service: Service, service_simulator: Simulator) -> None:
    key = str(uuid4())
    service_simulator.set_fault("slow:seconds=2")
    body = b'{"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}'
    head = f"POST {PREFIX}/txt2img HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: len(service_simulator.generations) == 1, "the job runs")
    answer = service.post("/txt2img", BODY, **keyed(key))
    assert (answer.status_code, answer.headers.get("Idempotency-Replayed")) == (200, "true")
    assert len(service_simulator.generations) == 1
    assert "interrupt" not in {request.route for request in service_simulator.requests}


def test_a_retry_after_a_restart_gets_the_first_answer(tmp_path, service_simulator: Simulator) -> None:
    service_simulator.clear_faults()
    service_simulator.forget_requests()
    key = str(uuid4())
    contents = []
    for _ in range(2):
        with running_service(tmp_path, service_simulator.url, workers=1) as service:
            service.wait_until_answering()
            contents.append(service.post("/txt2img", BODY, **keyed(key)).content)
    assert contents[0] == contents[1]
    assert len(service_simulator.generations) == 1
