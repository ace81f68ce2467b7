"""``inpaint_area``, ``inpaint_padding`` and ``inpaint_fill`` on WebUIs that do not know them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from PIL import Image, ImageChops

from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import text
from tests.running import PREFIX, service_in_process
from tests.services import picture_samples as samples

SIZE = (256, 256)
HOLE = (96, 96, 160, 160)
INSIDE = (104, 104, 152, 152)
PICTURE = samples.gradient(*SIZE)


def _mask() -> Image.Image:
    mask = Image.new("L", SIZE)
    mask.paste(255, HOLE)
    return mask


BODY = {
    "prompt": "a lighthouse",
    "steps": 1,
    "seed": 11,
    "strength": 1,
    "mask_blur": 2,
    "image": text(samples.encode(PICTURE)),
    "mask": text(samples.encode(_mask())),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """WebUIs and the service before them."""

    webuis: list[Simulator]
    client: FlaskClient

    def painted(self, **fields: Any) -> Image.Image:
        answer = self.client.post(f"{PREFIX}/inpainting", json=BODY | fields)
        assert answer.status_code == 200, answer.text
        return samples.pixels(base64.b64decode(answer.get_json()["image_base64"].partition(",")[2])).convert("RGB")

    def sent(self) -> dict[str, Any]:
        return dict(json.loads(self.webuis[0].generations[-1].body))


@pytest.fixture(scope="module", params=["sdcpp", "koboldcpp", "sdnext"])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with (
        Simulator(flavour=request.param) as webui,
        service_in_process(tmp_path_factory.mktemp("plain"), webui.url) as app,
    ):
        yield Stage(webuis=[webui], client=app.test_client())


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with (
        Simulator(flavour="sdcpp", step_time=0.2) as sdcpp,
        Simulator(flavour="a1111", step_time=0.2) as a1111,
        service_in_process(tmp_path_factory.mktemp("pool"), f"{sdcpp.url},{a1111.url}") as app,
    ):
        yield Stage(webuis=[sdcpp, a1111], client=app.test_client())


def _picture(encoded: str) -> Image.Image:
    return samples.pixels(base64.b64decode(encoded)).convert("RGB")


def _kept(image: Image.Image, blur: int = 2) -> bool:
    reach = int(2.5 * blur + 0.5)
    difference = ImageChops.difference(image, PICTURE)
    difference.paste(0, (HOLE[0] - reach, HOLE[1] - reach, HOLE[2] + reach, HOLE[3] + reach))
    return difference.getbbox() is None


@pytest.mark.parametrize("padding", [0, 32])
def test_masked_really_paints_the_part_around_the_mask(plain: Stage, padding: int) -> None:
    image = plain.painted(inpaint_area="masked", inpaint_padding=padding)
    margin = padding + 5
    box = (HOLE[0] - margin, HOLE[1] - margin, HOLE[2] + margin, HOLE[3] + margin)
    sent = plain.sent()
    assert (sent["width"], sent["height"]) == SIZE
    assert _picture(sent["init_images"][0]).tobytes() == PICTURE.crop(box).resize(SIZE, 1).tobytes()

    # What the WebUI paints for that, made small again, is what stands in the answer.
    raw = requests.post(f"{plain.webuis[0].url}/sdapi/v1/img2img", json=sent, timeout=30).json()
    side = HOLE[2] - HOLE[0] + 2 * margin
    expected = PICTURE.copy()
    expected.paste(_picture(raw["images"][0]).resize((side, side), Image.Resampling.LANCZOS), box[:2])
    assert image.crop(INSIDE).tobytes() == expected.crop(INSIDE).tobytes()
    assert _kept(image)
    assert image.tobytes() != plain.painted(inpaint_area="whole").tobytes()


def test_fill_begins_with_the_surroundings_colours(plain: Stage) -> None:
    plain.painted(inpaint_fill="fill")
    begun = _picture(plain.sent()["init_images"][0])
    assert ImageChops.difference(begun, PICTURE).crop(INSIDE).getbbox() is not None
    assert _kept(begun, blur=0)
    both = plain.painted(inpaint_fill="fill", inpaint_area="masked")
    assert _kept(both)
    assert plain.painted().tobytes() == plain.painted(inpaint_padding=99).tobytes(), "padding belongs to masked"


@pytest.mark.parametrize("fill", ["noise", "nothing"])
@pytest.mark.parametrize("area", ["whole", "masked"])
def test_what_no_webui_can_do_is_refused(plain: Stage, area: str, fill: str) -> None:
    before = len(plain.webuis[0].generations)
    fields = {"inpaint_area": area, "inpaint_fill": fill}
    problem = problem_of(plain.client.post(f"{PREFIX}/inpainting", json=BODY | fields))
    assert (problem["status"], problem["code"], problem["retryable"]) == (422, "capability_missing", False)
    assert [(entry["field"], entry["received"]) for entry in problem["errors"]] == [("inpaint_fill", fill)]
    with_more = problem_of(plain.client.post(f"{PREFIX}/inpainting", json=BODY | fields | {"steps": 0}))
    assert with_more["code"] == "validation_error"
    assert sorted(entry["field"] for entry in with_more["errors"]) == ["inpaint_fill", "steps"]
    assert len(plain.webuis[0].generations) == before


def test_a_batch_of_parts(plain: Stage) -> None:
    body = plain.client.post(f"{PREFIX}/inpainting", json=BODY | {"inpaint_area": "masked", "batch_size": 3}).get_json()
    images = [_picture(image["image_base64"].partition(",")[2]) for image in body["images"]]
    assert len({image.tobytes() for image in images}) == 3
    assert all(_kept(image) for image in images)


def test_in_a_pool_those_go_to_the_webui_that_can(pool: Stage) -> None:
    for seed in range(4):
        assert _kept(pool.painted(inpaint_fill="noise", inpaint_area="masked", seed=seed))
    assert [len(webui.generations) for webui in pool.webuis] == [0, 4]


def test_in_a_pool_both_can_paint_the_part(pool: Stage) -> None:
    for webui in pool.webuis:
        webui.forget_requests()
    # Of two at once each WebUI gets one.
    with ThreadPoolExecutor(2) as threads:
        images = list(threads.map(lambda _: pool.painted(inpaint_area="masked", steps=4), range(6)))
    assert all(_kept(image) for image in images)
    assert all(webui.generations for webui in pool.webuis)
    own = json.loads(pool.webuis[1].generations[-1].body)
    assert own["inpaint_full_res"] is True
    assert _picture(own["init_images"][0]).tobytes() == PICTURE.tobytes(), "a WebUI that can does it itself"
