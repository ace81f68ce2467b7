"""The studio's second picture, a garment or a style: beside the other, never instead of it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from simulator import Simulator
from tests.browser.studio_page import Studio, last_payload, photo, studio_of
from tests.browser.test_studio_code import LANGUAGES, run
from tests.running import Service

#: What a browser does with a file that is dropped on an element.
_DROP = """
    ([selector, data]) => {
        const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        const place = document.querySelector(selector);
        for (const kind of ["dragover", "drop"]) {
            place.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }
    }
"""


@pytest.fixture
def studio(context: BrowserContext, page: Page, service: Service) -> Studio:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return studio_of(page, service).prompt("a coat").set(width=64, height=64, steps=1)


def units(simulator: Simulator) -> list[dict[str, object]]:
    """What the WebUI's ControlNet was asked for last."""
    found: list[dict[str, object]] = (
        last_payload(simulator).get("alwayson_scripts", {}).get("controlnet", {"args": []})["args"]
    )
    return found


def test_a_garment_is_sent_and_named_until_it_is_removed(studio: Studio, service_simulator: Simulator) -> None:
    page = studio.page
    expect(page.locator("#reference_weight")).to_be_hidden()
    studio.choose_reference(photo((64, 64)))
    expect(page.locator("#reference-remark")).to_have_text("64 × 64 pixels")
    studio.generate_again().wait_for("done")
    assert [unit["weight"] for unit in units(service_simulator)] == [0.8]
    expect(studio.fact("Reference")).to_have_text("ip-adapter-plus_sd15")
    page.click("#reference-remove")
    expect(page.locator("#reference-choose")).to_be_focused()
    with page.expect_request("**/txt2img") as sent:
        studio.generate_again()
    assert not [name for name in sent.value.post_data_json if name.startswith("reference")]
    assert units(service_simulator) == []
    expect(page.locator("#meta dt", has_text="Reference")).to_have_count(0)


def test_try_on(studio: Studio, service_simulator: Simulator) -> None:
    """Three pictures at once, and how the garment is used."""
    page = studio.page
    studio.mode("Inpainting").choose_picture(photo((128, 128))).drag([(0.3, 0.5), (0.6, 0.5)])
    studio.choose_reference(photo((64, 96))).set(reference_weight=0.5)
    page.select_option("#reference_method", "attention")
    studio.generate().wait_for("done")
    expect(studio.fact("Reference")).to_have_text("attention")
    sent = last_payload(service_simulator)
    assert sent["mask"]
    assert sent["init_images"]
    assert [unit["weight"] for unit in units(service_simulator)] == [0.5]


def test_what_is_dropped_on_its_box_is_not_the_picture_to_work_on(studio: Studio) -> None:
    page = studio.mode("Image to image").page
    page.evaluate(_DROP, ["#reference-drop", base64.b64encode(photo((64, 32))).decode()])
    expect(page.locator("#reference-remark")).to_have_text("64 × 32 pixels")
    expect(page.locator("#easel")).to_be_hidden()
    page.evaluate(_DROP, ["#drop", base64.b64encode(photo((32, 64))).decode()])
    expect(page.locator("#source-remark")).to_have_text("32 × 64 pixels")
    expect(page.locator("#reference-remark")).to_have_text("64 × 32 pixels")


def test_refusals_are_shown_in_its_card(studio: Studio) -> None:
    page = studio.page
    studio.choose_reference(photo((8, 8))).set(reference_weight=0).generate().wait_for("failed")
    expect(page.locator("#reference-error")).to_contain_text("The reference picture must")
    expect(page.locator("#reference_weight-error")).to_have_text("Weight must be between 0.1 and 1.")
    expect(page.locator("#reference_weight")).to_have_attribute("aria-invalid", "true")
    studio.choose_reference(b"no picture")
    expect(page.locator("#reference-error")).to_have_text("Your browser cannot read this file as a picture.")


def test_kept_settings_say_that_the_garment_is_missing(studio: Studio) -> None:
    page = studio.page
    studio.choose_reference(photo((64, 64))).set(reference_weight=0.5).generate().wait_for("done")
    expect(page.locator("#history li")).to_have_count(1)
    studio.open().page.locator("#history button").click()
    expect(studio.fact("Reference")).to_have_text("ip-adapter-plus_sd15")
    page.click("#use-settings")
    expect(page.locator("#reference-error")).to_have_text(
        "The reference picture that was used is not kept: choose it again."
    )
    studio.choose_reference(photo((64, 64)))
    expect(page.locator("#reference-error")).to_be_hidden()
    expect(page.locator("#reference_weight")).to_have_value("0.5")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_same_by_program(studio: Studio, service_simulator: Simulator, tmp_path: Path, language: str) -> None:
    """Both pictures have the same name: the page saves the second under another."""
    (tmp_path / "hat.png").write_bytes(photo((64, 64)))
    studio.mode("Image to image").choose_picture(photo((64, 64)), name="hat.png")
    studio.choose_reference(photo((96, 64)), name="hat.png").save("code-reference", tmp_path)
    expect(studio.page.locator("#code-remark")).to_have_text(
        "It reads hat.png and reference-hat.png from the folder where it runs."
    )
    service_simulator.forget_requests()
    files = {"image": "hat.png", "reference": "reference-hat.png"}
    assert run(language, studio.copied_code(language), tmp_path, files=files).size == (64, 64)
    assert len(units(service_simulator)) == 1
