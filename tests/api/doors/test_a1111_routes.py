"""A1111's routes as programs find them, with the service in this process."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from api.doors.a1111_answers import Painted, painted
from api.doors.translation import Translation
from api.schemas import Bounds, FieldSet, check
from sd_client.models import Checkpoint
from services.generation import GeneratedImage, Generation
from simulator import Simulator
from tests.api.answers import a1111_failure_of, problem_of
from tests.api.bad_inputs import MASK, PNG, text
from tests.api.description import assert_described, description, operations
from tests.conftest import MakeApp
from tests.running import PREFIX, service_in_process
from tests.services import picture_samples as samples

URL = "/sdapi/v1"
SMALL: dict[str, Any] = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}
PICTURE = {**SMALL, "init_images": [text(PNG)]}

#: Of A1111's info, what programs read.
INFO = {
    *("prompt", "negative_prompt", "seed", "all_seeds", "subseed", "all_subseeds", "subseed_strength", "width"),
    *("height", "steps", "cfg_scale", "sampler_name", "batch_size", "denoising_strength", "sd_model_name"),
    *("sd_model_hash", "clip_skip", "index_of_first_image", "all_prompts", "all_negative_prompts"),
    *("extra_generation_params", "styles", "infotexts"),
}
LISTS = (
    *("hypernetworks", "prompt-styles", "face-restorers", "realesrgan-models", "sd-vae", "script-info", "extensions"),
)


@pytest.fixture(scope="module")
def keyed(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("keyed")
    with service_in_process(folder, shared_simulator.url, API_KEYS="secret") as app:
        yield app


@pytest.fixture
def caller() -> dict[str, Any]:
    """Of a request from an address that no other test uses: what callers choose is theirs."""
    number = uuid4().int
    return {"environ_base": {"REMOTE_ADDR": f"10.{number % 250}.{number // 250 % 250}.{number // 62500 % 250}"}}


def post(client: FlaskClient, route: str, body: Any, **options: Any) -> Any:
    return client.post(f"{URL}/{route}", json=body, **options)


def info_of(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text[:500]
    info: dict[str, Any] = json.loads(answer.get_json()["info"])
    return info


# Pictures.


def test_a_picture_and_what_is_said_about_it(client: FlaskClient) -> None:
    answer = post(client, "txt2img", {**SMALL, "seed": 7, "sampler_name": "Euler a", "batch_size": 2})
    body, info = answer.get_json(), info_of(answer)
    assert body.keys() == {"images", "parameters", "info"}
    pictures = [samples.pixels(base64.b64decode(image, validate=True)) for image in body["images"]]
    assert [picture.size for picture in pictures] == [(64, 64)] * 2
    assert [picture.info["parameters"] for picture in pictures] == info["infotexts"]
    assert info.keys() >= INFO
    assert (info["seed"], info["all_seeds"]) == (7, [7, 8])
    assert {len(info[name]) for name in info if name.startswith("all_") or name == "infotexts"} == {2}
    assert (info["sampler_name"], info["sd_model_name"]) == ("Euler a", "v1-5-pruned-emaonly")
    assert body["parameters"]["seed"] == 7
    assert body["parameters"]["sampler_name"] == "Euler a"
    stored = client.get(f"{PREFIX}/image/{answer.headers['X-Image-Id']}", buffered=True)
    assert stored.data == base64.b64decode(body["images"][0])


def test_another_layer_of_clip(client: FlaskClient, simulator: Simulator) -> None:
    for wanted in ({"clip_skip": 2}, {"override_settings": {"CLIP_stop_at_last_layers": 2}}):
        assert info_of(post(client, "txt2img", {**SMALL, **wanted}))["clip_skip"] == 2
        assert json.loads(simulator.generations[-1].body)["override_settings"]["CLIP_stop_at_last_layers"] == 2
    assert info_of(post(client, "txt2img", {**SMALL, "clip_skip": 0}))["clip_skip"] == 1


def test_hires_fix(client: FlaskClient, simulator: Simulator) -> None:
    upscalers = [found["name"] for found in client.get(f"{URL}/upscalers").get_json()]
    latent = [found["name"] for found in client.get(f"{URL}/latent-upscale-modes").get_json()]
    assert "Lanczos" in upscalers
    assert "Latent" in latent
    for wanted, size, upscaler in (
        ({}, (128, 128), "Latent"),
        ({"hr_scale": "1.5", "hr_upscaler": "Lanczos", "hr_resize_x": 0, "hr_resize_y": 0}, (96, 96), "Lanczos"),
        ({"hr_resize_x": 128, "hr_resize_y": 96, "hr_upscaler": latent[-1]}, (128, 96), latent[-1]),
    ):
        answer = post(client, "txt2img", {**SMALL, "enable_hr": True, "denoising_strength": 0.5, **wanted})
        info = info_of(answer)
        assert (info["width"], info["height"], info["denoising_strength"]) == (*size, 0.5)
        (picture,) = answer.get_json()["images"]
        assert samples.pixels(base64.b64decode(picture)).size == size
        assert json.loads(simulator.generations[-1].body)["hr_upscaler"] == upscaler
        assert answer.get_json()["parameters"]["enable_hr"] is True


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"hr_scale": 9}, "hr_scale: must be between 1.1 and 4 (got 9)"),
        ({"hr_upscaler": "R-ESRGAN 5x"}, "hr_upscaler: "),
        ({"denoising_strength": 0}, "denoising_strength: "),
        ({"hr_second_pass_steps": -1}, "hr_second_pass_steps: "),
        ({"hr_resize_x": 100, "hr_resize_y": 100}, "hr_resize_x: "),
        ({"hr_prompt": "another"}, "hr_prompt: "),
        ({"hr_checkpoint_name": "sdxl"}, "hr_checkpoint_name: "),
        ({"hr_sampler_name": "Euler"}, "hr_sampler_name: "),
        ({"enable_hr": "maybe"}, "enable_hr: must be true or false"),
    ],
)
def test_hires_fix_is_refused_in_its_own_terms(client: FlaskClient, wanted: dict[str, Any], said: str) -> None:
    failure = a1111_failure_of(post(client, "txt2img", {**SMALL, "enable_hr": True, **wanted}))
    assert said in failure["error"]
    assert "hires." not in failure["error"]


def test_n_iter_times_batch_size(client: FlaskClient) -> None:
    assert len(post(client, "txt2img", {**SMALL, "n_iter": 2, "batch_size": "2"}).get_json()["images"]) == 4


@pytest.mark.parametrize(
    ("count", "said"), [({"n_iter": 2}, "n_iter x batch_size 2"), ({"batch_size": 2}, "batch_size 2")]
)
def test_a_seed_that_is_too_large_for_several(client: FlaskClient, count: dict[str, int], said: str) -> None:
    failure = a1111_failure_of(post(client, "txt2img", {**SMALL, "seed": 4294967295, **count}))
    assert f" with {said}: image i has seed + i" in failure["error"]


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "application/x-www-form-urlencoded"])
def test_json_whatever_it_is_called(client: FlaskClient, content_type: str | None) -> None:
    answer = client.post(f"{URL}/txt2img", data=json.dumps(SMALL), content_type=content_type)
    assert answer.status_code == 200, answer.text[:500]


def test_a_picture_without_a_size_is_a1111s(client: FlaskClient, simulator: Simulator) -> None:
    info = info_of(post(client, "img2img", {"prompt": "a", "steps": 1, "init_images": [text(PNG)]}))
    assert (info["width"], info["height"], info["denoising_strength"]) == (512, 512, 0.75)


def test_data_uris_and_large_pictures(client: FlaskClient) -> None:
    """Large ones are decoded before the rest is parsed."""
    large = samples.encode(samples.noise(400, 400))
    assert len(large) > 200_000
    for picture in (f"data:image/png;base64,{text(PNG)}", f"data:image/png;base64,{text(large)}", text(large)):
        assert post(client, "img2img", {**PICTURE, "init_images": [picture]}).status_code == 200


def test_with_a_mask_steps_are_twenty_and_what_it_keeps_is_kept(client: FlaskClient, simulator: Simulator) -> None:
    body = {**PICTURE, "mask": text(MASK), "mask_blur": 0}
    del body["steps"]
    answer = post(client, "img2img", body)
    assert info_of(answer)["steps"] == 20
    sent = json.loads(simulator.generations[-1].body)
    assert (sent["inpainting_fill"], sent["inpaint_full_res"], sent["inpaint_full_res_padding"]) == (0, True, 0)
    assert sent["denoising_strength"] == 0.75
    before, after = samples.pixels(PNG), samples.pixels(base64.b64decode(answer.get_json()["images"][0]))
    kept = Image.new("L", before.size, 255)
    kept.paste(0, (16, 16, 48, 48))
    black = Image.new("RGB", before.size)
    assert Image.composite(after, black, kept).tobytes() == Image.composite(before, black, kept).tobytes()
    assert after.tobytes() != before.tobytes()


def test_an_inverted_mask(client: FlaskClient) -> None:
    answer = post(client, "img2img", {**PICTURE, "mask": text(MASK), "mask_blur": 0, "inpainting_mask_invert": 1})
    before, after = samples.pixels(PNG), samples.pixels(base64.b64decode(answer.get_json()["images"][0]))
    box = (16, 16, 48, 48)
    assert after.crop(box).tobytes() == before.crop(box).tobytes()
    assert after.tobytes() != before.tobytes()


def test_a_retry_gets_the_same_answer(client: FlaskClient, simulator: Simulator) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    answers = [post(client, "txt2img", {**SMALL, "batch_size": 2}, headers=headers) for _ in range(2)]
    assert answers[0].data == answers[1].data
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    assert info_of(answers[1]).keys() >= INFO
    assert len(simulator.generations) == 1


def test_without_an_infotext_one_is_made() -> None:
    """Some servers write none into their pictures."""
    bounds = Bounds(
        max_prompt_chars=100,
        max_steps=50,
        max_pixels=10**6,
        max_hires_pixels=10**6,
        max_upscale_pixels=10**6,
        max_batch_size=4,
        max_input_pixels=10**6,
    )
    fields = check("txt2img", {"prompt": "a harbour", "negative_prompt": "people", "sampler": "DDIM"}, FieldSet(bounds))
    image = GeneratedImage(image_id=uuid4(), png=PNG, seed=7, width=64, height=64, stored=False)
    images = (image, replace(image, seed=8, png=png_with(parameters="written")))
    generation = Generation(images=images, model="sd-v1-5", processing_time_s=1, request_id="x")
    checkpoint = Checkpoint(title="a.safetensors [6ce0161689]", model_name="a", hash="6ce0161689")
    for known, said in ((checkpoint, "Model hash: 6ce0161689, Model: a"), (None, "Model: sd-v1-5")):
        answer = painted(
            Painted(generation=generation, fields=fields, translation=Translation(given={}), checkpoint=known)
        )
        assert answer.headers["Warning"].startswith("199")
        body = json.loads(b"".join(answer.response))
        assert [base64.b64decode(picture) for picture in body["images"]] == [one.png for one in images]
        assert json.loads(body["info"])["infotexts"] == [
            "a harbour\nNegative prompt: people\n"
            f"Steps: 20, Sampler: DDIM, CFG scale: 7.5, Seed: 7, Size: 64x64, {said}",
            "written",
        ]


@pytest.mark.parametrize(
    ("headers", "task", "expected"),
    [
        ({}, "my-task.1", "my-task.1"),
        ({"X-Request-ID": "mine"}, "my-task", "mine"),
        ({}, "task(abc)", None),
        ({}, 7, None),
    ],
)
def test_the_task_id_is_the_requests(
    client: FlaskClient, headers: dict[str, str], task: object, expected: str | None
) -> None:
    answer = post(client, "txt2img", {**SMALL, "force_task_id": task}, headers=headers)
    assert answer.status_code == 200
    found = answer.headers["X-Request-ID"]
    assert found == expected if expected else found != task
    assert client.get(f"{PREFIX}/requests/{found}").get_json()["status"] == "done"


def test_unknown_fields_are_named_in_a_header_on_refusals_too(client: FlaskClient) -> None:
    secrets = {"url": "http://10.0.0.1:7860", "auth": "user:hunter2"}
    for body in ({**SMALL, **secrets}, {**SMALL, **secrets, "steps": 0}):
        answer = post(client, "txt2img", body)
        assert answer.headers["X-Ignored-Fields"] == "auth, url"
        assert "hunter2" not in answer.text
    assert "X-Ignored-Fields" not in post(client, "txt2img", SMALL).headers


# Refusals.


def test_all_that_is_wrong_is_in_one_sentence(client: FlaskClient) -> None:
    body = {"steps": 0, "n_iter": 3, "batch_size": 50, "tiling": True, "sampler_name": "Eulr", "seed": "x"}
    said = a1111_failure_of(post(client, "txt2img", body))["error"]
    for part in (
        "steps: ",
        "n_iter: ",
        "(got 3 x 50)",
        "tiling: ",
        "sampler_name: ",
        "seed: ",
        "prompt: is required",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**PICTURE, "init_images": []}, "init_images: is required"),
        ({**SMALL}, "init_images: is required"),
        ({**PICTURE, "init_images": [text(PNG)] * 2}, "init_images: must have exactly one picture"),
        ({**PICTURE, "init_images": ["https://example.com/a.png"]}, "init_images: URLs are not fetched"),
        ({**PICTURE, "init_images": [[1, 2]]}, "init_images: "),
        ({**PICTURE, "mask": "http://example.com/a.png"}, "mask: URLs are not fetched"),
        ({**PICTURE, "mask": text(samples.encode(samples.noise(64, 64)))}, "mask: has many greys"),
        ({**PICTURE, "mask": [text(MASK)]}, "mask: "),
        ({**PICTURE, "denoising_strength": 2}, "denoising_strength: must be between 0 and 1"),
        ({**PICTURE, "override_settings": {"sd_model_checkpoint": "x"}}, "override_settings.sd_model_checkpoint: "),
        ({**PICTURE, "model": "x"}, "model: is not a model"),
        ({**PICTURE, "override_settings": {"\ud800": 1}}, "override_settings."),
        ({**PICTURE, "alwayson_scripts": {"\ud800": [1]}}, "alwayson_scripts: "),
    ],
)
def test_img2img_is_refused_in_its_own_terms(
    client: FlaskClient, simulator: Simulator, body: dict[str, Any], said: str
) -> None:
    answer = post(client, "img2img", body)
    assert answer.status_code == 422
    failure = a1111_failure_of(answer)
    assert said in failure["error"]
    for own in ("mask_mode", "inpaint_fill", "batch_size", "image:"):
        assert own not in failure["error"].replace("init_images:", "")
    assert simulator.generations == []


def test_two_large_pictures_are_refused_by_name(client: FlaskClient) -> None:
    large = text(b"\x89PNG" + bytes(1_500_000))
    said = a1111_failure_of(post(client, "img2img", {**SMALL, "init_images": [large, large]}))["error"]
    assert said == "init_images: must have exactly one picture"


def test_too_much_beside_the_pictures(client: FlaskClient) -> None:
    answer = post(client, "txt2img", {**SMALL, "comments": "x" * 2_000_000})
    assert answer.status_code == 413
    assert "'init_images' and 'mask'" in a1111_failure_of(answer)["error"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"{}"', b'{"a":1,"a":2}', b"\xff"])
def test_what_is_no_json_object(client: FlaskClient, data: bytes) -> None:
    answer = client.post(f"{URL}/txt2img", data=data, content_type="application/json")
    assert (answer.status_code, a1111_failure_of(answer)["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    "path",
    [
        *("/sdapi/v1/version", "/sdapi/v1/txt2img/", "/sdapi/v2/txt2img", "/sdapi/", "/controlnet/version"),
        *("/internal/ping", "/config", "/app_id", "/login", "/sdapi/v1/%00"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_what_is_not_there_is_a1111s_404(keyed: Flask, client: FlaskClient, path: str, method: str) -> None:
    for asking in (client, keyed.test_client()):
        answer = asking.open(path, method=method)
        assert (answer.status_code, answer.data) == (404, b'{"detail":"Not Found"}')
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_wrong_method(client: FlaskClient) -> None:
    answer = client.get(f"{URL}/txt2img")
    assert (answer.status_code, {*answer.headers["Allow"].split(", ")}) == (405, {"OPTIONS", "POST"})
    a1111_failure_of(answer)


def test_a_closed_door_is_no_door(make_app: MakeApp, simulator: Simulator) -> None:
    app = make_app(simulator.url, DOORS="none")
    for path in ("/sdapi/v1/txt2img", "/config"):
        answer = app.test_client().get(path)
        assert answer.status_code == 404
        assert problem_of(answer)["code"] == "not_found"
    assert not [path for path in description(app)["paths"] if path.startswith("/sdapi")]
    assert "A1111 door" not in {tag["name"] for tag in description(app)["tags"]}


# Keys.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Basic "}, 401),
        ({"Authorization": "Basic !"}, 401),
        ({"Authorization": f"Basic {text(b'user:wrong')}"}, 401),
        ({"Authorization": f"Basic {text(b'secret')}"}, 401),
        ({"Authorization": f"Basic {text(b'anybody:secret')}"}, 200),
        ({"Authorization": "Bearer secret"}, 200),
        ({"X-API-Key": "secret"}, 200),
    ],
)
def test_a_key_may_be_a_password(keyed: Flask, headers: dict[str, str], status: int) -> None:
    for path in ("options", "progress", "sd-models"):
        answer = keyed.test_client().get(f"{URL}/{path}", headers=headers)
        assert answer.status_code == status
        if status == 401:
            assert a1111_failure_of(answer)["code"] == "unauthorized"


def test_an_open_service_takes_any_authorization(client: FlaskClient) -> None:
    for value in ("Basic ", "Basic dXNlcjpwYXNz", "Bearer", "Digest x"):
        assert client.get(f"{URL}/options", headers={"Authorization": value}).status_code == 200


# What there is.


def test_lists(client: FlaskClient) -> None:
    for name in LISTS:
        assert client.get(f"{URL}/{name}").get_json() == []
    assert client.get(f"{URL}/scripts").get_json() == {"txt2img": [], "img2img": []}
    assert client.get(f"{URL}/embeddings").get_json() == {"loaded": {}, "skipped": {}}
    assert client.get(f"{URL}/cmd-flags").get_json() == {"api": True}
    for name in ("refresh-checkpoints", "refresh-loras"):
        assert client.post(f"{URL}/{name}").data == b"null"


def test_names_that_are_listed_can_be_asked_for(client: FlaskClient) -> None:
    models = client.get(f"{URL}/sd-models").get_json()
    assert {model["model_name"] for model in models} == {"dreamshaper_8", "sd_xl_base_1.0", "v1-5-pruned-emaonly"}
    assert all(model.keys() == {"title", "model_name", "hash", "sha256", "filename", "config"} for model in models)
    scheduler = next(found for found in client.get(f"{URL}/schedulers").get_json() if found["label"] == "Karras")
    assert scheduler["name"] == "karras"
    samplers = client.get(f"{URL}/samplers").get_json()
    assert {"name": "Euler a", "aliases": [], "options": {}} in samplers
    assert all(isinstance(lora["name"], str) for lora in client.get(f"{URL}/loras").get_json())
    for model in models:
        for name in (model["title"], model["model_name"]):
            settings = {"sd_model_checkpoint": name}
            body = {**SMALL, "override_settings": settings, "sampler_name": "Euler", "scheduler": scheduler["name"]}
            assert info_of(post(client, "txt2img", body))["sd_model_name"] == model["model_name"]


def png_with(**texts: str) -> bytes:
    info = PngInfo()
    for name, value in texts.items():
        info.add_text(name, value)
    buffer = BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def test_png_info(client: FlaskClient) -> None:
    answer = post(client, "png-info", {"image": text(png_with(parameters="a\nSteps: 1", Title="é")), "x": "y"})
    assert answer.get_json() == {
        "info": "a\nSteps: 1",
        "items": {"parameters": "a\nSteps: 1", "Title": "é"},
        "parameters": {},
    }
    painted = post(client, "txt2img", SMALL)
    uri = f"data:image/png;base64,{painted.get_json()['images'][0]}"
    assert post(client, "png-info", {"image": uri}).get_json()["info"] == info_of(painted)["infotexts"][0]
    assert post(client, "png-info", {"image": text(PNG)}).get_json() == {"info": "", "items": {}, "parameters": {}}


@pytest.mark.parametrize("body", [{}, {"image": ""}, {"image": 1}, {"image": "x"}, {"image": text(b"GIF89a")}])
def test_png_info_of_no_picture(client: FlaskClient, body: dict[str, Any]) -> None:
    answer = post(client, "png-info", body)
    assert answer.status_code == 422
    assert a1111_failure_of(answer)["error"].startswith("image: ")


# The caller's model.


def test_the_model_is_the_callers(client: FlaskClient, caller: dict[str, Any]) -> None:
    assert post(client, "options", {"sd_model_checkpoint": "dreamshaper_8"}, **caller).data == b"null"
    shown = client.get(f"{URL}/options", **caller).get_json()["sd_model_checkpoint"]
    assert shown in [model["title"] for model in client.get(f"{URL}/sd-models").get_json()]
    assert info_of(post(client, "txt2img", SMALL, **caller))["sd_model_name"] == "dreamshaper_8"
    assert info_of(post(client, "txt2img", {**SMALL, "model": "sdxl"}, **caller))["sd_model_name"] == "sd_xl_base_1.0"
    assert info_of(post(client, "txt2img", SMALL))["sd_model_name"] == "v1-5-pruned-emaonly", "nobody else's"
    own = client.post(f"{PREFIX}/txt2img", json=SMALL, **caller).get_json()
    assert own["model"] == "sd-v1-5", "nor that of the service's own API"


def test_an_unknown_model_stays_the_choice(client: FlaskClient, simulator: Simulator, caller: dict[str, Any]) -> None:
    answer = post(client, "options", {"sd_model_checkpoint": "gone [0123456789]"}, **caller)
    assert (answer.status_code, a1111_failure_of(answer)["code"]) == (422, "model_not_found")
    assert a1111_failure_of(answer)["error"].startswith("sd_model_checkpoint: is not a model")
    assert client.get(f"{URL}/options", **caller).get_json()["sd_model_checkpoint"] == "gone [0123456789]"
    refused = post(client, "txt2img", SMALL, **caller)
    assert (refused.status_code, a1111_failure_of(refused)["code"]) == (422, "model_not_found")
    assert simulator.generations == []
    assert post(client, "options", {"sd_model_checkpoint": "sdxl"}, **caller).status_code == 200
    assert post(client, "txt2img", SMALL, **caller).status_code == 200


def test_the_options_object_posted_back(client: FlaskClient, caller: dict[str, Any]) -> None:
    options = client.get(f"{URL}/options", **caller).get_json()
    assert post(client, "options", {**options, "sd_model_checkpoint": "dreamshaper_8"}, **caller).status_code == 200
    after = client.get(f"{URL}/options", **caller).get_json()
    changed = {name for name in options if after[name] != options[name]}
    assert changed <= {"sd_model_checkpoint", "sd_checkpoint_hash"}
    assert after["sd_model_checkpoint"].startswith("dreamshaper_8")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"sd_vae": "x"}, "sd_vae"),
        ({"secret_option": "hunter2"}, "secret_option"),
        ({"sd_model_checkpoint": ""}, "sd_model_checkpoint"),
        ({"sd_model_checkpoint": 7}, "sd_model_checkpoint"),
        ({"sd_model_checkpoint": "x" * 201}, "sd_model_checkpoint"),
        ({"sd_model_checkpoint": "a\0"}, "sd_model_checkpoint"),
        ({"sd_model_checkpoint": "\ud800"}, "sd_model_checkpoint"),
    ],
)
def test_other_options_are_refused_and_change_nothing(
    client: FlaskClient, caller: dict[str, Any], body: dict[str, Any], field: str
) -> None:
    answer = post(client, "options", {"sd_model_checkpoint": "dreamshaper_8", **body}, **caller)
    assert answer.status_code == 422
    failure = a1111_failure_of(answer)
    assert failure["error"].startswith(f"{field}: ")
    assert "hunter2" not in failure["error"]
    assert client.get(f"{URL}/options", **caller).get_json()["sd_model_checkpoint"].startswith("v1-5")


def test_the_value_of_an_option_is_shown_as_json_has_it(client: FlaskClient) -> None:
    failure = a1111_failure_of(post(client, "options", {"samples_save": False}))
    assert failure["error"] == "samples_save: cannot be changed here; it is true"


def test_a_key_is_one_caller_wherever_it_comes_from(keyed: Flask) -> None:
    client = keyed.test_client()
    headers = {"X-API-Key": "secret"}
    post(client, "options", {"sd_model_checkpoint": "dreamshaper_8"}, headers=headers)
    elsewhere = {"environ_base": {"REMOTE_ADDR": "10.9.9.9"}}
    shown = client.get(f"{URL}/options", headers={"Authorization": f"Basic {text(b':secret')}"}, **elsewhere)
    assert shown.get_json()["sd_model_checkpoint"].startswith("dreamshaper_8")


def test_it_starts_up_while_no_webui_is_there(make_app: MakeApp) -> None:
    with Simulator() as webui:
        gone = webui.url
    client = make_app(gone).test_client()
    assert client.get(f"{URL}/options").get_json()["sd_model_checkpoint"] == "sd-v1-5"
    assert client.get(f"{URL}/sd-models").get_json() == []
    answer = post(client, "txt2img", SMALL)
    assert (answer.status_code, a1111_failure_of(answer)["code"]) == (503, "webui_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


# Progress, limits.


def test_nothing_runs(client: FlaskClient, caller: dict[str, Any]) -> None:
    progress = client.get(f"{URL}/progress?skip_current_image=false", **caller).get_json()
    assert (progress["progress"], progress["state"]["job"], progress["state"]["job_count"]) == (0, "", 0)
    assert client.post(f"{URL}/interrupt", **caller).get_json() == {}


def test_limits(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GENERATION="1/hour", RATE_LIMIT_GLOBAL="4/hour").test_client()
    assert post(client, "txt2img", {**SMALL, "steps": 0}).status_code == 422, "refused ones are free"
    assert post(client, "txt2img", SMALL).status_code == 200
    limited = post(client, "txt2img", SMALL)
    assert (limited.status_code, a1111_failure_of(limited)["code"]) == (429, "rate_limited")
    assert 1 <= int(limited.headers["Retry-After"]) <= 3600
    assert a1111_failure_of(limited)["error"].endswith(f"; try again in {limited.headers['Retry-After']} s")
    assert client.get(f"{URL}/options").status_code == 200
    assert client.get(f"{URL}/options").status_code == 429
    for _ in range(3):
        assert client.get(f"{URL}/progress").status_code == 200
        assert client.post(f"{URL}/interrupt").status_code == 200


# The description.


def test_everything_is_as_described(app: Flask, client: FlaskClient, caller: dict[str, Any]) -> None:
    document = description(app)
    for path, method, operation in operations(document):
        if path.startswith(URL) and method == "get":
            assert operation["tags"] == ["A1111 door"]
            assert_described(document, client.get(path), 200)
    for body in (SMALL, {**SMALL, "auth": "x"}):
        for headers in ({"Idempotency-Key": "k", "Prefer": "wait=60"}, {}):
            assert_described(document, post(client, "txt2img", body, headers=headers), 200)
    assert_described(document, post(client, "img2img", PICTURE), 200)
    assert_described(document, post(client, "img2img", {**PICTURE, "steps": 0}), 422)
    assert_described(document, client.post(f"{URL}/txt2img", data=b"{"), 400)
    assert_described(document, post(client, "options", {"sd_model_checkpoint": "none"}, **caller), 422)
    assert_described(document, post(client, "options", {"sd_model_checkpoint": "sdxl"}, **caller), 200)
    assert_described(document, post(client, "png-info", {"image": text(PNG)}), 200)
    assert_described(document, post(client, "png-info", {}), 422)
    for name in ("refresh-checkpoints", "refresh-loras", "interrupt"):
        assert_described(document, client.post(f"{URL}/{name}"), 200)
