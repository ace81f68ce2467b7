"""What A1111 and Forge do beside painting: masks between the pictures, flags that stay, combinations that break."""

from __future__ import annotations

import json

import pytest
import requests

from tests.simulator.pixels import encoded, mask, opened, sample, until
from tests.simulator.test_progress import Background, state

SMALL = {"prompt": "a cat", "steps": 4, "width": 64, "height": 64, "seed": 7}
INPAINT = {**SMALL, "init_images": [encoded(sample())], "mask": encoded(mask((20, 20, 43, 43))), "mask_blur": 0}


@pytest.fixture(params=["a1111", "forge"])
def api(start, request):
    return start(flavour=request.param)


@pytest.mark.parametrize(
    ("options", "behind"),
    [
        ({}, []),
        ({"return_mask": True}, ["RGB"]),
        ({"return_mask_composite": True}, ["RGBA"]),
        ({"return_mask": True, "return_mask_composite": True}, ["RGB", "RGBA"]),
    ],
)
def test_masks_and_composites_stand_behind_each_picture(api, options, behind):
    api.post("options", options)
    answer = api.post("img2img", {**INPAINT, "batch_size": 3}).json()
    pictures = [opened(image) for image in answer["images"]]
    assert [picture.mode for picture in pictures] == ["RGB", *behind] * 3
    assert ["parameters" in picture.info for picture in pictures] == [True, *(False for _ in behind)] * 3
    assert len(json.loads(answer["info"])["infotexts"]) == 3
    assert json.loads(answer["info"])["index_of_first_image"] == 0
    if behind == ["RGB"]:
        colours = {(64 * 64 - 24 * 24, (0, 0, 0)), (24 * 24, (255, 255, 255))}
        assert set(pictures[1].getcolors()) == colours


def test_only_inpainting_has_masks(api):
    api.post("options", {"return_mask": True, "return_mask_composite": True})
    assert len(api.post("txt2img", {**SMALL, "batch_size": 2}).json()["images"]) == 2
    without_mask = {name: value for name, value in INPAINT.items() if name != "mask"}
    assert len(api.post("img2img", {**without_mask, "batch_size": 2}).json()["images"]) == 2


def test_an_override_turns_them_off_and_restores_what_was_set(api):
    api.post("options", {"return_mask": True})
    override = {"return_mask": False, "return_mask_composite": False}
    body = {**INPAINT, "batch_size": 2, "override_settings": override, "override_settings_restore_afterwards": True}
    assert len(api.post("img2img", body).json()["images"]) == 2
    assert api.get("options").json()["return_mask"] is True


def test_without_pnginfo_no_picture_has_its_text(api):
    api.post("options", {"enable_pnginfo": False})
    answer = api.paint(batch_size=2)
    assert ["parameters" in opened(image).info for image in answer["images"]] == [False, False]
    assert len(json.loads(answer["info"])["infotexts"]) == 2


def test_flags_stay_until_the_next_job(start):
    api = start(step_time=3.2)
    for route in ("interrupt", "skip"):
        job = Background(api, "txt2img", {**SMALL, "steps": 400})
        until(lambda: state(api)["sampling_step"] >= 1, "it runs")
        api.post(route)
        assert job.join().status_code == 200
        after = state(api)
        assert (after["interrupted"], after["skipped"]) == (route == "interrupt", route == "skip")
        assert after["job_count"] == 0
    api.paint()
    assert not state(api)["interrupted"]
    assert not state(api)["skipped"]
    api.post("interrupt")
    assert state(api)["interrupted"], "an interrupt while idle sets it as well"


def test_without_the_page_nothing_is_below_internal(start):
    api = start(has_page=False)
    for method, path in (("GET", "ping"), ("GET", "pending-tasks"), ("POST", "progress")):
        assert requests.request(method, f"{api.sim.url}/internal/{path}", json={}, timeout=20).status_code == 404
    assert api.paint()["images"]


#: sampler, steps, strength (None: txt2img), the exception of A1111 and of Forge; None where it paints.
FEW_STEPS = [
    ("UniPC", 1, None, "AssertionError", "AssertionError"),
    ("UniPC", 2, None, "AssertionError", "AssertionError"),
    ("UniPC", 3, None, None, None),
    ("UniPC", 4, 0, "IndexError", "IndexError"),
    ("UniPC", 4, 0.05, "IndexError", "IndexError"),
    ("UniPC", 4, 0.3, "AssertionError", "AssertionError"),
    ("UniPC", 10, 0.3, None, None),
    ("DPM++ 2M SDE", 1, None, "UnboundLocalError", None),
    ("DPM++ 2M SDE Heun", 1, None, "UnboundLocalError", None),
    ("DPM++ 3M SDE", 1, None, "UnboundLocalError", None),
    ("DPM++ 3M SDE", 4, 0.05, "UnboundLocalError", None),
    ("DPM++ 3M SDE", 4, 0.3, None, None),
    ("DPM fast", 1, None, None, None),
    ("DPM fast", 4, 0, "ValueError", "ValueError"),
    ("DPM adaptive", 4, 0.05, "ValueError", "ValueError"),
    ("DPM adaptive", 4, 0.3, None, None),
    ("Euler", 1, None, None, None),
    ("Euler", 4, 0, None, None),
]


@pytest.mark.parametrize(("sampler", "steps", "strength", "a1111", "forge"), FEW_STEPS)
@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_samplers_that_break_down_with_few_steps(start, flavour, sampler, steps, strength, a1111, forge):
    api = start(flavour=flavour)
    body = {**SMALL, "sampler_name": sampler, "steps": steps}
    if strength is None:
        response = api.post("txt2img", body)
    else:
        response = api.post("img2img", {**body, "init_images": INPAINT["init_images"], "denoising_strength": strength})
    expected = a1111 if flavour == "a1111" else forge
    assert (response.status_code, response.json().get("error")) == (500 if expected else 200, expected)


@pytest.mark.parametrize("samples_format", ["avif", "gif"])
def test_formats_that_can_be_saved_and_not_sent(api, samples_format):
    api.post("options", {"samples_format": samples_format})
    answer = api.post("txt2img", SMALL)
    assert (answer.status_code, "Invalid image format" in answer.text) == (500, True)


def test_damaged_pixels(start):
    api = start()
    api.sim.set_fault("damaged")
    image = api.paint()["images"][0]
    with pytest.raises(OSError, match="broken"):
        opened(image)
