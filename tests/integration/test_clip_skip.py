"""The layer of CLIP that a request names, or the service's default, is used, whatever jobs were before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import problem_of
from tests.running import PREFIX, service_in_process

SMALL = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 2, "seed": 7}

Start = Callable[..., tuple[Simulator, FlaskClient]]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """A WebUI and the service in front of it."""
    with ExitStack() as stack:

        def starting(flavour: str, **settings: str) -> tuple[Simulator, FlaskClient]:
            webui = stack.enter_context(Simulator(flavour=flavour))
            app = service_in_process(tmp_path_factory.mktemp("service"), webui.url, **settings)
            return webui, stack.enter_context(app).test_client()

        yield starting


def generate(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(f"{PREFIX}/txt2img", json={**SMALL, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def sent(webui: Simulator) -> list[Any]:
    jobs = [json.loads(received.body) for received in webui.generations]
    return [job["override_settings"].get("CLIP_stop_at_last_layers", job.get("clip_skip")) for job in jobs]


@pytest.mark.parametrize("flavour", ["a1111", "a1111-1.6", "forge", "sdnext", "sdcpp"])
def test_no_job_has_that_of_the_job_before(start: Start, flavour: str) -> None:
    webui, client = start(flavour)
    first = generate(client)
    second = generate(client, clip_skip=2)
    third = generate(client)
    assert first["image_base64"] == third["image_base64"] != second["image_base64"]
    has_option = flavour not in ("sdnext", "sdcpp")
    assert sent(webui)[1:] == [2, 1 if has_option else None]
    assert client.get(f"{PREFIX}/options").get_json()["clip_skip"] is True


def test_the_services_default(start: Start) -> None:
    webui, client = start("a1111", SD_CLIP_SKIP="2")
    default = generate(client)
    assert default["image_base64"] == generate(client, clip_skip=2)["image_base64"]
    assert default["image_base64"] != generate(client, clip_skip=1)["image_base64"]
    assert sent(webui) == [2, 2, 1]
    fields = client.get("/openapi.json").get_json()["components"]["schemas"]["Txt2ImgFields"]["properties"]
    assert fields["clip_skip"]["default"] == 2


def test_what_the_webuis_own_page_says_does_not_matter(start: Start) -> None:
    webui, client = start("a1111")
    plain = generate(client)
    requests.post(f"{webui.url}/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 3}, timeout=20)
    assert generate(client)["image_base64"] == plain["image_base64"]


@pytest.mark.parametrize("flavour", ["koboldcpp", "koboldcpp-1.115"])
def test_where_nothing_would_prove_it(start: Start, flavour: str) -> None:
    webui, client = start(flavour)
    told = problem_of(client.post(f"{PREFIX}/txt2img", json={**SMALL, "clip_skip": 2}))
    assert (told["status"], told["code"]) == (422, "capability_missing")
    assert [entry["field"] for entry in told["errors"]] == ["clip_skip"]
    assert webui.generations == []
    generate(client, clip_skip=1)
    assert client.get(f"{PREFIX}/options").get_json()["clip_skip"] is None


def test_a_default_that_no_webui_can_do(start: Start) -> None:
    _, client = start("koboldcpp", SD_CLIP_SKIP="2")
    told = problem_of(client.post(f"{PREFIX}/txt2img", json=SMALL))
    assert "SD_CLIP_SKIP" in told["detail"]
    generate(client, clip_skip=1)


def test_one_that_leaves_it_out_is_asked_where_there_is_no_other(start: Start) -> None:
    webui, client = start("a1111")
    webui.set_fault("clip-skip-drop", times=1)
    assert client.post(f"{PREFIX}/txt2img", json={**SMALL, "clip_skip": 2}).status_code == 502
    generate(client, clip_skip=2)
    generate(client)


@pytest.mark.parametrize(
    ("flavour", "fault"), [("sdcpp", "empty-info"), ("a1111", "no-info"), ("a1111", "clip-skip-drop")]
)
def test_it_must_be_told(start: Start, flavour: str, fault: str) -> None:
    webui, client = start(flavour)
    webui.set_fault(fault, times=1)
    told = problem_of(client.post(f"{PREFIX}/txt2img", json={**SMALL, "clip_skip": 2}))
    assert (told["status"], told["reason"], told["retryable"]) == (502, "wrong_clip_skip", True)
    generate(client, clip_skip=2)
