"""The three routes when all goes well: what is answered, what the WebUI was sent, what is stored."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import requests
from flask.testing import FlaskClient
from PIL import Image, ImageChops

from config import BODY_BYTES_AT_A_TIME
from sd_client.errors import QueueFullError
from simulator import Simulator
from tests.api.bad_inputs import FORM, MASK, PNG, VALID, form, part, text
from tests.conftest import MakeApp
from tests.running import PREFIX, wait_until
from tests.services import picture_samples as samples
from tests.storage.records import record_in

SMALL = {"width": 64, "height": 64, "steps": 2}
KEYS = {"image_id", "image_url", "image_base64", "seed", "processing_time", "model", "width", "height", "request_id"}


def paint(client: FlaskClient, route: str = "txt2img", **changes: Any) -> dict[str, Any]:
    answer = client.post(f"{PREFIX}/{route}", json={**VALID[route], **SMALL, **changes})
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "application/json"
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    return dict(answer.get_json())


def png_of(image: dict[str, Any]) -> bytes:
    head, _, data = image["image_base64"].partition(",")
    assert head == "data:image/png;base64"
    return base64.b64decode(data, validate=True)


def sent(simulator: Simulator) -> dict[str, Any]:
    """The one job that the WebUI received."""
    (received,) = simulator.generations
    return dict(json.loads(received.body))


@pytest.mark.parametrize("route", ["txt2img", "img2img", "inpainting"])
def test_every_key_of_the_answer(client: FlaskClient, route: str) -> None:
    answer = client.post(
        f"{PREFIX}/{route}", json={**VALID[route], **SMALL, "seed": 7}, headers={"X-Request-ID": "order-1"}
    )

    body = answer.get_json()
    assert body.keys() == KEYS
    assert str(UUID(body["image_id"])) == body["image_id"]
    assert UUID(body["image_id"]).version == 4
    assert body["image_url"] == f"{PREFIX}/image/{body['image_id']}"
    assert (body["seed"], body["width"], body["height"]) == (7, 64, 64)
    assert (body["model"], body["request_id"]) == ("sd-v1-5", "order-1")
    assert isinstance(body["processing_time"], float)
    assert 0 < body["processing_time"] < 60
    picture = samples.pixels(png_of(body))
    assert (picture.format, picture.size) == (None, (64, 64))
    assert (
        samples.pixels(png_of(body)).tobytes()
        == samples.pixels(client.get(body["image_url"], buffered=True).data).tobytes()
    )


def test_defaults_of_txt2img(client: FlaskClient, simulator: Simulator) -> None:
    body = client.post(f"{PREFIX}/txt2img", json={"prompt": "a harbour"}).get_json()

    job = sent(simulator)
    assert (body["width"], body["height"]) == (512, 512)
    expected = {"prompt": "a harbour", "negative_prompt": "", "steps": 20, "cfg_scale": 7.5, "width": 512}
    assert expected.items() <= job.items()
    assert (job["height"], job["batch_size"], job["n_iter"]) == (512, 1, 1)
    assert "sampler_name" not in job
    assert "scheduler" not in job


@pytest.mark.parametrize(("route", "steps", "strength"), [("img2img", 20, 0.75), ("inpainting", 30, 0.9)])
def test_defaults_of_the_others(
    client: FlaskClient, simulator: Simulator, route: str, steps: int, strength: float
) -> None:
    body = client.post(f"{PREFIX}/{route}", json=VALID[route]).get_json()

    job = sent(simulator)
    assert (body["width"], body["height"]) == (64, 64), "the picture's own size"
    assert (job["steps"], job["denoising_strength"]) == (steps, strength)
    assert base64.b64decode(job["init_images"][0]) == PNG, "a picture that needs nothing goes on byte for byte"
    if route == "inpainting":
        mask = samples.pixels(base64.b64decode(job["mask"]))
        assert ImageChops.difference(mask, samples.pixels(MASK)).getbbox() is None
        own = {"mask_blur": 4, "inpaint_full_res": False, "inpaint_full_res_padding": 32, "inpainting_fill": 1}
        assert own.items() <= job.items()
        assert job["inpainting_mask_invert"] == 0


def test_every_field_arrives(client: FlaskClient, simulator: Simulator) -> None:
    asked: dict[str, Any] = {
        **VALID["inpainting"],
        "prompt": "Ein Café – 港 🚢",
        "negative_prompt": "rain",
        "steps": 3,
        "cfg_scale": 1.25,
        "width": 128,
        "height": 64,
        "seed": 2**32 - 2,
        "batch_size": 2,
        "sampler": "euler_a",
        "scheduler": "karras",
        "strength": 0.5,
        "resize_mode": "crop",
        "mask_blur": 0,
        "inpaint_area": "masked",
        "inpaint_padding": 8,
        "inpaint_fill": "noise",
    }
    body = client.post(f"{PREFIX}/inpainting", json=asked).get_json()

    job = sent(simulator)
    same = ("prompt", "negative_prompt", "steps", "cfg_scale", "width", "height", "seed", "batch_size", "mask_blur")
    assert {name: job[name] for name in same} == {name: asked[name] for name in same}
    assert (job["sampler_name"], job["scheduler"].lower()) == ("Euler a", "karras")
    assert (job["denoising_strength"], job["inpaint_full_res"], job["inpaint_full_res_padding"]) == (0.5, True, 8)
    assert (job["inpainting_fill"], job["resize_mode"]) == (2, 0)
    for picture in (job["init_images"][0], job["mask"]):
        assert samples.pixels(base64.b64decode(picture)).size == (128, 64)
    assert [image["seed"] for image in body["images"]] == [2**32 - 2, 2**32 - 1]


@pytest.mark.parametrize("route", ["txt2img", "img2img", "inpainting"])
def test_nothing_null_and_nothing_of_the_callers_is_passed_on(
    client: FlaskClient, simulator: Simulator, route: str
) -> None:
    paint(client, route)

    job = sent(simulator)
    assert None not in job.values()
    assert job["override_settings"].keys() == {"sd_model_checkpoint", "CLIP_stop_at_last_layers"}
    assert not {"script_name", "script_args", "alwayson_scripts", "infotext", "image", "strength"} & job.keys()
    assert (job["send_images"], job["save_images"]) == (True, False)
    assert UUID(hex=job["force_task_id"]).hex == job["force_task_id"]


def test_a_random_seed_is_settled_here(client: FlaskClient, simulator: Simulator) -> None:
    shown = [paint(client, seed=-1, batch_size=2)["seed"], paint(client)["seed"]]

    seeds = [json.loads(one.body)["seed"] for one in simulator.generations]
    assert seeds == shown
    assert seeds[0] != seeds[1]
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 - 1])
def test_a_seed_is_sent_as_it_is(client: FlaskClient, simulator: Simulator, seed: int) -> None:
    assert paint(client, seed=seed)["seed"] == seed == sent(simulator)["seed"]


def test_the_same_seed_gives_the_same_picture(client: FlaskClient) -> None:
    one, two, other = (paint(client, seed=seed) for seed in (5, 5, 6))
    assert png_of(one) == png_of(two) != png_of(other)
    assert one["image_id"] != two["image_id"]


def test_a_picture_takes_memory_as_long_as_its_job_runs(make_app: MakeApp, simulator: Simulator) -> None:
    app = make_app(simulator.url)
    routes: Any = app.view_functions["generation.img2img"]
    uploads = routes.__self__.generations.uploads
    simulator.set_fault("slow", seconds=1.5)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(app.test_client().post, f"{PREFIX}/img2img", json=VALID["img2img"])
        wait_until(lambda: bool(simulator.generations), "the job")
        with uploads.memory() as take, pytest.raises(QueueFullError):
            take(BODY_BYTES_AT_A_TIME)
        assert answer.result().status_code == 200
    with uploads.memory() as take:
        take(BODY_BYTES_AT_A_TIME)


def test_a_batch(client: FlaskClient) -> None:
    body = paint(client, batch_size=3, seed=100)

    assert body.keys() == KEYS | {"images"}
    first, *rest = body["images"]
    assert first == {name: body[name] for name in first}
    assert first.keys() == {"image_id", "image_url", "image_base64", "seed", "width", "height"}
    assert len(rest) == 2
    assert [image["seed"] for image in body["images"]] == [100, 101, 102]
    assert len({hashlib.sha256(png_of(image)).digest() for image in body["images"]}) == 3
    for image in body["images"]:
        assert client.get(image["image_url"], buffered=True).data == png_of(image)
        alone = paint(client, seed=image["seed"])
        pixels = [samples.pixels(png_of(one)).tobytes() for one in (alone, image)]
        assert pixels[0] == pixels[1], "a picture's own seed paints it again"


def test_response_format_url(client: FlaskClient) -> None:
    body = paint(client, response_format="url", batch_size=2)

    assert body.keys() == KEYS - {"image_base64"} | {"images"}
    assert all("image_base64" not in image for image in body["images"])
    assert client.get(body["image_url"], buffered=True).data.startswith(b"\x89PNG")


@pytest.mark.parametrize("accept", ["image/png", "image/png, application/json;q=0.5", "image/png;q=0.9, text/html"])
def test_accept_png(client: FlaskClient, accept: str) -> None:
    body = {"prompt": "a", **SMALL, "seed": 9, "model": "SDXL"}
    answer = client.post(f"{PREFIX}/txt2img", json=body, headers={"Accept": accept})

    assert (answer.status_code, answer.mimetype) == (200, "image/png")
    assert (answer.headers["X-Seed"], answer.headers["X-Model"]) == ("9", "SDXL")
    assert answer.headers["Location"] == f"{PREFIX}/image/{answer.headers['X-Image-Id']}"
    assert client.get(answer.headers["Location"], buffered=True).data == answer.data
    assert float(answer.headers["X-Processing-Time"]) > 0
    assert samples.pixels(answer.data).size == (64, 64)


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/html,*/*;q=0.8", "", "image/webp", "image/*;q=0.1, */*"]
)
def test_json_is_what_comes_else(client: FlaskClient, accept: str) -> None:
    answer = client.post(f"{PREFIX}/txt2img", json={"prompt": "a", **SMALL}, headers={"Accept": accept})
    assert answer.mimetype == "application/json"


def test_stored_answered_and_painted_are_the_same_bytes(client: FlaskClient, simulator: Simulator) -> None:
    body = paint(client, seed=3, prompt="a lighthouse, Ölbild")

    png = png_of(body)
    assert client.get(body["image_url"], buffered=True).data == png
    again = simulator_paints(simulator)
    assert png == again, "text chunks included"
    with Image.open(io.BytesIO(png)) as picture:
        assert "a lighthouse, Ölbild" in picture.text["parameters"]
        assert "Seed: 3" in picture.text["parameters"]


def simulator_paints(simulator: Simulator) -> bytes:
    """What the WebUI itself answers to the very job that it was sent last."""
    job = simulator.generations[-1]
    answer = requests.post(
        f"{simulator.url}{job.path}", data=job.body, headers={"Content-Type": "application/json"}, timeout=60
    )
    return base64.b64decode(answer.json()["images"][0])


def test_the_record_beside_the_image(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    folder = str(tmp_path / "images")
    client = make_app(simulator.url, IMAGE_DIR=folder).test_client()
    answer = client.post(
        f"{PREFIX}/inpainting",
        json={**VALID["inpainting"], "seed": 4, "batch_size": 2, "sampler": "Euler a"},
        headers={"X-Request-ID": "order-2"},
    ).get_json()

    for number, image in enumerate(answer["images"]):
        record = record_in(Path(folder), UUID(image["image_id"]))
        expected = {"image_id": image["image_id"], "request_id": "order-2", "mode": "inpainting", "model": "sd-v1-5"}
        expected |= {"prompt": "a harbour", "negative_prompt": "", "steps": 30, "cfg_scale": 7.5, "seed": 4 + number}
        expected |= {"width": 64, "height": 64, "batch_size": 2, "batch_index": number, "strength": 0.9}
        expected |= {"mask_blur": 4, "inpaint_area": "whole", "inpaint_fill": "original", "sampler": "Euler a"}
        assert expected.items() <= record.items()
        assert record["checkpoint"].startswith("v1-5-pruned-emaonly.safetensors")
        assert record["created"].endswith("+00:00")


@pytest.mark.parametrize("route", ["img2img", "inpainting"])
def test_a_picture_may_come_in_three_ways(client: FlaskClient, route: str) -> None:
    names = [name for name in ("image", "mask") if name in VALID[route]]
    data = {"image": PNG, "mask": MASK}
    bare = paint(client, route, seed=1)
    uri = paint(client, route, seed=1, **{name: f"data:image/png;base64,{text(data[name])}" for name in names})
    lines = paint(client, route, seed=1, **{name: base64.encodebytes(data[name]).decode() for name in names})
    other_type = paint(client, route, seed=1, **{name: f"data:text/html;base64,{text(data[name])}" for name in names})
    fields = {"prompt": "a harbour", "seed": "1", **{name: str(value) for name, value in SMALL.items()}}
    parts = [part(name, value.encode()) for name, value in fields.items()]
    files = form(*parts, *[part(name, data[name], f"{name}.png") for name in names])
    as_files = client.post(f"{PREFIX}/{route}", data=files, content_type=FORM).get_json()
    texts = form(*parts, *[part(name, text(data[name]).encode()) for name in names])
    as_texts = client.post(f"{PREFIX}/{route}", data=texts, content_type=FORM).get_json()

    painted = {png_of(one) for one in (bare, uri, lines, other_type, as_files, as_texts)}
    assert painted == {png_of(bare)}


def test_numbers_of_a_form(client: FlaskClient, simulator: Simulator) -> None:
    values = {"prompt": b"1e3", "steps": b"+3", "cfg_scale": b"7", "width": b"64", "height": b"0128", "seed": b"-1"}
    body = form(*[part(name, value) for name, value in values.items()])
    answer = client.post(f"{PREFIX}/txt2img", data=body, content_type=FORM)

    assert answer.status_code == 200, answer.text
    job = sent(simulator)
    assert (job["prompt"], job["steps"], job["cfg_scale"], job["width"], job["height"]) == ("1e3", 3, 7.0, 64, 128)


@pytest.mark.parametrize("value", [20.0, 20])
def test_a_whole_number_with_a_point_is_an_integer(client: FlaskClient, simulator: Simulator, value: float) -> None:
    paint(client, steps=value)
    assert json.dumps(sent(simulator)["steps"]) == "20"


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "application/json;charset=UTF-8", "APPLICATION/JSON"]
)
def test_the_type_of_json_may_be_written_otherwise(client: FlaskClient, kind: str) -> None:
    answer = client.post(f"{PREFIX}/txt2img", data=json.dumps({"prompt": "a", **SMALL}), content_type=kind)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, (96, 64)),
        ({"width": 192}, (192, 128)),
        ({"height": 128}, (192, 128)),
        ({"width": 64, "height": 64}, (64, 64)),
    ],
)
@pytest.mark.parametrize("mode", ["stretch", "crop", "fill"])
def test_sizes_that_follow_the_picture(
    client: FlaskClient, simulator: Simulator, asked: dict[str, int], size: tuple[int, int], mode: str
) -> None:
    picture = text(samples.encode(samples.gradient(96, 64), "JPEG"))
    body = client.post(
        f"{PREFIX}/img2img", json={"prompt": "a", "image": picture, "steps": 1, "resize_mode": mode, **asked}
    ).get_json()

    job = sent(simulator)
    assert (body["width"], body["height"]) == size == (job["width"], job["height"])
    assert samples.pixels(png_of(body)).size == size
    assert samples.pixels(base64.b64decode(job["init_images"][0])).size == size


@pytest.mark.parametrize("public", ["https://pictures.example", "https://pictures.example/base/"])
def test_public_url(make_app: MakeApp, simulator: Simulator, public: str) -> None:
    client = make_app(simulator.url, PUBLIC_URL=public).test_client()
    body = paint(client)
    png = client.post(f"{PREFIX}/txt2img", json={"prompt": "a", **SMALL}, headers={"Accept": "image/png"})

    assert body["image_url"] == f"{public.rstrip('/')}{PREFIX}/image/{body['image_id']}"
    assert png.headers["Location"] == f"{public.rstrip('/')}{PREFIX}/image/{png.headers['X-Image-Id']}"


def test_prefer_wait_is_acknowledged(client: FlaskClient) -> None:
    for sent_header in ("wait=20", 'WAIT="20"', "respond-async, wait=20; x=y", "handling=lenient,wait = 20"):
        answer = client.post(f"{PREFIX}/txt2img", json={"prompt": "a", **SMALL}, headers={"Prefer": sent_header})
        assert (answer.status_code, answer.headers.get("Preference-Applied")) == (200, "wait=20"), sent_header
    answer = client.post(f"{PREFIX}/txt2img", json={"prompt": "a", **SMALL}, headers={"Prefer": "respond-async"})
    assert "Preference-Applied" not in answer.headers


def test_what_cannot_be_stored_is_answered_all_the_same(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    client = make_app(simulator.url, IMAGE_DIR=str(folder)).test_client()
    kept = paint(client)
    folder.rename(tmp_path / "away")
    folder.write_text("no folder")

    body = paint(client, batch_size=2)
    assert body.keys() == KEYS | {"images", "warnings"}
    assert body["image_url"] is None
    assert [image["image_url"] for image in body["images"]] == [None, None]
    assert body["warnings"] == ["the image could not be stored, so it has no URL"]
    assert samples.pixels(png_of(body)).size == (64, 64)
    png = client.post(f"{PREFIX}/txt2img", json={"prompt": "a", **SMALL}, headers={"Accept": "image/png"})
    assert "Location" not in png.headers
    assert "could not be stored" in png.headers["Warning"]

    folder.unlink()
    (tmp_path / "away").rename(folder)
    assert paint(client)["image_url"]
    assert client.get(kept["image_url"], buffered=True).status_code == 200
