"""Bad input is refused at the door: with one clear answer, and without a word to the WebUI."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import BAD_REQUESTS, BadRequest
from tests.running import PREFIX

#: Of what a caller sent, so much may come back in one place.
MOST_ECHOED_CHARS = 200


def test_no_name_stands_for_two_cases() -> None:
    names = [bad.name for bad in BAD_REQUESTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("bad", BAD_REQUESTS, ids=lambda bad: bad.name.encode("ascii", "backslashreplace").decode())
def test_bad_request(client: FlaskClient, simulator: Simulator, bad: BadRequest) -> None:
    answer = client.post(
        f"{PREFIX}/{bad.route}", data=bad.body, content_type=bad.content_type, headers=dict(bad.headers)
    )

    problem = problem_of(answer)
    assert (problem["status"], problem["code"]) == (bad.status, bad.code), problem
    assert {entry["field"] for entry in problem.get("errors", [])} == bad.fields
    assert bad.says in problem["detail"]
    assert not problem["retryable"]
    assert simulator.generations == []


@pytest.mark.parametrize("route", ["txt2img", "img2img", "inpainting"])
@pytest.mark.parametrize("sent", ["Q" * 1_000_000, "Q" * 10_001])
@pytest.mark.parametrize("field", ["prompt", "steps", "model", "image", "response_format", "unknown", "key"])
def test_little_of_what_came_is_echoed(client: FlaskClient, route: str, field: str, sent: str) -> None:
    body = {sent: 1} if field == "key" else {field: sent}
    answer = client.post(f"{PREFIX}/{route}", json=body)

    problem_of(answer)
    assert answer.status_code == 422
    assert max(map(len, re.findall("Q+", answer.text)), default=0) <= MOST_ECHOED_CHARS
    assert len(answer.data) < 4000


def test_a_flood_of_unknown_fields_gets_a_short_answer(client: FlaskClient) -> None:
    answer = client.post(f"{PREFIX}/txt2img", json={f"field{number}": number for number in range(1000)})

    assert len(problem_of(answer)["errors"]) == 50
    assert len(answer.data) < 20_000


def test_every_field_that_is_wrong_is_told_with_what_came(client: FlaskClient) -> None:
    body = {"prompt": " ", "steps": 0, "cfg_scale": "7", "width": 100, "sampler": "Eular a"}
    errors = {entry["field"]: entry for entry in problem_of(client.post(f"{PREFIX}/txt2img", json=body))["errors"]}

    assert {name: entry["received"] for name, entry in errors.items()} == body
    assert errors["steps"]["message"] == "must be between 1 and 150"
    assert errors["cfg_scale"]["message"] == "must be a number; send 7, without the quotes"
    assert errors["width"]["message"] == "must be a multiple of 8 between 64 and 2048"


def test_very_many_fields_are_not_looked_at(client: FlaskClient) -> None:
    names = ",".join(f'"{number}":1' for number in range(50_000))
    answer = client.post(f"{PREFIX}/txt2img", data=f'{{{names},"7":2}}', content_type="application/json")
    assert problem_of(answer)["detail"] == "the body names more than 1000 fields"
