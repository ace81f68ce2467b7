"""The studio enlarges the picture that it shows: by its id, as a job like the others."""

from __future__ import annotations

import re

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect

from simulator import Simulator
from tests.browser.studio_page import Studio, studio_of
from tests.running import Service

UPSCALER, SCALE = "[id='upscale.upscaler']", "[id='upscale.scale']"
WIDTH, HEIGHT = "[id='upscale.width']", "[id='upscale.height']"


@pytest.fixture
def studio(page: Page, service: Service) -> Studio:
    return studio_of(page, service).prompt("a harbour").set(width=64, height=64, steps=1, seed=7)


def enlarge(studio: Studio) -> Studio:
    with studio.page.expect_response("**/upscale"):
        studio.page.click("#upscale")
    expect(studio.page.locator("#generate")).to_be_enabled()
    return studio


def test_the_picture_that_is_shown_is_enlarged(studio: Studio, service: Service, service_simulator: Simulator) -> None:
    page = studio.page
    expect(page.locator(f"{UPSCALER} option")).to_have_text(service.get("/options").json()["upscale"]["upscalers"])
    expect(page.locator("#upscale")).to_be_disabled()
    studio.set(batch_size=2).generate().wait_for("done")
    page.locator("#batch button").nth(1).click()
    painted = studio.result()
    page.select_option(UPSCALER, "Nearest")
    with page.expect_request("**/upscale") as sent:
        enlarge(studio).wait_for("done")
    asked = sent.value.post_data_json
    assert service.get(f"/image/{asked.pop('image')}").status_code == 200
    assert asked == {"upscaler": "Nearest", "scale": 2}
    assert (
        ImageChops.difference(painted.resize((128, 128), Image.Resampling.NEAREST), studio.result()).getbbox() is None
    )
    for name, expected in [("Seed", "8"), ("Size", "128 × 128"), ("Model", "sd-v1-5"), ("Enlarged by", "Nearest")]:
        expect(studio.fact(name)).to_have_text(expected)
    expect(page.locator("#compare-button")).to_be_enabled()
    assert [one.path.rpartition("/")[2] for one in service_simulator.generations] == ["txt2img", "extra-single-image"]


def test_it_stays_in_the_history_with_what_it_was_painted_by(studio: Studio) -> None:
    page = studio.page
    studio.add_lora("add-detail", 0.5).generate().wait_for("done")
    page.fill(SCALE, "1.5")
    enlarge(studio).wait_for("done")
    expect(page.locator("#history li")).to_have_count(2)
    studio.open().page.locator("#history button").first.click()
    expect(studio.fact("Size")).to_have_text("96 × 96")
    expect(studio.fact("LoRAs")).to_contain_text("add-detail")
    page.click("#use-settings")
    expect(page.locator("#prompt")).to_have_value("a harbour")
    expect(page.locator("#seed")).to_have_value("7")
    page.locator("#more summary").click()
    expect(studio.weight("add-detail")).to_have_value("0.5")


def test_what_is_refused_is_said_at_its_input_and_can_be_changed(studio: Studio) -> None:
    page = studio.generate().wait_for("done").page
    page.fill(SCALE, "9")
    enlarge(studio).wait_for("failed")
    expect(page.locator(SCALE)).to_have_accessible_description("Scale must be between 1.1 and 4.")
    expect(page.locator(SCALE)).to_have_attribute("aria-invalid", "true")
    expect(page.locator(SCALE)).to_be_focused()
    expect(page.locator("#download")).to_be_disabled()
    page.fill(SCALE, "3")
    enlarge(studio).wait_for("done")
    assert studio.result().size == (192, 192)
    expect(page.locator("main .error:visible")).to_have_count(0)


@pytest.mark.parametrize(
    ("filled", "expected"),
    [
        ({WIDTH: "184"}, {"width": 184, "height": 120}),
        ({HEIGHT: "96"}, {"width": 144, "height": 96}),
        ({WIDTH: "192", HEIGHT: "128"}, {"width": 192, "height": 128}),
    ],
)
def test_to_a_size(studio: Studio, filled: dict[str, str], expected: dict[str, int]) -> None:
    """A side that is left out follows from the picture's shape."""
    page = studio.set(width=96, height=64).generate().wait_for("done").page
    for place, value in filled.items():
        page.fill(place, value)
    expect(page.locator(SCALE)).to_be_disabled()
    with page.expect_request("**/upscale") as sent:
        enlarge(studio).wait_for("done")
    assert {name: sent.value.post_data_json.get(name) for name in ("width", "height", "scale")} == {
        **expected,
        "scale": None,
    }
    assert studio.result().size == (expected["width"], expected["height"])
    for place in filled:
        page.fill(place, "")
    expect(page.locator(SCALE)).to_be_enabled()


def test_a_size_that_does_not_fit_is_refused_at_its_input(studio: Studio) -> None:
    page = studio.generate().wait_for("done").page
    page.fill(WIDTH, "128")
    page.fill(HEIGHT, "256")
    enlarge(studio).wait_for("failed")
    expect(page.locator(HEIGHT)).to_have_accessible_description(re.compile("^Height must fit the picture's shape"))
    page.fill(WIDTH, "100")
    page.fill(HEIGHT, "")
    enlarge(studio).wait_for("failed")
    expect(page.locator(WIDTH)).to_have_accessible_description(re.compile("^Width must be a multiple of 8"))


def test_a_picture_that_is_gone_is_told_as_such(studio: Studio, service: Service) -> None:
    with studio.page.expect_response("**/txt2img") as answer:
        studio.generate().wait_for("done")
    (stored,) = service.images.rglob(f"{answer.value.json()['image_id']}.png")
    stored.unlink()
    enlarge(studio).wait_for("failed")
    expect(studio.page.locator("#problem")).to_contain_text("names no stored image")
