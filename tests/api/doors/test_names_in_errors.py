"""A door's errors name its own fields: whatever the service calls the value, its caller knows one name for it."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from api.schemas import FIELDS
from api.schemas.fields import HiresFields
from simulator import Simulator
from tests.api.answers import a1111_failure_of
from tests.api.bad_inputs import MASK, PNG, form, part, text
from tests.api.doors.openai_requests import HOLED, edit, error_of
from tests.conftest import MakeApp

GARBAGE = text(b"not a picture")

#: The fields of the service itself, a second pass's members as ``hires.steps``.
OWN = {name for fields in FIELDS.values() for name in fields.model_fields}
OWN |= {f"hires.{name}" for name in HiresFields.model_fields}

TXT2IMG = {"prompt": "a", "width": 64, "height": 64}
IMG2IMG = {**TXT2IMG, "init_images": [text(PNG)]}
MASKED = {**IMG2IMG, "mask": text(MASK)}
HIRES = {**TXT2IMG, "enable_hr": True}
ENLARGED = {"image": text(PNG), "upscaler_1": "Lanczos"}
UNIT = {"module": "reference_only", "image": text(PNG)}


def with_unit(**changes: Any) -> dict[str, Any]:
    return {**TXT2IMG, "alwayson_scripts": {"ControlNet": {"args": [{**UNIT, **changes}]}}}


#: By the service's own field: a route of A1111's, a body that is wrong in it, and how the error begins.
A1111: list[tuple[str, str, dict[str, Any], str]] = [
    ("prompt", "txt2img", {**TXT2IMG, "prompt": 1}, "prompt: must"),
    ("negative_prompt", "txt2img", {**TXT2IMG, "negative_prompt": 1}, "negative_prompt: must"),
    ("steps", "txt2img", {**TXT2IMG, "steps": 0}, "steps: must"),
    ("cfg_scale", "txt2img", {**TXT2IMG, "cfg_scale": 0}, "cfg_scale: must"),
    ("width", "txt2img", {**TXT2IMG, "width": 65}, "width: must"),
    ("height", "txt2img", {**TXT2IMG, "height": 65}, "height: must"),
    ("seed", "txt2img", {**TXT2IMG, "seed": -7}, "seed: must"),
    ("sampler", "txt2img", {**TXT2IMG, "sampler_name": "nosuch"}, "sampler_name: is not"),
    ("sampler", "txt2img", {**TXT2IMG, "sampler_index": "nosuch"}, "sampler_index: is not"),
    ("scheduler", "txt2img", {**TXT2IMG, "scheduler": "nosuch"}, "scheduler: "),
    ("batch_size", "txt2img", {**TXT2IMG, "batch_size": 99}, "batch_size: must"),
    ("batch_size", "txt2img", {**TXT2IMG, "n_iter": 99}, "n_iter: must"),
    ("model", "txt2img", {**TXT2IMG, "model": "nosuch"}, "model: "),
    (
        "model",
        *("txt2img", {**TXT2IMG, "override_settings": {"sd_model_checkpoint": "nosuch"}}),
        "override_settings.sd_model_checkpoint: ",
    ),
    ("clip_skip", "txt2img", {**TXT2IMG, "clip_skip": 13}, "clip_skip: must"),
    (
        "clip_skip",
        *("txt2img", {**TXT2IMG, "override_settings": {"CLIP_stop_at_last_layers": 13}}),
        "override_settings.CLIP_stop_at_last_layers: must",
    ),
    ("loras", "txt2img", {**TXT2IMG, "prompt": "a <lora:nosuch:1>"}, "prompt: has a tag"),
    ("image", "img2img", {**IMG2IMG, "init_images": [GARBAGE]}, "init_images: must"),
    ("image", "img2img", TXT2IMG, "init_images: is required"),
    ("strength", "img2img", {**IMG2IMG, "denoising_strength": 2}, "denoising_strength: must"),
    ("resize_mode", "img2img", {**IMG2IMG, "resize_mode": 3}, "resize_mode: must"),
    ("mask", "img2img", {**MASKED, "mask": GARBAGE}, "mask: must"),
    ("mask_mode", "img2img", {**MASKED, "inpainting_mask_invert": 2}, "inpainting_mask_invert: must"),
    ("mask_blur", "img2img", {**MASKED, "mask_blur": 65}, "mask_blur: must"),
    ("inpaint_area", "img2img", {**MASKED, "inpaint_full_res": 2}, "inpaint_full_res: must"),
    ("inpaint_padding", "img2img", {**MASKED, "inpaint_full_res_padding": 257}, "inpaint_full_res_padding: must"),
    ("inpaint_fill", "img2img", {**MASKED, "inpainting_fill": 4}, "inpainting_fill: must"),
    ("reference", "txt2img", with_unit(image=GARBAGE), "alwayson_scripts.ControlNet.args[0].image: must"),
    ("reference_weight", "txt2img", with_unit(weight=2), "alwayson_scripts.ControlNet.args[0].weight: must"),
    ("reference_method", "txt2img", with_unit(module="canny"), "alwayson_scripts.ControlNet.args[0].module: only"),
    ("hires", "txt2img", {**HIRES, "enable_hr": "perhaps"}, "enable_hr: must"),
    ("hires.scale", "txt2img", {**HIRES, "hr_scale": 9}, "hr_scale: must"),
    ("hires.width", "txt2img", {**HIRES, "hr_resize_x": 65, "hr_resize_y": 128}, "hr_resize_x: must"),
    ("hires.height", "txt2img", {**HIRES, "hr_resize_x": 128, "hr_resize_y": 65}, "hr_resize_y: must"),
    ("hires.height", "txt2img", {**HIRES, "hr_resize_x": 64, "hr_resize_y": 64}, "hr_resize_y: the final picture"),
    ("hires.upscaler", "txt2img", {**HIRES, "hr_upscaler": "nosuch"}, "hr_upscaler: is not"),
    ("hires.steps", "txt2img", {**HIRES, "hr_second_pass_steps": -1}, "hr_second_pass_steps: must"),
    ("hires.strength", "txt2img", {**HIRES, "denoising_strength": 2}, "denoising_strength: must"),
    ("image", "extra-single-image", {**ENLARGED, "image": GARBAGE}, "image: must"),
    ("scale", "extra-single-image", {**ENLARGED, "upscaling_resize": 9}, "upscaling_resize: must"),
    (
        "width",
        *("extra-single-image", {**ENLARGED, "resize_mode": 1, "upscaling_resize_w": 65, "upscaling_resize_h": 128}),
        "upscaling_resize_w: must",
    ),
    (
        "height",
        *("extra-single-image", {**ENLARGED, "resize_mode": 1, "upscaling_resize_w": 128, "upscaling_resize_h": 65}),
        "upscaling_resize_h: must",
    ),
    ("upscaler", "extra-single-image", {**ENLARGED, "upscaler_1": "nosuch"}, "upscaler_1: is not"),
]

#: A door has no word for these: how an answer looks is its own.
NOT_OF_A1111 = {"response_format"}


@pytest.mark.parametrize(("own", "route", "body", "begins"), A1111)
def test_a1111(
    client: FlaskClient, simulator: Simulator, own: str, route: str, body: dict[str, Any], begins: str
) -> None:
    failure = a1111_failure_of(client.post(f"/sdapi/v1/{route}", json=body))
    assert failure["error"].startswith(begins)
    assert failure["code"] in ("validation_error", "model_not_found")
    assert simulator.generations == []


def of_generations(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "generations", {"json": {"prompt": "a", "size": "64x64", **fields}}


def of_edits(*pieces: bytes, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "edits", edit(*pieces, **fields)


def masked(**fields: Any) -> tuple[str, dict[str, Any]]:
    return of_edits(part("mask", HOLED, "m.png"), **fields)


BAD_PICTURE = b"not a picture"

#: By the service's own field: a call of OpenAI's door that is wrong in it, and the name in the error.
OPENAI: list[tuple[str, tuple[str, dict[str, Any]], str]] = [
    *((name, of_generations(**{name: 1}), name) for name in ("prompt", "negative_prompt", "model", "scheduler")),
    *((name, of_generations(**{name: 99_999}), name) for name in ("steps", "cfg_scale", "clip_skip")),
    *((name, of_generations(**{name: "nosuch"}), name) for name in ("seed", "sampler", "model", "reference")),
    ("steps", of_generations(quality="best"), "quality"),
    ("width", of_generations(size="65x64"), "size"),
    ("height", of_generations(size="64x65"), "size"),
    ("batch_size", of_generations(n=99), "n"),
    ("response_format", of_generations(response_format="base64"), "response_format"),
    ("loras", of_generations(loras=[{"name": "add-detail"}, {"name": "blue coat", "weight": 9}]), "loras[1].weight"),
    ("loras", of_generations(prompt="a <lora:nosuch:1>"), "prompt"),
    ("hires", of_generations(hires=1), "hires"),
    *(
        (f"hires.{name}", of_generations(hires={name: "nosuch"}), f"hires.{name}")
        for name in ("scale", "upscaler", "steps", "strength")
    ),
    ("hires.width", of_generations(hires={"width": 65, "height": 128}), "hires.width"),
    ("hires.height", of_generations(hires={"width": 128, "height": 65}), "hires.height"),
    ("reference_weight", of_generations(reference=text(PNG), reference_weight=9), "reference_weight"),
    ("reference_method", of_generations(reference=text(PNG), reference_method="nosuch"), "reference_method"),
    ("image", of_edits(image=None), "image"),
    ("image", of_edits(image=BAD_PICTURE), "image"),
    ("image", of_edits(part("image[]", BAD_PICTURE, "a.png"), image=None), "image[]"),
    (
        "image",
        of_edits(part("image[]", BAD_PICTURE, "a.png"), part("image[]", PNG, "b.png"), image=None),
        "image[0]",
    ),
    (
        "reference",
        of_edits(part("image[]", PNG, "a.png"), part("image[]", BAD_PICTURE, "b.png"), image=None),
        "image[1]",
    ),
    ("reference", of_edits(part("image[]", PNG), part("image[]", GARBAGE.encode()), image=None), "image[1]"),
    (
        "reference",
        of_edits(*(part("image[]", PNG, "a.png"),) * 2, part("reference", PNG, "r.png"), image=None),
        "image[1]",
    ),
    ("reference", of_edits(part("reference", BAD_PICTURE, "r.png")), "reference"),
    ("strength", of_edits(strength=2), "strength"),
    ("strength", of_edits(input_fidelity="some"), "input_fidelity"),
    ("resize_mode", of_edits(resize_mode="nosuch"), "resize_mode"),
    ("mask", of_edits(part("mask", BAD_PICTURE, "m.png")), "mask"),
    *((name, masked(**{name: "nosuch"}), name) for name in ("mask_mode", "mask_blur", "inpaint_area", "inpaint_fill")),
    ("inpaint_padding", masked(inpaint_padding=999), "inpaint_padding"),
]

#: Pictures are enlarged in the service's own API and in A1111's.
NOT_OF_OPENAI = {"scale", "upscaler"}


@pytest.mark.parametrize(("own", "call", "param"), OPENAI)
def test_openai(
    client: FlaskClient, simulator: Simulator, own: str, call: tuple[str, dict[str, Any]], param: str
) -> None:
    route, arguments = call
    error = error_of(client.post(f"/v1/images/{route}", **arguments))
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")
    assert simulator.generations == []


def test_defaults_of_the_service_have_the_doors_names(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, SD_SAMPLER="UniPC").test_client()
    answer = client.post("/sdapi/v1/txt2img", json={**TXT2IMG, "steps": 1})
    assert {"steps", "sampler_name"} == {one.partition(":")[0] for one in a1111_failure_of(answer)["error"].split("; ")}
    error = error_of(client.post("/v1/images/generations", json={"prompt": "a", "size": "64x64", "steps": 1}))
    assert {"steps", "sampler"} == {one.partition(":")[0] for one in error["message"].split("; ")}


def test_what_no_webui_can_has_the_doors_names(make_app: MakeApp) -> None:
    with Simulator(controlnet="none") as webui:
        client = make_app(webui.url).test_client()
        failure = a1111_failure_of(client.post("/sdapi/v1/txt2img", json=with_unit()))
        pictures = (part("image[]", PNG, name) for name in ("a.png", "b.png"))
        error = error_of(client.post("/v1/images/edits", **edit(*pictures, image=None)))
    assert failure["error"].startswith("alwayson_scripts.ControlNet.args[0].image: no WebUI of this service")
    assert failure["error"].endswith("in one, or leave the unit out")
    assert error["message"].startswith("image[1]: no WebUI of this service")
    assert error["message"].endswith("in one, or ask without image[1]")
    assert (failure["code"], error["code"]) == ("capability_missing", "capability_missing")


def test_every_field_has_a_case() -> None:
    assert {case[0] for case in A1111} == OWN - NOT_OF_A1111
    assert {case[0] for case in OPENAI} == OWN - NOT_OF_OPENAI


@pytest.mark.parametrize("name", ["image[0]", "image[1]"])
def test_names_of_errors_are_not_names_of_fields(client: FlaskClient, name: str) -> None:
    body = form(part("prompt", b"a"), part("image", PNG, "a.png"), part(name, PNG, "b.png"))
    error = error_of(client.post("/v1/images/edits", data=body, content_type=edit()["content_type"]))
    assert error["param"] == name
