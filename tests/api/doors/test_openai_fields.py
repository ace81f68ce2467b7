"""What becomes of each field of OpenAI's Images API: carried, without effect, or refused by its name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from simulator import Simulator
from tests.api.bad_inputs import MASK, PNG, form, part, text
from tests.api.doors.openai_requests import HOLED, SMALL, edit, error_of, opened, pictures_of
from tests.conftest import MakeApp
from tests.services import picture_samples as samples

GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"


def painted(simulator: Simulator) -> dict[str, Any]:
    """What the WebUI was asked for."""
    (generation,) = simulator.generations
    return dict(json.loads(generation.body))


#: Fields, and what the WebUI receives.
CARRIED = [
    ({}, {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1, "batch_size": 1}),
    ({"n": 2}, {"batch_size": 2}),
    ({"n": "2"}, {"batch_size": 2}),
    ({"n": 2.0}, {"batch_size": 2}),
    ({"size": "128x64"}, {"width": 128, "height": 64}),
    ({"size": "auto"}, {"width": 512, "height": 512}),
    ({"size": None}, {"width": 512, "height": 512}),
    ({"negative_prompt": "people"}, {"negative_prompt": "people"}),
    ({"cfg_scale": "5.5", "seed": "7"}, {"cfg_scale": 5.5, "seed": 7}),
    ({"steps": "3"}, {"steps": 3}),
    ({"sampler": "Euler a", "scheduler": "Karras"}, {"sampler_name": "Euler a", "scheduler": "karras"}),
    ({"steps": None}, {"steps": 20}),
    ({"steps": None, "quality": "auto"}, {"steps": 20}),
    ({"steps": None, "quality": "standard"}, {"steps": 20}),
    ({"steps": None, "quality": "medium"}, {"steps": 20}),
    ({"steps": None, "quality": "low"}, {"steps": 12}),
    ({"steps": None, "quality": "high"}, {"steps": 30}),
    ({"steps": None, "quality": "hd"}, {"steps": 30}),
    ({"steps": None, "quality": "xhigh"}, {"steps": 40}),
    ({"steps": None, "quality": "max"}, {"steps": 50}),
    ({"quality": "medium", "steps": 2}, {"steps": 2}),
    ({"seed": None, "negative_prompt": None, "stream": None, "mask": None, "svg": None}, {"steps": 1}),
]


@pytest.mark.parametrize(("fields", "expected"), CARRIED)
def test_carried(client: FlaskClient, simulator: Simulator, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    answer = client.post(GENERATIONS, json={**SMALL, **fields})
    assert answer.status_code == 200, answer.text
    got = painted(simulator)
    assert {name: got[name] for name in expected} == expected
    assert len(answer.get_json()["data"]) == got["batch_size"]


def test_quality_asks_for_no_more_steps_than_there_may_be(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, MAX_STEPS="15").test_client()
    assert client.post(GENERATIONS, json={"prompt": "a", "size": "64x64", "quality": "max"}).status_code == 200
    assert painted(simulator)["steps"] == 15


#: Of edits: fields and pieces, and what the WebUI receives.
EDITED = [
    ({"size": "auto"}, (), {"width": 64, "height": 64, "denoising_strength": 0.75, "steps": 1, "mask": None}),
    ({"size": "128x128"}, (), {"width": 128, "height": 128}),
    ({"strength": "0.3"}, (), {"denoising_strength": 0.3}),
    ({"input_fidelity": "low"}, (), {"denoising_strength": 0.75}),
    ({"input_fidelity": "high"}, (), {"denoising_strength": 0.5}),
    ({"n": "2", "seed": "5"}, (), {"batch_size": 2, "seed": 5}),
    ({}, (part("mask", HOLED, "m.png"),), {"denoising_strength": 0.9, "mask_blur": 4, "inpainting_fill": 1}),
    ({"mask_blur": "0", "mask_mode": "alpha"}, (part("mask", HOLED, "m.png"),), {"mask_blur": 0}),
    ({"mask_mode": "white"}, (part("mask", MASK, "m.png"),), {"denoising_strength": 0.9}),
    ({"inpaint_area": "masked", "inpaint_padding": "8"}, (part("mask", HOLED),), {"inpaint_full_res": True}),
    ({"inpaint_fill": "fill", "input_fidelity": "high"}, (part("mask", HOLED),), {"inpainting_fill": 0}),
]


@pytest.mark.parametrize(("fields", "pieces", "expected"), EDITED)
def test_edited(
    client: FlaskClient,
    simulator: Simulator,
    fields: dict[str, Any],
    pieces: tuple[bytes, ...],
    expected: dict[str, Any],
) -> None:
    answer = client.post(EDITS, **edit(*pieces, **fields))
    assert answer.status_code == 200, answer.text
    got = painted(simulator)
    assert {name: got.get(name) for name in expected} == expected


LORAS = [{"name": "add-detail", "weight": 0.5}]


def test_structured_fields(client: FlaskClient) -> None:
    calls = [(GENERATIONS, {"json": {**SMALL, "loras": LORAS}}), (EDITS, edit(loras=json.dumps(LORAS)))]
    for path, call in calls:
        answer = client.post(path, **call)
        assert answer.status_code == 200, answer.text
        assert [lora["name"] for lora in answer.get_json()["used"]["loras"]] == ["add-detail"]


def test_hires(client: FlaskClient) -> None:
    answer = client.post(GENERATIONS, json={**SMALL, "hires": {"scale": 2}})
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["size"] == "128x128"


def test_a_large_reference_picture(client: FlaskClient) -> None:
    """As a file, as base64 in a form and in JSON: more than a request's texts may have together."""
    large = samples.encode(samples.noise(700, 700))
    assert len(large) > 2**20
    as_text = text(large)
    calls = [
        (EDITS, edit(part("reference", large, "r.png"))),
        (EDITS, edit(reference=as_text)),
        (GENERATIONS, {"json": {**SMALL, "reference": as_text}}),
    ]
    for path, call in calls:
        answer = client.post(path, **call)
        assert answer.status_code == 200, answer.text
        assert answer.get_json()["used"]["reference"]["method"] == "adapter"


def test_hires_has_its_own_sides(client: FlaskClient) -> None:
    hires = {"scale": 2, "width": 128, "height": 128}
    error = client.post(GENERATIONS, json={**SMALL, "hires": hires}).get_json()["error"]
    assert error["message"] == "hires.scale: cannot be sent with width and height; send one or the other"


def test_a_mask_without_steps_has_those_of_inpainting(client: FlaskClient, simulator: Simulator) -> None:
    body = form(part("prompt", b"a"), part("image", PNG, "a.png"), part("mask", HOLED, "b.png"))
    assert client.post(EDITS, data=body, content_type=edit()["content_type"]).status_code == 200
    assert painted(simulator)["steps"] == 30


#: How programs send the picture.
PICTURES = {
    "image": part("image", PNG, "upload"),
    "image[]": part("image[]", PNG, "p.png"),
    "a blob": part("image", PNG, "blob").replace(b'"blob"\r\n', b'"blob"\r\nContent-Type: text/html\r\n'),
    "no file name": part("image[]", PNG),
    "base64": part("image", text(PNG).encode()),
    "a data URI": part("image[]", b"data:image/png;base64," + text(PNG).encode()),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_however_it_is_sent(client: FlaskClient, simulator: Simulator, name: str) -> None:
    texts = (
        part("prompt", b"a harbour").replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"),
        part("steps", b"1"),
    )
    answer = client.post(EDITS, data=form(*texts, PICTURES[name]), content_type=edit()["content_type"])
    assert answer.status_code == 200, answer.text
    assert painted(simulator)["init_images"] == [text(PNG)]


@pytest.mark.parametrize(
    "fields",
    [
        {"background": "auto", "moderation": "low", "style": "vivid", "user": "u", "safety_identifier": {"a": [1]}},
        {"background": "opaque", "output_format": "png", "output_compression": 100, "response_format": "b64_json"},
        {"output_compression": "100", "stream": "false"},
        {"stream": 0},
    ],
)
def test_without_effect(client: FlaskClient, simulator: Simulator, fields: dict[str, Any]) -> None:
    answers = [client.post(GENERATIONS, json={**SMALL, "seed": 1, **more}) for more in ({}, fields)]
    assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
    assert answers[0].get_json()["data"] == answers[1].get_json()["data"]


#: Fields, the first that is named, and words of the sentence.
REFUSED = [
    ({"prompt": None}, "prompt", "is required"),
    ({"prompt": " "}, "prompt", "must not be blank"),
    ({"n": 0}, "n", "must be between 1 and 4 (got 0)"),
    ({"n": "many"}, "n", 'must be an integer (got "many")'),
    ({"n": 1.5}, "n", "must be an integer"),
    ({"n": 4, "seed": 4294967295}, "seed", "with n 4"),
    ({"size": "big"}, "size", '"512x512"'),
    ({"size": 512}, "size", '"512x512"'),
    ({"size": "100x64"}, "size", "each side must be a multiple of 8 between 64 and 2048 (got 100x64)"),
    ({"size": "64x100"}, "size", "each side must be a multiple of 8 between 64 and 2048 (got 64x100)"),
    ({"size": "63x63"}, "size", "size: each side must be a multiple of 8 between 64 and 2048 (got 63x63)"),
    ({"size": "2048x2048"}, "size", "width x height must be at most"),
    ({"steps": 0}, "steps", "must be between 1 and 150"),
    ({"steps": 2.7}, "steps", "must be an integer"),
    ({"quality": "best"}, "quality", "must be one of auto, standard, medium, low, high, hd, xhigh, max"),
    ({"quality": ["low"]}, "quality", "must be one of"),
    ({"quality": "low"}, "quality", "cannot be combined with steps"),
    ({"background": "transparent"}, "background", "transparent pictures are not available"),
    ({"output_format": "gif"}, "output_format", '"png", "jpeg" or "webp"'),
    ({"output_format": "svg"}, "output_format", '(got "svg")'),
    ({"output_compression": 50}, "output_compression", "must be 100"),
    ({"output_format": "webp", "output_compression": 101}, "output_compression", "between 0 and 100"),
    ({"output_format": "webp", "output_compression": True}, "output_compression", "between 0 and 100"),
    ({"response_format": "base64"}, "response_format", '"b64_json" or "url"'),
    ({"response_format": "url"}, "response_format", "PUBLIC_URL"),
    ({"stream": "maybe"}, "stream", "true or false"),
    ({"partial_images": 1}, "partial_images", "stream"),
    ({"partial_images": 4, "stream": True}, "partial_images", "between 0 and 3"),
    ({"stream": True, "response_format": "url"}, "response_format", "stream"),
    ({"complexity": "low"}, "complexity", "quality"),
    ({"svg": {"model": "m"}}, "svg", "PNG, JPEG or WebP"),
    ({"frame_count": 2}, "frame_count", "do not move"),
    ({"frame_duration_ms": 100}, "frame_duration_ms", "do not move"),
    ({"markup": "x"}, "markup", "mask"),
    ({"width": 64}, "width", "use size"),
    ({"height": 64}, "height", "use size"),
    ({"batch_size": 2}, "batch_size", "use n"),
    ({"image": "x"}, "image", "only of images/edits"),
    ({"mask": "x"}, "mask", "only of images/edits"),
    ({"strength": 0.5}, "strength", "only of images/edits"),
    ({"input_fidelity": "low"}, "input_fidelity", "only of images/edits"),
    ({"qualitty": "low"}, "qualitty", "did you mean 'quality'?"),
    ({"zzz": 1}, "zzz", "unknown field"),
    ({"sampler": "none such"}, "sampler", "is not a sampler of this service"),
]


@pytest.mark.parametrize(("fields", "param", "says"), REFUSED)
def test_refused(client: FlaskClient, simulator: Simulator, fields: dict[str, Any], param: str, says: str) -> None:
    error = error_of(answer := client.post(GENERATIONS, json={**SMALL, **fields}))
    assert (answer.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "validation_error")
    assert answer.headers["X-Should-Retry"] == "false"
    assert error["param"] == param
    assert says in error["message"]
    assert simulator.generations == []


#: The same of edits: arguments of a form.
REFUSED_EDITS = [
    (edit(image=None), "image", "is required"),
    (edit(part("image[]", PNG, "b.png")), "image[]", "only one picture"),
    (edit(part("image", PNG, "b.png")), "image", "only one picture"),
    (
        edit(*(part("image[]", PNG, name) for name in "abc"), image=None),
        *("image[]", "only one picture can be edited"),
    ),
    (edit(part("mask", PNG, "m.png")), "mask", "mask_mode"),
    (edit(part("mask", samples.encode(Image.new("RGBA", (64, 64), "red")), "m.png")), "mask", "mask_mode"),
    (edit(part("mask", samples.encode(Image.new("RGBA", (32, 64))), "m.png")), "mask", "as large as the image"),
    (edit(mask_mode="white"), "mask_mode", "there is none"),
    (edit(mask_blur="4"), "mask_blur", "there is none"),
    (edit(input_fidelity="some"), "input_fidelity", '"low" or "high"'),
    (edit(input_fidelity="low", strength="0.5"), "input_fidelity", "strength"),
    (edit(strength="2"), "strength", "between 0 and 1"),
    (edit(image=b"GIF89a not taken"), "image", "GIF"),
    (edit(part("image", b"https://example.com/a.png"), image=None), "image", "fetched"),
    (edit(size="63x64"), "size", "each side must be"),
    (edit(part("prompt", b"again")), "prompt", "more than once"),
    (edit(part("mask", HOLED, "m.png"), part("mask", HOLED, "n.png")), "mask", "more than once"),
    (edit(markup="x"), "markup", "mask"),
    (edit(part("image[]", b"no picture", "a.png"), image=None), "image[]", "PNG, JPEG, WebP or BMP"),
]


@pytest.mark.parametrize(("call", "param", "says"), REFUSED_EDITS)
def test_refused_edits(client: FlaskClient, simulator: Simulator, call: dict[str, Any], param: str, says: str) -> None:
    answer = client.post(EDITS, **call)
    error = error_of(answer)
    assert (answer.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "validation_error")
    assert error["param"] == param
    assert says in error["message"]
    assert simulator.generations == []


def test_one_sentence_has_all_that_is_wrong(client: FlaskClient) -> None:
    fields = {"n": 99, "size": "64x63", "background": "transparent", "zzz": 1, "model": "none such"}
    message = error_of(client.post(GENERATIONS, json=fields))["message"]
    assert all(f"{name}: " in message for name in ("n", "size", "background", "zzz", "prompt", "model"))


def test_of_many_unknown_fields_some_are_named_and_the_rest_counted(client: FlaskClient) -> None:
    message = error_of(client.post(GENERATIONS, json={**SMALL, **{f"zzz{i}": i for i in range(500)}}))["message"]
    assert len(message) < 2000
    assert "more" in message


def test_a_secret_in_an_unknown_field_comes_back_nowhere(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    for fields in ({"auth": "user:pa55"}, {"user": "pa55", "n": 99}, {"safety_identifier": "pa55", "zzz": "pa55"}):
        answer = client.post(GENERATIONS, json={**SMALL, **fields})
        assert error_of(answer)["param"] in ("auth", "n", "zzz")
        assert "pa55" not in answer.text + str(answer.headers) + caplog.text


def test_an_edit_keeps_what_its_mask_keeps(client: FlaskClient) -> None:
    picture = samples.gradient(64, 64)
    call = edit(part("mask", HOLED, "m.png"), image=samples.encode(picture), mask_blur=0, response_format="b64_json")
    (made,) = pictures_of(client.post(EDITS, **call))
    assert made.convert("RGB").crop((0, 0, 64, 16)).tobytes() == picture.convert("RGB").crop((0, 0, 64, 16)).tobytes()
    inside = (20, 20, 44, 44)
    assert made.convert("RGB").crop(inside).tobytes() != picture.convert("RGB").crop(inside).tobytes()


@pytest.mark.parametrize(("form_", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_formats(make_app: MakeApp, simulator: Simulator, form_: str, kind: str) -> None:
    client = make_app(simulator.url, PUBLIC_URL="https://pictures.example/sd").test_client()
    answer = client.post(GENERATIONS, json={**SMALL, "output_format": form_, "n": 2})
    body = answer.get_json()
    assert body["output_format"] == form_
    assert answer.content_length == len(answer.data)
    assert [(image.format, image.size) for image in pictures_of(answer)] == [(kind, (64, 64))] * 2
    stored = client.get(f"/api/v1/ai/generation/image/{answer.headers['X-Image-Id']}", buffered=True)
    assert opened(stored.data).format == "PNG"

    named = client.post(GENERATIONS, json={**SMALL, "output_format": form_, "response_format": "url"}).get_json()
    (item,) = named["data"]
    assert item.keys() == {"url", "seed"}
    assert item["url"].startswith("https://pictures.example/sd/api/v1/ai/generation/image/")
    fetched = client.get(item["url"].removeprefix("https://pictures.example/sd"), buffered=True)
    assert opened(fetched.data).format == kind


def test_compression(client: FlaskClient) -> None:
    sizes = {}
    for form_ in ("jpeg", "webp"):
        for compression in (0, 50, 100):
            body = {**SMALL, "size": "256x256", "seed": 1, "output_format": form_, "output_compression": compression}
            (item,) = client.post(GENERATIONS, json=body).get_json()["data"]
            sizes[form_, compression] = len(item["b64_json"])
    for form_ in ("jpeg", "webp"):
        assert sizes[form_, 0] < sizes[form_, 50] < sizes[form_, 100]


def test_two_pictures_have_two_seeds(client: FlaskClient) -> None:
    first, second = client.post(GENERATIONS, json={**SMALL, "seed": 5, "n": 2}).get_json()["data"]
    assert (first["seed"], second["seed"]) == (5, 6)
    assert first["b64_json"] != second["b64_json"]


def test_what_is_answered(client: FlaskClient) -> None:
    answer = client.post(GENERATIONS, json=SMALL, query_string={"api-version": "2025-04-01"})
    body = answer.get_json()
    assert body.keys() == {"created", "data", "size", "output_format", "background", "model"}
    assert isinstance(body["created"], int)
    assert (body["size"], body["output_format"], body["background"]) == ("64x64", "png", "opaque")
    assert body["model"] == "sd-v1-5"
    assert body["data"][0].keys() == {"b64_json", "seed"}
    assert "total;dur=" in answer.headers["Server-Timing"]
