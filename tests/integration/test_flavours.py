"""The same request works in front of every kind of WebUI, and what is promised holds whichever painted it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image, ImageChops

from simulator import Simulator
from simulator.flavours import NAMES
from tests.api.answers import problem_of
from tests.api.bad_inputs import VALID, text
from tests.running import PREFIX, service_in_process, wait_until
from tests.services import picture_samples as samples


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One flavour and the service before it."""

    flavour: str
    webui: Simulator
    client: FlaskClient

    def paint(self, route: str = "txt2img", **fields: Any) -> dict[str, Any]:
        answer = self.client.post(f"{PREFIX}/{route}", json={**VALID[route], "steps": 1, **fields})
        assert answer.status_code == 200, answer.text
        return dict(answer.get_json())

    def refused(self, **fields: Any) -> dict[str, Any]:
        return problem_of(self.client.post(f"{PREFIX}/txt2img", json={**VALID["txt2img"], "steps": 1, **fields}))

    @property
    def job(self) -> dict[str, Any]:
        """The last that was sent."""
        return dict(json.loads(self.webui.generations[-1].body))


#: Flavours whose model needs multiples of 64, and tells nothing of it.
STEP_64 = ("sdcpp", "koboldcpp", "koboldcpp-1.115")


def staged(flavour: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with (
        Simulator(flavour=flavour) as webui,
        service_in_process(tmp_path_factory.mktemp(flavour), webui.url) as app,
    ):
        yield Stage(flavour=flavour, webui=webui, client=app.test_client())


@pytest.fixture(scope="module", params=NAMES)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from staged(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def sdcpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from staged("sdcpp", tmp_path_factory)


def decoded(image: dict[str, Any]) -> Image.Image:
    data = base64.b64decode(image["image_base64"].partition(",")[2])
    assert data.startswith(b"\x89PNG")
    return samples.pixels(data)


@pytest.mark.parametrize("area", ["whole", "masked"])
@pytest.mark.parametrize("blur", [0, 4])
@pytest.mark.parametrize("mode", ["white", "black", "alpha"])
def test_what_the_mask_keeps_is_kept(stage: Stage, area: str, blur: int, mode: str) -> None:
    hole = (96, 96, 160, 160)
    size = (256, 256)
    mask = Image.new("L", size, 0)
    mask.paste(255, hole)
    if mode != "white":
        mask = ImageChops.invert(mask)
    if mode == "alpha":
        mask = Image.merge("RGBA", [*Image.new("RGB", size, "red").split(), mask])
    picture = samples.noise(*size)
    own = {"image": text(samples.encode(picture)), "mask": text(samples.encode(mask)), "mask_mode": mode}
    body = stage.paint("inpainting", **own, mask_blur=blur, inpaint_area=area, seed=11, strength=1)

    answer = decoded(body)
    assert answer.size == size
    difference = ImageChops.difference(answer.convert("RGB"), picture)
    assert difference.crop(hole).getbbox() is not None, "the hole is repainted"
    reach = int(2.5 * blur + 0.5)
    difference.paste(0, (hole[0] - reach, hole[1] - reach, hole[2] + reach, hole[3] + reach))
    assert difference.getbbox() is None
    stored = stage.client.get(body["image_url"], buffered=True).data
    assert stored == base64.b64decode(body["image_base64"].partition(",")[2])


def test_the_size_told_is_the_size_got(stage: Stage) -> None:
    picture = text(samples.encode(samples.gradient(200, 140)))
    body = stage.paint("img2img", image=picture)

    step = 64 if stage.flavour in STEP_64 else 8
    assert (body["width"], body["height"]) == decoded(body).size
    assert (body["width"] % step, body["height"] % step) == (0, 0)
    assert (stage.job["width"], stage.job["height"]) == (body["width"], body["height"])
    if step == 8:
        assert (body["width"], body["height"]) == (200, 136) or (body["width"], body["height"]) == (200, 144)


def test_parameters_stay_in_the_picture(stage: Stage) -> None:
    body = stage.paint(prompt="a lighthouse at dusk", seed=77, width=128, height=128)

    texts = decoded(body).info["parameters"]
    assert "a lighthouse at dusk" in texts
    assert "Seed: 77" in texts


#: flavour -> sampler and scheduler as they must be sent for "DPM++ 2M Karras" however that is written
KARRAS = {
    "a1111": ("DPM++ 2M", "karras"),
    "forge": ("DPM++ 2M", "karras"),
    "a1111-1.6": ("DPM++ 2M Karras", None),
    "sdcpp": ("dpm++2m", "karras"),
    "koboldcpp": ("DPM++ 2M", "karras"),
    "koboldcpp-1.115": ("DPM++ 2M", "karras"),
}


@pytest.mark.parametrize(
    "asked",
    [
        {"sampler": "DPM++ 2M Karras"},
        {"sampler": "DPM++ 2M", "scheduler": "Karras"},
        {"sampler": "dpm++_2m", "scheduler": "KARRAS"},
        {"sampler": "dpm++ 2m karras"},
    ],
)
def test_samplers_are_spelled_as_the_webui_does(stage: Stage, asked: dict[str, str]) -> None:
    if stage.flavour not in KARRAS:
        problem = stage.refused(**asked)
        assert {entry["field"] for entry in problem["errors"]} <= {"sampler", "scheduler"}
        return
    stage.paint(**asked, width=64, height=64)
    sampler, scheduler = KARRAS[stage.flavour]
    assert stage.job["sampler_name"] == sampler
    assert (stage.job.get("scheduler") or "").lower() == (scheduler or "")


@pytest.mark.parametrize("asked", ["Euler a", "euler_a", "EULER A", "Euler-a"])
def test_euler_a_everywhere(stage: Stage, asked: str) -> None:
    stage.paint(sampler=asked, width=64, height=64)
    assert stage.job["sampler_name"] == ("euler_a" if stage.flavour == "sdcpp" else "Euler a")


def test_models_are_switched_by_the_request(stage: Stage) -> None:
    if stage.flavour in STEP_64:
        pytest.skip("it has one model")
    wanted = {"sdxl": "sd_xl_base_1.0", "sd-v1-5": "v1-5-pruned-emaonly", "dreamshaper_8": "dreamshaper_8"}
    painted = {}
    for name, stem in wanted.items():
        body = stage.paint(model=name, seed=5, width=64, height=64)
        assert body["model"] == name
        assert stage.job["override_settings"]["sd_model_checkpoint"].startswith(stem)
        painted[name] = decoded(body).tobytes()
    assert len(set(painted.values())) == 3, "each model paints in its own way"
    assert decoded(stage.paint(model="sdxl", seed=5, width=64, height=64)).tobytes() == painted["sdxl"]
    assert not [one for one in stage.webui.requests if one.route == "options" and one.method == "POST"]


def test_a_batch(stage: Stage) -> None:
    body = stage.paint(batch_size=3, seed=20, width=64, height=64)
    assert [image["seed"] for image in body["images"]] == [20, 21, 22]
    assert len({decoded(image).tobytes() for image in body["images"]}) == 3


def test_health_and_lists(stage: Stage) -> None:
    wait_until(lambda: stage.client.get(f"{PREFIX}/health").json["status"] == "healthy", "the WebUI was seen")
    models = stage.client.get(f"{PREFIX}/models").json
    assert models["default"] == "sd-v1-5"
    assert [model["id"] for model in models["models"] if model["default"]] == ["sd-v1-5"]
    options = stage.client.get(f"{PREFIX}/options").json
    assert len(options["samplers"]) > 5
    assert options["limits"]["steps"] == {"minimum": 1, "maximum": 150}


@pytest.mark.parametrize(("width", "height"), [(520, 512), (512, 520), (520, 520), (2048, 72)])
def test_a_size_that_it_cannot_paint(sdcpp: Stage, width: int, height: int) -> None:
    problem = sdcpp.refused(width=width, height=height)
    wrong = {name for name, pixels in (("width", width), ("height", height)) if pixels % 64}
    assert {entry["field"] for entry in problem["errors"]} == wrong
    for entry in problem["errors"]:
        below = entry["received"] // 64 * 64
        assert f"multiple of 64 for this model; the nearest are {below} and {below + 64}" in entry["message"]


@pytest.mark.parametrize(("seed", "batch_size"), [(2**31, 1), (2**32 - 1, 1), (2**31 - 1, 2)])
def test_a_seed_that_it_would_cut(sdcpp: Stage, seed: int, batch_size: int) -> None:
    problem = sdcpp.refused(seed=seed, batch_size=batch_size)
    assert [entry["field"] for entry in problem["errors"]] == ["seed"]
    assert f"at most {2**31 - batch_size}" in problem["detail"]


def test_one_side_alone_with_steps_of_64(sdcpp: Stage) -> None:
    picture = text(samples.encode(samples.gradient(300, 200)))
    body = sdcpp.paint("img2img", image=picture, width=384)
    assert (body["width"], body["height"]) == (384, 256) == decoded(body).size


def test_another_model_than_its_own(sdcpp: Stage) -> None:
    problem = sdcpp.refused(model="sdxl")
    assert problem["code"] == "model_not_found"
    assert "v1-5-pruned-emaonly" in problem["detail"] or "sd-v1-5" in problem["detail"]


@pytest.mark.parametrize("samples_format", ["jpg", "webp", "png"])
def test_pictures_are_png_whatever_the_webui_writes(
    tmp_path_factory: pytest.TempPathFactory, samples_format: str
) -> None:
    with (
        Simulator(samples_format=samples_format) as webui,
        service_in_process(tmp_path_factory.mktemp("format"), webui.url) as app,
    ):
        body = (
            app.test_client().post(f"{PREFIX}/txt2img", json={"prompt": "a lighthouse", "width": 64, "height": 64}).json
        )
        assert "a lighthouse" in decoded(body).info["parameters"]


def test_a_webui_behind_a_password_and_a_prefix(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Simulator(api_auth="user:pa:ss", prefix="/webui") as webui:
        address = webui.url.replace("http://", "http://user:pa%3Ass@") + "/"
        with service_in_process(tmp_path_factory.mktemp("auth"), address) as app:
            answer = app.test_client().post(f"{PREFIX}/txt2img", json={"prompt": "a", "width": 64, "height": 64})
            assert answer.status_code == 200, answer.text
