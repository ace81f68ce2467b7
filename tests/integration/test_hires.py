"""A second pass that was asked for is proven by the picture's size and the upscaler's name, or the request fails."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import problem_of
from tests.integration.conftest import Start
from tests.running import PREFIX
from tests.services import picture_samples as samples

SMALL = {"prompt": "a harbour", "width": 64, "height": 128, "steps": 2, "seed": 7}


def generate(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(f"{PREFIX}/txt2img", json={**SMALL, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def refused(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    return problem_of(client.post(f"{PREFIX}/txt2img", json={**SMALL, **fields}))


def job(webui: Simulator) -> dict[str, Any]:
    """The last that was sent."""
    return dict(json.loads(webui.generations[-1].body))


def enlarged(webui: Simulator) -> list[str]:
    """By which upscalers pictures were enlarged alone."""
    sent = [request for request in webui.requests if request.path == "/sdapi/v1/extra-single-image"]
    return [json.loads(request.body)["upscaler_1"] for request in sent]


@pytest.mark.parametrize("flavour", ["a1111", "a1111-1.6", "forge", "sdcpp"])
def test_a_second_pass(start: Start, flavour: str) -> None:
    webui = Simulator(flavour=flavour)
    client = start(webui)
    plain = generate(client)
    body = generate(client, hires={}, batch_size=2)

    assert (plain["width"], plain["height"], "used" in plain) == (64, 128, False)
    assert (body["width"], body["height"]) == (128, 256)
    assert body["used"] == {"hires": {"upscaler": "Latent"}}
    for image in body["images"]:
        picture = samples.pixels(base64.b64decode(image["image_base64"].partition(",")[2]))
        assert picture.size == (image["width"], image["height"]) == (128, 256)
    sent = job(webui)
    assert (sent["enable_hr"], sent["hr_resize_x"], sent["hr_resize_y"]) == (True, 128, 256)
    assert (sent["hr_upscaler"], sent["denoising_strength"]) == ("Latent", 0.7)
    assert sent["hr_steps" if flavour == "sdcpp" else "hr_second_pass_steps"] == 2
    assert "Latent" in client.get(f"{PREFIX}/options").get_json()["hires"]["upscalers"]


@pytest.mark.parametrize(
    ("hires", "size"),
    [
        ({"scale": 1.5}, (96, 192)),
        ({"scale": 1.3}, (80, 160)),
        ({"scale": 4, "upscaler": "4x-ultrasharp", "steps": 3, "strength": 0.3}, (256, 512)),
        ({"width": 72, "height": 128}, (72, 128)),
        ({"width": 256.0, "height": 256.0, "steps": 1.0}, (256, 256)),
    ],
)
def test_how_large(start: Start, hires: dict[str, Any], size: tuple[int, int]) -> None:
    body = generate(start(Simulator()), hires=hires)
    assert (body["width"], body["height"]) == size


def test_everything_together(start: Start) -> None:
    client = start(Simulator(flavour="forge"))
    loras = [{"name": "add-detail", "weight": 0.5}]
    body = generate(client, hires={"upscaler": "Lanczos"}, loras=loras, clip_skip=2)
    assert body["used"]["hires"] == {"upscaler": "Lanczos"}
    assert body["used"]["loras"][0]["name"] == "add-detail"


def test_a_form_has_it_as_json(start: Start) -> None:
    fields = {**SMALL, "hires": '{"scale": 1.5}'}
    answer = start(Simulator()).post(f"{PREFIX}/txt2img", data=fields, content_type="multipart/form-data")
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["width"] == 96


@pytest.mark.parametrize("flavour", ["sdnext", "koboldcpp", "koboldcpp-1.115"])
def test_where_nothing_would_prove_it(start: Start, flavour: str) -> None:
    webui = Simulator(flavour=flavour)
    client = start(webui)
    told = refused(client, hires={})
    assert (told["status"], told["code"], told["retryable"]) == (422, "capability_missing", False)
    assert [entry["field"] for entry in told["errors"]] == ["hires"]
    assert webui.generations == []
    assert client.get(f"{PREFIX}/options").get_json()["hires"] is None


@pytest.mark.parametrize("name", ["R-ESRGAN 4x+", "None", "nosuch", "SwinIR 4x"])
def test_upscalers_that_are_not_there(start: Start, name: str) -> None:
    """A1111 lists some whose weights it does not have, and uses Lanczos without a word."""
    webui = Simulator()
    told = refused(start(webui), hires={"upscaler": name})
    assert (told["status"], told["code"]) == (422, "validation_error")
    assert [entry["field"] for entry in told["errors"]] == ["hires.upscaler"]
    assert "known: Latent, " in told["detail"]
    assert "4x-UltraSharp" in told["detail"]
    assert webui.generations == []


@pytest.mark.parametrize("flavour", ["a1111", "forge", "sdcpp"])
@pytest.mark.parametrize(("fault", "reason"), [("hires-drop", "wrong_upscaler"), ("upscaler-fake", "wrong_upscaler")])
def test_what_is_left_out_without_a_word(start: Start, flavour: str, fault: str, reason: str) -> None:
    webui = Simulator(flavour=flavour)
    client = start(webui)
    webui.set_fault(fault, times=1)
    told = refused(client, hires={})
    assert (told["status"], told["code"], told["reason"], told["retryable"]) == (502, "webui_error", reason, True)
    generate(client, hires={})


def test_an_upscaler_whose_weights_are_not_there(start: Start) -> None:
    """A1111 lists LDSR in the same way with and without them, and says that it used it."""
    webui = Simulator()
    client = start(webui)
    for _ in range(2):
        told = refused(client, hires={"upscaler": "LDSR"})
        assert (told["status"], told["code"], told["retryable"]) == (422, "capability_missing", False)
        assert [entry["field"] for entry in told["errors"]] == ["hires.upscaler"]
    assert enlarged(webui) == ["LDSR"], "it is tried once"
    assert len(webui.generations) == 1, "and nothing is painted"


def test_an_upscaler_is_tried_once(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    for _ in range(2):
        assert generate(client, hires={"upscaler": "4x-UltraSharp"})["used"] == {"hires": {"upscaler": "4x-UltraSharp"}}
    generate(client, hires={"upscaler": "Latent"})
    generate(client, hires={"upscaler": "Lanczos"})
    assert enlarged(webui) == ["4x-UltraSharp"]


def test_another_webui_has_the_weights(start: Start) -> None:
    first, second = Simulator(), Simulator()
    client = start(first, second)
    first.set_fault("upscaler-fake")
    for _ in range(3):
        generate(client, hires={"upscaler": "4x-UltraSharp"})
    assert len(first.generations) == len(enlarged(first)) <= 1, "nothing was painted there"
    assert len(second.generations) - len(enlarged(second)) == 3


def test_a_picture_of_the_first_size_is_no_result(start: Start) -> None:
    webui = Simulator()
    client = start(webui)
    webui.set_fault("wrong-size", times=1)
    assert refused(client, hires={})["reason"] == "wrong_size"


def test_another_webui_makes_it_good(start: Start) -> None:
    first, second = Simulator(), Simulator()
    client = start(first, second)
    first.set_fault("hires-drop")
    for _ in range(3):
        assert generate(client, hires={})["width"] == 128
    assert len(second.generations) == 3
    assert len(first.generations) <= 1, "it is not asked again soon"


def test_sides_are_multiples_of_what_the_webui_can(start: Start) -> None:
    webui = Simulator(flavour="sdcpp")
    client = start(webui)
    assert generate(client, hires={"scale": 1.5}, width=128)["width"] == 192
    told = refused(client, hires={"scale": 2}, width=72)
    assert "multiples of 64" in told["detail"]
    told = refused(client, hires={"width": 72, "height": 128})
    assert "multiples of 64" in told["detail"]
    told = refused(client, hires={"scale": 1.3})
    assert [entry["field"] for entry in told["errors"]] == ["hires.scale"]
    assert len(webui.generations) == 1


def test_the_operators_bounds(start: Start) -> None:
    client = start(Simulator(), MAX_HIRES_PIXELS="1048576", MAX_STEPS="30")
    told = refused(client, hires={"scale": 2.5}, width=512, height=512)
    assert "at most 1048576 pixels" in told["detail"]
    told = refused(client, hires={"steps": 31})
    assert "hires.steps: must be between 0 and 30" in told["detail"]
    generate(client, hires={"scale": 2, "steps": 30}, width=512, height=512)
