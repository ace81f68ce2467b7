"""The studio's way from a prompt to a picture, and what can be done with that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Page, Route, expect

from simulator import Simulator
from tests.browser.studio_page import Studio, last_payload, studio_of
from tests.running import Service


@pytest.fixture
def studio(page: Page, service: Service) -> Studio:
    return studio_of(page, service)


def test_a_prompt_becomes_a_picture(studio: Studio, service_simulator: Simulator) -> None:
    studio.prompt("a lighthouse at dusk").set(seed=7, steps=3, width=256, height=128).generate().wait_for("done")
    assert studio.result().size == (256, 128)
    for name, expected in [("Seed", "7"), ("Size", "256 × 128"), ("Model", "sd-v1-5")]:
        expect(studio.fact(name)).to_have_text(expected)
    sent = last_payload(service_simulator)
    assert (sent["prompt"], sent["steps"], sent["seed"]) == ("a lighthouse at dusk", 3, 7)


def test_what_was_not_touched_is_left_to_the_service(studio: Studio) -> None:
    studio.prompt("a pond")
    with studio.page.expect_request("**/txt2img") as sent:
        studio.generate().wait_for("done")
    assert sent.value.post_data_json == {"prompt": "a pond"}
    assert re.fullmatch(r"[0-9a-f-]{36}", sent.value.headers["x-request-id"])
    assert re.fullmatch(r"[0-9a-f-]{36}", sent.value.headers["idempotency-key"])


def test_the_form_is_built_from_what_the_service_tells(studio: Studio, service: Service) -> None:
    options, models = service.get("/options").json(), service.get("/models").json()
    page = studio.page
    others = [model["id"] for model in models["models"] if not model["default"]]
    for field, first, choices in [
        ("sampler", "The default", options["samplers"]),
        ("scheduler", "The default", options["schedulers"]),
        ("model", f"{models['default']} (default)", others),
    ]:
        expect(page.locator(f"#{field} option")).to_have_text([first, *choices])
    steps = page.locator("#steps")
    expect(steps).to_have_attribute("max", str(options["limits"]["steps"]["maximum"]))
    expect(steps).to_have_value("20")
    studio.mode("Inpainting")
    expect(steps).to_have_value("30")
    expect(page.locator("#strength")).to_have_value("0.9")


def test_it_says_that_a_simulator_paints(studio: Studio) -> None:
    expect(studio.page.locator("#simulated")).to_have_text("A simulator paints, no model")


def test_a_batch_shows_every_image_with_its_seed(studio: Studio) -> None:
    studio.prompt("three trees").set(seed=40, batch_size=3, width=64, height=64, steps=1).generate().wait_for("done")
    buttons = studio.page.locator("#batch button")
    expect(buttons).to_have_count(3)
    first = studio.result()
    buttons.nth(2).click()
    expect(studio.fact("Seed")).to_have_text("42")
    assert ImageChops.difference(first, studio.result()).getbbox() is not None


def test_a_seed_used_again_paints_the_same(studio: Studio) -> None:
    studio.prompt("a fox").set(width=64, height=64, steps=1).generate().wait_for("done")
    seed, first = studio.fact("Seed").inner_text(), studio.result()
    assert seed.isdecimal()
    studio.page.click("#use-seed")
    expect(studio.page.locator("#seed")).to_have_value(seed)
    studio.generate_again().wait_for("done")
    assert ImageChops.difference(first, studio.result()).getbbox() is None


def test_image_to_image_from_the_last_picture(studio: Studio, service_simulator: Simulator) -> None:
    studio.prompt("a hill").set(width=128, height=64, steps=1).generate().wait_for("done")
    first = studio.result()
    studio.page.click("#use-picture")
    expect(studio.page.locator("#easel")).to_be_visible()
    studio.mode("Image to image").prompt("a hill at night").set(strength=0.3).generate_again().wait_for("done")
    assert studio.result().size == (128, 64)
    assert last_payload(service_simulator)["denoising_strength"] == 0.3
    studio.page.click("#compare-button")
    slider = studio.page.get_by_role("slider", name="Before and after")
    slider.focus()
    slider.press("Home")
    expect(studio.page.locator("#picture")).to_have_attribute("style", re.compile("--cut: *0%"))
    before = studio.page.locator("#picture .before")
    expect(before).to_have_js_property("naturalWidth", first.width)
    expect(before).to_have_js_property("naturalHeight", first.height)


def test_history_stays_over_a_reload_and_repeats(studio: Studio) -> None:
    studio.prompt("a boat").set(seed=5, steps=2, width=64, height=128).generate().wait_for("done")
    expect(studio.page.locator("#history li")).to_have_count(1)
    painted = studio.result()
    studio.open()
    studio.page.locator("#history button").click()
    studio.wait_for("done")
    assert ImageChops.difference(painted, studio.result()).getbbox() is None
    studio.page.click("#use-settings")
    for name, value in [("prompt", "a boat"), ("seed", "5"), ("steps", "2"), ("width", "64"), ("height", "128")]:
        expect(studio.page.locator(f"#{name}")).to_have_value(value)
    studio.page.click("#history-clear")
    expect(studio.page.locator("#history li")).to_have_count(0)
    expect(studio.open().page.locator("#history-empty")).to_be_visible()


def test_a_kept_picture_that_is_gone_is_told_as_such(studio: Studio, service: Service) -> None:
    studio.prompt("a boat").set(width=64, height=64, steps=1).generate().wait_for("done")
    expect(studio.page.locator("#history li")).to_have_count(1)
    painted = studio.result()
    (stored,) = [path for path in service.images.rglob("*.png") if same(path, painted)]
    aside = stored.rename(stored.with_suffix(".aside"))
    studio.open()
    kept = studio.page.locator("#history button")
    kept.click()
    studio.wait_for("failed")
    expect(studio.page.locator("#problem h3")).to_have_text("This picture is no longer stored")
    aside.rename(stored)
    kept.click()
    studio.wait_for("done")
    assert ImageChops.difference(painted, studio.result()).getbbox() is None


def same(path: Path, picture: Image.Image) -> bool:
    with Image.open(path) as image:
        return image.size == picture.size and image.convert("RGB").tobytes() == picture.tobytes()


def test_a_download_is_the_png_itself(studio: Studio) -> None:
    studio.prompt("a bridge").set(width=64, height=64, steps=1).generate().wait_for("done")
    with studio.page.expect_download() as saved:
        studio.page.click("#download")
    assert re.fullmatch(r"[0-9a-f-]{36}\.png", saved.value.suggested_filename)
    with Image.open(saved.value.path()) as image:
        assert (image.format, image.size) == ("PNG", (64, 64))
        assert "parameters" in image.info, "the WebUI's text is in it"


def test_it_works_below_a_path_of_a_proxy(page: Page, service: Service) -> None:
    def proxy(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/below/this/", "/")))

    page.route("**/*", proxy)
    studio = Studio(page, f"{service.root}/below/this/").open().prompt("a tree").set(width=64, height=64, steps=1)
    with page.expect_request("**/txt2img") as sent:
        studio.generate().wait_for("done")
    assert sent.value.url.startswith(studio.root)
    page.unroute_all(behavior="wait")  # what is under way would fail with the page, in the next test


def test_the_theme_is_kept(studio: Studio) -> None:
    body = studio.page.locator("body")
    light = studio.page.evaluate("getComputedStyle(document.body).backgroundColor")
    button = studio.page.locator("#theme-button")
    button.click()
    button.click()
    expect(button).to_have_attribute("aria-label", "Theme: dark")
    expect(body).not_to_have_css("background-color", light)
    studio.open()
    expect(button).to_have_attribute("aria-label", "Theme: dark")
    expect(body).not_to_have_css("background-color", light)
