"""A LoRA that was asked for is proven to have been used, or the request fails: never a picture without it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import problem_of
from tests.conftest import MakeApp
from tests.integration.conftest import Start
from tests.running import PREFIX, wait_until

SMALL = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 2, "seed": 7}
TAGGED = {**SMALL, "prompt": "a harbour <lora:add-detail:0.8>"}


def generate(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(f"{PREFIX}/txt2img", json={**SMALL, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def jobs(webui: Simulator) -> list[dict[str, Any]]:
    """Without the small pictures by which LoRAs are tried."""
    sent = [json.loads(received.body) for received in webui.generations]
    return [job for job in sent if not job["prompt"].endswith("a small picture")]


def available(client: FlaskClient) -> int:
    return int(client.get(f"{PREFIX}/health").get_json()["webuis"]["available"])


@pytest.mark.parametrize("flavour", ["a1111", "a1111-1.6", "forge", "sdnext", "sdcpp"])
def test_a_tag_and_the_field_are_the_same(start: Start, flavour: str) -> None:
    webui = Simulator(flavour=flavour)
    client = start(webui)
    plain = generate(client)
    by_field = generate(client, loras=[{"name": "add-detail", "weight": 0.8}])
    by_tag = generate(client, prompt="a harbour <lora:ADD-DETAIL:0.8>")

    assert plain["image_base64"] != by_field["image_base64"] == by_tag["image_base64"]
    assert "used" not in plain
    assert [lora["name"] for lora in by_field["used"]["loras"]] == ["add-detail"]
    assert (by_field["used"]["loras"][0]["hash"] is None) == (flavour == "sdcpp")
    sent = jobs(webui)
    assert sent[1]["prompt"] == sent[2]["prompt"]
    if flavour == "sdcpp":
        assert sent[1]["lora"] == [{"path": "add-detail.safetensors", "multiplier": 0.8}]
        assert sent[1]["prompt"] == "a harbour"
    else:
        assert sent[1]["prompt"] == "<lora:add-detail:0.8> a harbour"
        assert "lora" not in sent[1]
    assert "lora" not in sent[0]


@pytest.mark.parametrize("route", ["img2img", "inpainting"])
def test_all_three_routes_take_them(start: Start, route: str) -> None:
    from tests.api.bad_inputs import VALID

    client = start(Simulator())
    body = {**VALID[route], "steps": 2, "seed": 7, "loras": [{"name": "add-detail"}], "batch_size": 2}
    answer = client.post(f"{PREFIX}/{route}", json=body)
    assert answer.status_code == 200, answer.text
    assert [lora["name"] for lora in answer.get_json()["used"]["loras"]] == ["add-detail"]


def test_a_form_has_them_as_json(start: Start) -> None:
    webui = Simulator()
    fields = {**SMALL, "loras": '[{"name": "red dress v1.2", "weight": -0.5}]'}
    answer = start(webui).post(f"{PREFIX}/txt2img", data=fields, content_type="multipart/form-data")
    assert answer.status_code == 200, answer.text
    assert jobs(webui)[0]["prompt"] == "<lora:red dress v1.2:-0.5> a harbour"


@pytest.mark.parametrize(
    ("loras", "field", "says"),
    [
        ([{"name": "add-detial"}], "loras[0].name", "did you mean 'add-detail'?"),
        ([{"name": "dress"}], "loras[0].name", "known: add-detail, red dress v1.2, blue coat"),
        ([{"name": "add-detail"}, {"name": "ADD-detail"}], "loras[1].name", "is asked for twice"),
        ([{"name": "add-detail"}, {"name": "../add-detail"}], "loras[1].name", "is not a LoRA available with this mod"),
    ],
)
def test_what_is_not_there(start: Start, loras: Any, field: str, says: str) -> None:
    webui = Simulator()
    told = problem_of(start(webui).post(f"{PREFIX}/txt2img", json={**SMALL, "loras": loras}))
    assert (told["status"], told["code"]) == (422, "validation_error")
    assert [entry["field"] for entry in told["errors"]] == [field]
    assert says in told["detail"]
    assert webui.generations == []


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("<lora:nosuch:1>", "has a tag for 'nosuch', which is not a LoRA available with this model"),
        ("<lora:dress:1>", "is not a LoRA available with this model"),
        ("<lora:clothes/red dress v1.2:1>", "is not a LoRA available with this model"),
        ("<lora:add-detail:0.5:1>", "one weight"),
        ("<hypernet:add-detail:1>", "would leave it out without a word"),
        ("<lora:add-detail:1> <lora:add-detail:1>", "is asked for twice"),
    ],
)
def test_tags_that_a_webui_would_ignore(start: Start, tag: str, says: str) -> None:
    webui = Simulator()
    told = problem_of(start(webui).post(f"{PREFIX}/txt2img", json={**SMALL, "prompt": f"a harbour {tag}"}))
    assert (told["status"], [entry["field"] for entry in told["errors"]]) == (422, ["prompt"])
    assert says in told["detail"]
    assert webui.generations == []


@pytest.mark.parametrize("flavour", ["koboldcpp", "koboldcpp-1.115"])
def test_no_proof_no_lora(start: Start, flavour: str) -> None:
    webui = Simulator(flavour=flavour)
    client = start(webui)
    for fields, field in (({"loras": [{"name": "add-detail"}]}, "loras"), ({"prompt": TAGGED["prompt"]}, "prompt")):
        told = problem_of(client.post(f"{PREFIX}/txt2img", json={**SMALL, **fields}))
        assert (told["status"], told["code"], told["retryable"]) == (422, "capability_missing", False)
        assert [entry["field"] for entry in told["errors"]] == [field]
    assert webui.generations == []


@pytest.mark.parametrize(("name", "flavour"), [("corrupt", "a1111"), ("foreign", "a1111"), ("nomatch", "sdcpp")])
def test_what_does_nothing_is_refused(start: Start, name: str, flavour: str) -> None:
    """The list has them all; a small picture shows that they do nothing."""
    webui = Simulator(flavour=flavour)
    client = start(webui)
    for _ in range(2):
        told = problem_of(client.post(f"{PREFIX}/txt2img", json={**SMALL, "loras": [{"name": name}]}))
        assert (told["status"], told["code"], told["retryable"]) == (422, "capability_missing", False)
        assert [entry["field"] for entry in told["errors"]] == ["loras[0].name"]
        assert "changes nothing in pictures of this model" in told["detail"]
    assert len(webui.generations) == 2, "it is tried once"
    assert jobs(webui) == []
    told = problem_of(client.post(f"{PREFIX}/txt2img", json={**SMALL, "prompt": f"a <lora:{name}:1>"}))
    assert [entry["field"] for entry in told["errors"]] == ["prompt"]


def test_each_lora_is_tried_once_with_each_model(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    both = [{"name": "add-detail"}, {"name": "blue coat"}]
    generate(client, loras=both[:1])
    generate(client, loras=both)
    generate(client, loras=both)
    tried = [json.loads(received.body)["prompt"] for received in webui.generations]
    assert [prompt for prompt in tried if prompt.endswith("a small picture")] == [
        "a small picture",
        "<lora:add-detail:1.0> a small picture",
        "a small picture",
        "<lora:blue coat:1.0> a small picture",
    ]


@pytest.mark.parametrize("flavour", ["a1111", "forge", "sdnext", "sdcpp"])
def test_one_that_is_dropped_after_its_trial(start: Start, flavour: str) -> None:
    webui = Simulator(flavour=flavour)
    client = start(webui)
    loras = [{"name": "add-detail"}]
    generate(client, loras=loras)
    stored = len(list_of_images(client))
    webui.set_fault("lora-drop", times=1)
    told = problem_of(client.post(f"{PREFIX}/txt2img", json={**SMALL, "loras": loras}))
    assert (told["status"], told["code"], told["reason"]) == (502, "webui_error", "lora_dropped")
    assert told["retryable"] is True
    assert len(list_of_images(client)) == stored
    generate(client, loras=loras)


def list_of_images(client: FlaskClient) -> list[str]:
    text = client.get("/metrics").text
    return [line for line in text.splitlines() if line.startswith("sd_api_images_stored_total")]


def test_another_webui_makes_it_good(start: Start) -> None:
    first, second = Simulator(), Simulator()
    client = start(first, second)
    first.set_fault("lora-drop")
    for _ in range(3):
        assert generate(client, loras=[{"name": "add-detail"}])["used"]["loras"][0]["name"] == "add-detail"
    assert len(jobs(second)) == 3


def test_jobs_go_to_whom_has_the_lora(start: Start) -> None:
    able, other = Simulator(), Simulator(flavour="koboldcpp", models=("v1-5-pruned-emaonly.safetensors",))
    client = start(other, able)
    for _ in range(3):
        generate(client, loras=[{"name": "add-detail"}])
    assert len(jobs(able)) == 3
    assert other.generations == []
    able.set_fault("refuse", route="*")
    wait_until(lambda: available(client) == 1, "the one with LoRAs is down")
    told = problem_of(client.post(f"{PREFIX}/txt2img", json=TAGGED))
    assert (told["status"], told["code"]) == (503, "webui_unavailable")


def test_answers_name_loras_also_where_the_operator_turned_that_off(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    generate(client)  # the WebUI has been looked at: the service knows the option as it was
    options = f"{webui.url}/sdapi/v1/options"
    requests.post(options, json={"lora_add_hashes_to_infotext": False}, timeout=20)
    generate(client, loras=[{"name": "add-detail"}])
    assert requests.get(options, timeout=20).json()["lora_add_hashes_to_infotext"] is False


@pytest.mark.parametrize(
    "prompt",
    ["a harbour # with boats", "a harbour <3: <b", "# a harbour\na boat", "a<b <lora<lora:blue coat:1>:corrupt:1>"],
)
def test_nothing_in_a_prompt_swallows_a_tag(start: Start, prompt: str) -> None:
    webui = Simulator()
    body = generate(start(webui), prompt=prompt, loras=[{"name": "add-detail"}])
    assert "add-detail" in [lora["name"] for lora in body["used"]["loras"]]
    assert "<lora:corrupt" not in jobs(webui)[0]["prompt"]


def test_one_does_nothing_and_the_other_is_away(start: Start) -> None:
    """Whether the one that is down could do it is not known."""
    first, second = Simulator(), Simulator()
    client = start(first, second)
    generate(client)
    second.set_fault("refuse", route="*")
    wait_until(lambda: available(client) == 1, "one is down")
    told = problem_of(client.post(f"{PREFIX}/txt2img", json={**SMALL, "loras": [{"name": "foreign"}]}))
    assert (told["status"], told["code"]) == (503, "webui_unavailable")
    second.clear_faults()

    def is_refused() -> bool:
        answer = client.post(f"{PREFIX}/txt2img", json={**SMALL, "loras": [{"name": "foreign"}]})
        return answer.status_code == 422

    wait_until(is_refused, "both have tried it")


def test_a_replay_says_the_same(start: Start) -> None:
    client = start(Simulator())
    answers = [
        client.post(f"{PREFIX}/txt2img", json=TAGGED, headers={"Idempotency-Key": "one"}).get_json() for _ in range(2)
    ]
    assert answers[0]["image_id"] == answers[1]["image_id"]
    assert answers[0]["used"] == answers[1]["used"]
    assert answers[0]["used"]["loras"]


def test_sdcpp_right_after_its_start(stack: ExitStack, make_app: MakeApp) -> None:
    """It refuses each LoRA until its list was read, and a restart may be shorter than the pause between two looks."""
    with Simulator(flavour="sdcpp") as webui:
        client = make_app(webui.url).test_client()
        generate(client, loras=[{"name": "add-detail"}])
        port = int(webui.url.rpartition(":")[2])
    stack.enter_context(Simulator(flavour="sdcpp", port=port))
    generate(client, loras=[{"name": "add-detail"}])


def test_a_base_that_one_webui_reports(start: Start) -> None:
    """stable-diffusion.cpp's server reports none."""
    client = start(Simulator(flavour="sdcpp"), Simulator())
    bases = {lora["name"]: lora["base"] for lora in client.get(f"{PREFIX}/options").get_json()["loras"]}
    assert bases["add-detail"] == "sd1"
    assert bases["nomatch"] is None
