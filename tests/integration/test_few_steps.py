"""What a WebUI would always fail with is refused before it is sent, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import VALID
from tests.running import PREFIX, service_in_process
from tests.simulator.test_painting import FEW_STEPS

SMALL = {"width": 64, "height": 64, "seed": 5, "response_format": "url"}


@pytest.fixture(scope="module", params=["a1111", "forge"])
def webui(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    with Simulator(flavour=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def client(webui: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    with service_in_process(tmp_path_factory.mktemp("service"), webui.url) as app:
        yield app.test_client()


def paint(client: FlaskClient, strength: float | None, **fields: Any) -> Any:
    if strength is None:
        return client.post(f"{PREFIX}/txt2img", json={**VALID["txt2img"], **SMALL, **fields})
    body = {**VALID["img2img"], **SMALL, **fields, "strength": strength}
    return client.post(f"{PREFIX}/img2img", json=body)


@pytest.mark.parametrize(("sampler", "steps", "strength", "a1111", "forge"), FEW_STEPS)
def test_the_table(
    request: pytest.FixtureRequest,
    client: FlaskClient,
    webui: Simulator,
    sampler: str,
    steps: int,
    strength: float | None,
    a1111: str | None,
    forge: str | None,
) -> None:
    webui.forget_requests()
    answer = paint(client, strength, sampler=sampler, steps=steps)
    fails = a1111 if request.node.callspec.params["webui"] == "a1111" else forge
    if not fails:
        assert answer.status_code == 200, answer.text
        return
    problem = problem_of(answer)
    assert (problem["status"], problem["code"]) == (422, "validation_error")
    fields = ["steps", "sampler"] if strength is None else ["strength", "steps"]
    assert [error["field"] for error in problem["errors"]] == fields
    assert f"'{sampler}'" in problem["detail"]
    assert webui.generations == [], "nothing is sent"


@pytest.mark.parametrize("spelling", ["unipc", "UniPC Karras"])
def test_in_every_spelling(client: FlaskClient, webui: Simulator, spelling: str) -> None:
    problem = problem_of(paint(client, None, sampler=spelling, steps=2))
    assert problem["errors"][0] == {
        "field": "steps",
        "message": "must be at least 3 with the sampler 'UniPC'",
        "received": 2,
    }
    assert paint(client, None, sampler=spelling, steps=3).status_code == 200


def test_a_sampler_that_the_caller_did_not_name(webui: Simulator, tmp_path: Path) -> None:
    with service_in_process(tmp_path, webui.url, SD_SAMPLER="UniPC") as app:
        problem = problem_of(paint(app.test_client(), None, steps=1))
        assert [error["field"] for error in problem["errors"]] == ["steps", "sampler"]
        assert "received" not in problem["errors"][1]


def test_a_pool_sends_it_where_it_can_be_done(tmp_path: Path) -> None:
    with (
        Simulator() as a1111,
        Simulator(flavour="forge") as forge,
        service_in_process(tmp_path, f"{a1111.url},{forge.url}") as app,
    ):
        for _ in range(3):
            assert paint(app.test_client(), None, sampler="DPM++ 3M SDE", steps=1).status_code == 200
        assert (len(a1111.generations), len(forge.generations)) == (0, 3)
        assert json.loads(forge.generations[0].body)["sampler_name"] == "DPM++ 3M SDE"


@pytest.mark.parametrize(
    ("sampler", "steps", "on"),
    [
        *(("UniPC", 3, "a1111 forge"), ("UniPC", 4, "")),
        *(("DPM fast", 1, "a1111 forge"), ("DPM fast", 2, ""), ("DPM++ 2M SDE", 1, "a1111"), ("Euler", 1, "")),
    ],
)
def test_a_second_pass(
    request: pytest.FixtureRequest, client: FlaskClient, webui: Simulator, sampler: str, steps: int, on: str
) -> None:
    webui.forget_requests()
    answer = paint(client, None, sampler=sampler, steps=4, hires={"steps": steps})
    if request.node.callspec.params["webui"] not in on.split():
        assert answer.status_code == 200, answer.text
        return
    problem = problem_of(answer)
    assert (problem["status"], problem["code"]) == (422, "validation_error")
    assert [entry["field"] for entry in problem["errors"]] == ["hires.steps", "sampler"]
    assert webui.generations == []
