"""The studio's LoRAs, second pass and clip skip: each control sends what it says, and is there where the pool can."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from simulator import Simulator
from tests.browser.studio_page import Studio, last_payload, photo, studio_of
from tests.running import Service, running_service


@pytest.fixture
def studio(page: Page, service: Service) -> Studio:
    return studio_of(page, service).prompt("a harbour").set(width=64, height=64, steps=1, seed=7)


def controls(page: Page) -> dict[str, Locator]:
    """What is there only where the pool can do it, by the field's name."""
    page.evaluate("document.getElementById('more').open = true")
    found = {"loras": "#lora", "hires": "#hires", "clip_skip": "#clip_skip"}
    found |= {"reference": "#reference-card", "upscale": "#enlarging", "code": "#code-calls"}
    return {name: page.locator(place) for name, place in found.items()}


def test_loras_are_sent_with_their_weights(studio: Studio, service: Service, service_simulator: Simulator) -> None:
    listed = service.get("/options").json()["loras"]
    expect(studio.page.locator("#lora option")).to_have_count(len(listed))
    expect(studio.page.locator("#lora option").first).to_have_text("add-detail, for SD 1")
    for name in ("blue coat", "add-detail", "red dress v1.2"):
        studio.add_lora(name)
    expect(studio.page.locator("#lora option")).to_have_count(len(listed) - 3)
    studio.weight("add-detail").fill("0.5")
    studio.page.get_by_role("button", name="Remove blue coat").click()
    with studio.page.expect_request("**/txt2img") as sent:
        studio.generate().wait_for("done")
    expected = [{"name": "add-detail", "weight": 0.5}, {"name": "red dress v1.2", "weight": 1}]
    assert sent.value.post_data_json["loras"] == expected
    assert last_payload(service_simulator)["prompt"] == "<lora:add-detail:0.5> <lora:red dress v1.2:1.0> a harbour"
    used = sent.value.response().json()["used"]["loras"]
    expect(studio.fact("LoRAs")).to_have_text(", ".join(f"{lora['name']} ({lora['hash']})" for lora in used))
    expect(studio.page.locator("#meta dt", has_text="Second pass")).to_have_count(0)


def test_a_second_pass_enlarges(studio: Studio, service: Service, service_simulator: Simulator) -> None:
    page = studio.page
    upscalers = service.get("/options").json()["hires"]["upscalers"]
    expect(page.locator("[id='hires.scale']")).to_be_hidden()
    page.check("#hires")
    expect(page.locator("[id='hires.upscaler'] option")).to_have_text(upscalers)
    page.fill("[id='hires.scale']", "1.5")
    page.select_option("[id='hires.upscaler']", "4x-UltraSharp")
    studio.generate().wait_for("done")
    assert studio.result().size == (96, 96)
    expect(studio.fact("Second pass")).to_have_text("4x-UltraSharp")
    assert last_payload(service_simulator)["hr_upscaler"] == "4x-UltraSharp"
    page.uncheck("#hires")
    studio.generate_again()
    assert studio.result().size == (64, 64)
    expect(page.locator("#meta dt", has_text="Second pass")).to_have_count(0)


def test_steps_and_strength_of_a_second_pass(studio: Studio, service_simulator: Simulator) -> None:
    page = studio.page
    page.check("#hires")
    with page.expect_request("**/txt2img") as sent:
        studio.generate().wait_for("done")
    assert sent.value.post_data_json["hires"].keys() == {"scale", "upscaler"}
    page.fill("[id='hires.steps']", "3")
    page.fill("[id='hires.strength']", "0.4")
    studio.generate_again()
    payload = last_payload(service_simulator)
    assert (payload["hr_second_pass_steps"], payload["denoising_strength"]) == (3, 0.4)
    page.fill("[id='hires.steps']", "999")
    page.fill("[id='hires.strength']", "2")
    studio.generate_again().wait_for("failed")
    for name, message in (("steps", "Steps must be between 0 and 150."), ("strength", "Strength must be between 0.05")):
        place = page.locator(f"[id='hires.{name}']")
        expect(place).to_have_accessible_description(re.compile(f"^{message}"))


def test_clip_skip(studio: Studio, service_simulator: Simulator) -> None:
    studio.set(clip_skip=3).generate().wait_for("done")
    assert last_payload(service_simulator)["override_settings"]["CLIP_stop_at_last_layers"] == 3


def test_beside_a_picture_they_go_into_the_form(studio: Studio, service_simulator: Simulator) -> None:
    page = studio.page
    page.evaluate("document.getElementById('more').open = true")
    page.check("#hires")
    studio.add_lora("add-detail", 0.5).set(clip_skip=2).mode("Image to image").choose_picture(photo((64, 64)))
    expect(page.locator("#hires")).to_be_hidden()
    studio.generate().wait_for("done")
    sent = last_payload(service_simulator)
    assert sent["prompt"] == "<lora:add-detail:0.5> a harbour"
    assert not sent.get("enable_hr")
    assert studio.result().size == (64, 64)


def test_by_keyboard(studio: Studio) -> None:
    page = studio.page
    page.locator("#more summary").focus()  # the fixture has opened it
    page.keyboard.press("Tab")
    expect(page.locator("#lora")).to_be_focused()
    page.keyboard.type("red")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    weight = page.get_by_role("slider", name="Weight of red dress v1.2")
    expect(weight).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(studio.weight("red dress v1.2")).to_have_value("0.95")
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Remove red dress v1.2")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#lora")).to_be_focused()
    expect(page.locator("#lora-list li")).to_have_count(0)


def test_what_is_refused_is_said_at_its_input(studio: Studio) -> None:
    page = studio.page
    studio.add_lora("blue coat").add_lora("red dress v1.2", 3).add_lora("add-detail", 0).set(clip_skip=13)
    page.check("#hires")
    page.fill("[id='hires.scale']", "9")
    page.locator("#more").evaluate("more => { more.open = false; }")
    studio.generate().wait_for("failed")
    for input_, message in [
        (studio.weight("red dress v1.2"), "Weight must be between -2 and 2."),
        (studio.weight("add-detail"), "Weight must not be 0, which would change nothing."),
        (page.locator("[id='hires.scale']"), "Scale must be between 1.1 and 4."),
        (page.locator("#clip_skip"), "Clip skip must be between 1 and 12."),
    ]:
        expect(input_).to_have_attribute("aria-invalid", "true")
        expect(input_).to_have_accessible_description(message)
        expect(page.locator(".error:visible", has_text=message)).to_have_count(1)
    expect(page.locator("main .error:visible")).to_have_count(4)
    expect(studio.weight("red dress v1.2")).to_be_focused()
    # The rest moves up in the list that is sent, and is still told where it belongs.
    page.get_by_role("button", name="Remove blue coat").click()
    studio.weight("red dress v1.2").fill("1")
    page.uncheck("#hires")
    studio.set(clip_skip="").generate_again().wait_for("failed")
    expect(studio.weight("add-detail")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("main .error:visible")).to_have_count(1)


def test_what_is_wrong_with_more_than_the_field_is_said_as_a_sentence(studio: Studio) -> None:
    studio.set(width=768, height=768).page.check("#hires")
    studio.page.fill("[id='hires.scale']", "4")
    studio.generate().wait_for("failed")
    expect(studio.page.locator(".error:visible")).to_have_text(
        "Scale: the final picture must have at most 4194304 pixels."
    )


def test_a_lora_that_does_nothing_is_refused_at_its_name(studio: Studio) -> None:
    studio.add_lora("add-detail").add_lora("foreign").generate().wait_for("failed")
    row = studio.page.locator("#lora-list li", has_text="foreign")
    expect(row.locator(".error:visible")).to_contain_text("which was tried and changes nothing")
    expect(studio.page.get_by_role("button", name="Remove foreign")).to_be_focused()


@pytest.mark.parametrize(
    ("flavour", "there"),
    [
        ("koboldcpp", set()),
        ("sdcpp", {"loras", "hires", "clip_skip"}),
        ("sdnext", {"loras", "clip_skip", "reference", "upscale", "code"}),
    ],
)
def test_what_the_pool_cannot_is_not_there(page: Page, tmp_path: Path, flavour: str, there: set[str]) -> None:
    with Simulator(flavour=flavour) as webui, running_service(tmp_path, webui.url, workers=1) as service:
        service.wait_until_answering()
        studio = studio_of(page, service)
        for name, control in controls(page).items():
            expect(control).to_be_visible(visible=name in there)
        studio.prompt("a harbour").set(width=64, height=64, steps=1).generate().wait_for("done")
        page.goto("about:blank")


def test_kept_settings_bring_them_back(studio: Studio) -> None:
    page = studio.page
    studio.add_lora("add-detail", 0.5).set(clip_skip=2).page.check("#hires")
    page.fill("[id='hires.scale']", "1.5")
    page.fill("[id='hires.strength']", "0.4")
    page.select_option("[id='hires.upscaler']", "Lanczos")
    studio.generate().wait_for("done")
    expect(page.locator("#history li")).to_have_count(1)
    studio.open().prompt("another").set(width=64, height=64, steps=1).generate().wait_for("done")
    expect(page.locator("#history li")).to_have_count(2)
    page.locator("#history button").last.click()
    expect(studio.fact("LoRAs")).to_contain_text("add-detail")
    page.click("#use-settings")
    with page.expect_request("**/txt2img") as sent:
        studio.generate_again()
    asked = sent.value.post_data_json
    assert asked["loras"] == [{"name": "add-detail", "weight": 0.5}]
    assert asked["hires"] == {"scale": 1.5, "upscaler": "Lanczos", "strength": 0.4}
    assert asked["clip_skip"] == 2
    page.locator("#history button").nth(1).click()  # without any of them
    expect(studio.fact("Second pass")).to_have_count(0)
    page.click("#use-settings")
    with page.expect_request("**/txt2img") as sent:
        studio.generate_again()
    assert not {"loras", "hires", "clip_skip"} & sent.value.post_data_json.keys()


def test_what_was_kept_is_not_dropped_where_the_pool_no_longer_can(studio: Studio) -> None:
    """The service says what is missing; without a word the picture would be another."""

    def without(route: Route) -> None:
        answer = route.fetch()
        cannot = dict.fromkeys(("hires", "clip_skip", "reference", "upscale"))
        route.fulfill(response=answer, json=answer.json() | cannot | {"loras": []})

    page = studio.page
    studio.add_lora("add-detail", 0.5).set(clip_skip=2).choose_reference(photo((64, 64))).page.check("#hires")
    studio.generate().wait_for("done")
    expect(page.locator("#history li")).to_have_count(1)
    page.route("**/options", without)
    studio.open()
    for control in controls(page).values():
        expect(control).to_be_hidden()
    page.locator("#history button").click()
    studio.wait_for("done").page.click("#use-settings")
    expect(studio.weight("add-detail")).to_have_value("0.5")
    expect(page.locator("#hires")).to_be_checked()
    expect(page.locator("#clip_skip")).to_have_value("2")
    expect(page.locator("#reference-error")).to_contain_text("is not kept: choose it again")
    page.unroute_all(behavior="wait")
