"""Whatever a WebUI does wrong, the caller gets one clear answer, and the next request works."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from simulator import Simulator
from simulator.faults import DROP_KINDS, KINDS
from tests.api.answers import problem_of
from tests.running import PREFIX, service_in_process, wait_until

PROMPT = "a secret harbour"
BODY = {"prompt": PROMPT, "width": 64, "height": 64, "steps": 1, "sampler": "Euler"}

#: Status, code, reason, retryable, and a part of the detail.
Expected = tuple[int, str, str | None, bool, str]

ANSWERS: dict[str, Expected] = {
    "refuse": (502, "webui_error", "connection_lost", True, "the connection to the WebUI broke"),
    "reset-before": (502, "webui_error", "connection_lost", True, "the connection to the WebUI broke"),
    "reset-after": (502, "webui_error", "connection_lost", True, "the connection to the WebUI broke"),
    "cut": (502, "webui_error", "connection_lost", True, "the connection to the WebUI broke"),
    "garbage": (502, "webui_error", "invalid_answer", True, "is not JSON"),
    "not-json": (502, "webui_error", "invalid_answer", True, "is not JSON"),
    "oom": (503, "gpu_out_of_memory", None, False, "the GPU does not have enough memory"),
    "nan": (502, "webui_error", "http_500", False, "the WebUI answered 500"),
    "load-failed": (502, "webui_error", "http_500", False, "the WebUI answered 500"),
    "error-plain": (502, "webui_error", "http_500", False, "the WebUI answered 500"),
    "error-json": (502, "webui_error", "http_500", False, "the WebUI answered 500"),
    "busy": (503, "webui_unavailable", None, True, "busy"),
    "rate-limited": (503, "webui_unavailable", None, True, "busy"),
    "unauthorized": (502, "webui_error", "http_401", False, "user name and password"),
    "disabled": (502, "webui_error", "http_404", True, "its API may be off"),
    "not-base64": (502, "webui_error", "damaged_image", True, "the WebUI sent a damaged picture"),
    "not-picture": (502, "webui_error", "damaged_image", True, "the WebUI sent a damaged picture"),
    "empty-images": (502, "webui_error", "missing_images", True, "the WebUI returned 0 of 1 pictures"),
    "damaged": (502, "webui_error", "damaged_image", True, "the WebUI sent a damaged picture"),
    "too-few": (502, "webui_error", "missing_images", True, "the WebUI returned 0 of 1 pictures"),
    "wrong-size": (502, "webui_error", "wrong_size", True, "the WebUI painted 40x32 instead of 64x64"),
    "wrong-model": (502, "webui_error", "wrong_model", True, "the WebUI painted with another model"),
    "wrong-sampler": (502, "webui_error", "wrong_sampler", True, "the WebUI painted with another sampler"),
}
#: fault -> the exception that the WebUI names
EXCEPTIONS = {"nan": "NansException", "load-failed": "AttributeError", "error-json": "RuntimeError"}
HARMLESS = {"slow:seconds=0.05", "interim", "no-info", "empty-info", "jpeg", "webp", *DROP_KINDS}
TOO_LATE = {"hang-before", "hang-middle", "drip"}


def test_every_fault_is_tried() -> None:
    assert {*ANSWERS, *TOO_LATE, *(name.partition(":")[0] for name in HARMLESS)} == KINDS


def assert_problem(problem: dict[str, Any], expected: Expected) -> None:
    *values, words = expected
    assert [problem["status"], problem["code"], problem.get("reason"), problem["retryable"]] == values
    assert words in problem["detail"]


@pytest.mark.parametrize("fault", sorted(ANSWERS))
def test_fault(client: FlaskClient, simulator: Simulator, fault: str) -> None:
    simulator.set_fault(fault, times=1)
    answer = client.post(f"{PREFIX}/txt2img", json=BODY)

    problem = problem_of(answer)
    assert_problem(problem, ANSWERS[fault])
    assert EXCEPTIONS.get(fault, "") in problem["detail"]
    assert PROMPT not in answer.text
    assert ("Retry-After" in answer.headers) == (problem["status"] == 503 and problem["retryable"])
    assert len(simulator.generations) <= 1, "a job that may have been painted is never sent again"
    assert client.post(f"{PREFIX}/txt2img", json=BODY).status_code == 200


@pytest.mark.parametrize("fault", ["oom", "error-json", "nan", "unauthorized"])
@pytest.mark.parametrize("flavour", ["forge", "sdnext", "sdcpp", "a1111-1.6"])
def test_errors_of_other_servers(tmp_path_factory: pytest.TempPathFactory, flavour: str, fault: str) -> None:
    body = {**BODY, "sampler": "Euler"}
    with (
        Simulator(flavour=flavour) as webui,
        service_in_process(tmp_path_factory.mktemp("service"), webui.url) as app,
    ):
        client = app.test_client()
        webui.set_fault(fault, times=1)
        answer = client.post(f"{PREFIX}/txt2img", json=body)
        assert_problem(problem_of(answer), ANSWERS[fault])
        assert PROMPT not in answer.text
        assert client.post(f"{PREFIX}/txt2img", json=body).status_code == 200


@pytest.mark.parametrize("fault", sorted(HARMLESS))
def test_what_is_no_fault_for_a_caller(client: FlaskClient, simulator: Simulator, fault: str) -> None:
    simulator.set_fault(fault)
    answer = client.post(f"{PREFIX}/txt2img", json=BODY, headers={"Accept": "image/png"})

    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.data)) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))


@pytest.fixture(scope="module")
def without_page() -> Iterator[Simulator]:
    """A WebUI that does not tell whose job runs: whatever does is interrupted."""
    with Simulator(has_page=False) as made:
        yield made


@pytest.fixture(scope="module")
def impatient(without_page: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """A service that lets a job run for a second."""
    folder = tmp_path_factory.mktemp("impatient")
    with service_in_process(folder, without_page.url, SD_TIMEOUT="1") as made:
        yield made


@pytest.mark.parametrize("fault", sorted(TOO_LATE))
def test_a_webui_that_does_not_end(impatient: Flask, without_page: Simulator, fault: str) -> None:
    client, simulator = impatient.test_client(), without_page
    simulator.forget_requests()
    simulator.set_fault(fault, times=1)

    problem = problem_of(client.post(f"{PREFIX}/txt2img", json=BODY))
    assert (problem["status"], problem["code"], problem["retryable"]) == (504, "webui_timeout", False)
    assert problem["detail"] == "the job took longer than allowed and is being interrupted"
    wait_until(lambda: any(one.route == "interrupt" for one in simulator.requests), "the job is interrupted")
    assert client.get(f"{PREFIX}/health").json["webuis"]["busy"] == 1, "it is taken as busy until it has ended"
    simulator.clear_faults()
    assert client.post(f"{PREFIX}/txt2img", json=BODY).status_code == 200


def test_a_webui_that_cannot_be_interrupted(tmp_path: Path) -> None:
    with Simulator(flavour="sdcpp") as webui, service_in_process(tmp_path, webui.url, SD_TIMEOUT="1") as app:
        webui.set_fault("hang-before", times=1)
        problem = problem_of(app.test_client().post(f"{PREFIX}/txt2img", json=BODY))
        assert (problem["status"], problem["code"]) == (504, "webui_timeout")
        assert problem["detail"] == "the job took longer than allowed; its WebUI cannot interrupt it and goes on"
        webui.clear_faults()


def test_a_webui_that_is_gone(tmp_path_factory: pytest.TempPathFactory) -> None:
    webui = Simulator()
    webui.start()
    with service_in_process(tmp_path_factory.mktemp("service"), webui.url) as app:
        client = app.test_client()
        assert client.post(f"{PREFIX}/txt2img", json=BODY).status_code == 200
        webui.close()
        answer = client.post(f"{PREFIX}/txt2img", json=BODY)
        problem = problem_of(answer)
        assert (problem["status"], problem["code"], problem["retryable"]) == (503, "webui_unavailable", True)
        assert int(answer.headers["Retry-After"]) > 0
        assert client.get(f"{PREFIX}/health").json["status"] == "unhealthy"
        listed = client.get(f"{PREFIX}/models").json["models"]
        assert len(listed) == 3, "what was seen is still shown"
