"""What is asked of an upscaler, and what its answer must show."""

from __future__ import annotations

import base64
import html
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from sd_client.errors import DroppedError, InvalidAnswerError, UselessUpscalerError
from sd_client.models import Capabilities, UpscaleParams
from sd_client.upscaling import STEP, factor, read_object, read_upscaled, spelling
from tests.services import picture_samples as samples

BEFORE = samples.noise(80, 64)
PARAMS = UpscaleParams(
    image=samples.encode(BEFORE), from_width=80, from_height=64, width=160, height=128, upscaler="Sharp"
)
SHARP = BEFORE.resize((160, 128), Image.Resampling.LANCZOS).filter(ImageFilter.SHARPEN)


def answer(picture: Image.Image = SHARP, *, info: str = "Postprocess upscaler: Sharp") -> dict[str, Any]:
    return {"html_info": f"<p>Postprocess upscale by: 2.0, {html.escape(info)}</p>", "image": samples.encode(picture)}


sides = st.integers(16, 3000)


@given(sides, sides, st.floats(1.1, 4))
def test_the_factor_is_enough_for_both_sides(width: int, height: int, scale: float) -> None:
    """A WebUI computes with the factor as it is in JSON, and rounds down to multiples of 8."""
    due = int(width * scale) // STEP * STEP, int(height * scale) // STEP * STEP
    params = replace(PARAMS, from_width=width, from_height=height, width=due[0], height=due[1])
    by = json.loads(json.dumps(factor(params)))
    found = width * by // STEP * STEP, height * by // STEP * STEP
    assert found == due
    assert by <= scale * (1 + 1e-12)


def test_the_spelling_is_the_webuis() -> None:
    able = Capabilities(checkpoints=(), upscalers=("Lanczos", "R-ESRGAN 4x+"), upscales=True)
    assert spelling(able, "r-esrgan_4X+") == "R-ESRGAN 4x+"
    assert spelling(able, "Nearest") is None
    assert spelling(replace(able, upscales=False), "Lanczos") is None


@pytest.mark.parametrize(
    ("name", "info"),
    [
        ("Sharp", "Postprocess upscaler: Sharp"),
        ("Sharp", "Postprocess upscaler: Sharp, Postprocess upscaler 2: None"),
        ("a, b: c", 'Postprocess upscaler: "a, b: c"'),
        ("<4x> & é+", "Postprocess upscaler: <4x> & é+"),
    ],
)
def test_the_answer_names_the_upscaler(name: str, info: str) -> None:
    assert read_upscaled(answer(info=info), PARAMS, name).used.upscaled_by == name


@pytest.mark.parametrize(
    "info",
    [
        "Postprocess upscaler: Sharper",
        "Postprocess upscaler: Sharp 2",
        "Postprocess upscaler: Lanczos",
        "upscaler: Sharp",
        "Postprocess upscaler 2: Sharp",
        "",
    ],
)
def test_an_answer_that_names_another_one(info: str) -> None:
    with pytest.raises(DroppedError, match="does not name"):
        read_upscaled(answer(info=info), PARAMS, "Sharp")


@pytest.mark.parametrize("info", [None, 7, ["Postprocess upscaler: Sharp"]])
def test_an_answer_without_words(info: object) -> None:
    with pytest.raises(DroppedError):
        read_upscaled({**answer(), "html_info": info}, PARAMS, "Sharp")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [(160, 128), (168, 128), (320, 256)])
def test_pixels_of_lanczos_are_those_of_another_upscaler(size: tuple[int, int], kind: str) -> None:
    """However the picture was sent, and whatever it became."""
    sent = samples.encode(BEFORE, kind)
    params = replace(PARAMS, image=sent, width=size[0], height=size[1])
    fake = samples.pixels(sent).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    with pytest.raises(UselessUpscalerError):
        read_upscaled(answer(fake), params, "Sharp")
    info = "Postprocess upscaler: Lanczos"
    assert read_upscaled(answer(fake, info=info), params, "Lanczos").used.upscaled_by == "Lanczos"


def test_one_part_that_differs_is_enough() -> None:
    mixed = BEFORE.resize((160, 128), Image.Resampling.LANCZOS)
    mixed.paste(SHARP.crop((112, 80, 160, 128)), (112, 80))
    read_upscaled(answer(mixed), PARAMS, "Sharp")


@pytest.mark.parametrize("size", [(80, 64), (152, 128), (160, 120), (176, 128), (1600, 1280)])
def test_another_size(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidAnswerError) as caught:
        read_upscaled(answer(SHARP.resize(size)), PARAMS, "Sharp")
    assert caught.value.reason == "wrong_size"


# --- The answer's body ----------------------------------------------------------------------------------------------

TEXT = base64.b64encode(b"a picture's bytes").decode()


@pytest.mark.parametrize(
    "body",
    [
        {"html_info": "<p>x</p>", "image": TEXT},
        {"image": TEXT, "html_info": "<p>x</p>"},
        {"html_info": 'says "image":"xyz" and \\', "image": TEXT},
        {"html_info": "", "image": TEXT, "more": {"nested": [1, "image"]}},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_the_picture_is_decoded_beforehand(body: dict[str, Any], indent: int | None) -> None:
    read = read_object(json.dumps(body, indent=indent).encode())
    assert read == {**body, "image": b"a picture's bytes"}


@pytest.mark.parametrize(
    "body",
    [
        {"html_info": "", "image": "no base64!"},
        {"html_info": "", "image": None},
        {"html_info": ""},
        {"html_info": "", "image": f"data:image/png;base64,{TEXT}"},
    ],
)
def test_anything_else_is_as_a_parser_has_it(body: dict[str, Any]) -> None:
    assert read_object(json.dumps(body).encode()) == body


def test_a_picture_that_lies_elsewhere_is_not_the_answers() -> None:
    read = read_object(json.dumps({"inner": {"image": TEXT}, "html_info": ""}).encode())
    assert read["image"] is None


@pytest.mark.parametrize("body", [b"", b"[1]", b"null", b'{"image":"aaaa"', b'{"image":"aaaa', b"\xff"])
def test_what_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError):
        read_object(body)
