"""The studio when something is in its way: refusals, limits, outages, slow networks, reloads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from simulator import Simulator
from tests.browser.cable import Cable
from tests.browser.studio_page import Studio, grain, photo, studio_of
from tests.running import Service, free_port, running_service, wait_until


@pytest.fixture
def slow_studio(page: Page, slow: Service, slow_simulator: Simulator) -> Studio:
    slow_simulator.forget_requests()
    return studio_of(page, slow)


def test_wrong_values_are_told_at_their_fields(page: Page, service: Service) -> None:
    studio = studio_of(page, service).prompt("  ").set(steps=0, width=100).generate().wait_for("failed")
    for field, expected in [("steps", "Steps must be between 1 and 150."), ("prompt", "Prompt must not be blank.")]:
        expect(page.locator(f"#{field}-error")).to_have_text(expected)
        expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
        expect(page.locator(f"#{field}")).to_have_attribute("aria-describedby", re.compile(rf"\b{field}-error\b"))
    expect(page.locator("#width-error")).to_contain_text("Width must be a multiple of 8")
    expect(page.locator("#prompt")).to_be_focused()
    expect(page.locator("#height-error")).to_be_hidden()
    studio.prompt("a tree").set(steps=1, width=64, height=64).generate().wait_for("done")
    expect(page.locator("main .error:visible")).to_have_count(0)


def test_a_number_that_is_none_is_not_left_out_in_silence(page: Page, service: Service) -> None:
    studio = studio_of(page, service).prompt("a tree")
    page.locator("#steps").fill("")
    page.locator("#steps").type("1e")
    studio.generate().wait_for("failed")
    expect(page.locator("#steps-error")).to_have_text(
        "Steps must be an integer; leave the field out to get the default."
    )


def test_an_empty_mask_and_a_missing_picture_are_told_where_they_belong(page: Page, service: Service) -> None:
    studio = studio_of(page, service).mode("Inpainting").prompt("a hat").generate().wait_for("failed")
    expect(page.locator("#image-error")).to_have_text("The picture is required.")
    studio.choose_picture(photo((64, 64))).generate()
    expect(page.locator("#mask-error")).to_have_text("The mask is required.")


def test_too_many_requests_count_down(page: Page, service_simulator: Simulator, tmp_path: Path) -> None:
    limits = {"RATE_LIMIT_GENERATION": "1/4 second"}
    with running_service(tmp_path, service_simulator.url, workers=1, **limits) as service:
        service.wait_until_answering()
        studio = studio_of(page, service).prompt("a tree").set(width=64, height=64, steps=1)
        wait_until(lambda: refused(studio, service), "a generation is refused")
        again = page.get_by_role("button", name="Try again")
        # First what is so for some seconds only.
        expect(page.get_by_role("timer")).to_have_text(re.compile(r"Again in [1-4] s"))
        expect(again).to_be_disabled()
        expect(page.locator("#problem h3")).to_have_text("Too many requests")
        expect(page.get_by_role("timer")).to_have_text("You can try again now.")
        again.click()
        studio.wait_for("done")
        page.goto("about:blank")


def refused(studio: Studio, service: Service) -> bool:
    """Whether the page comes too soon after another call: on a busy machine four seconds may have gone by."""
    service.post("/txt2img", {"prompt": "a tree", "width": 64, "height": 64, "steps": 1})
    with studio.page.expect_response("**/txt2img") as answer:
        studio.generate()
    expect(studio.page.locator("#stage")).not_to_have_attribute("data-state", "busy")
    return answer.value.status == 429


def test_a_webui_that_is_down_and_comes_back(page: Page, tmp_path: Path) -> None:
    port = free_port()
    with running_service(tmp_path, f"http://127.0.0.1:{port}", workers=1) as service:
        service.wait_until_answering(503)
        page.goto(service.root)
        expect(page.locator("#health-text")).to_have_text("No WebUI reachable")
        studio = Studio(page, service.root).prompt("a tree").set(width=64, height=64, steps=1).generate()
        studio.wait_for("failed")
        expect(page.locator("#problem h3")).to_have_text("No WebUI can be reached")
        expect(page.get_by_role("timer")).to_be_visible()
        with Simulator(port=port):
            expect(page.locator("#health")).to_have_attribute("data-status", "healthy")
            expect(page.locator("#sampler option").nth(1)).to_be_attached()
            page.get_by_role("button", name="Try again").click()
            studio.wait_for("done")
            page.goto("about:blank")


@pytest.mark.parametrize(
    ("models", "text"),
    [((), "No WebUI has a model"), (("other.safetensors",), "No default model: choose one")],
)
def test_what_keeps_the_service_from_painting_is_said(
    page: Page, tmp_path: Path, models: tuple[str, ...], text: str
) -> None:
    with Simulator(models=models) as webui, running_service(tmp_path, webui.url, workers=1) as service:
        service.wait_until_answering(200 if models else 503)
        page.goto(service.root)
        expect(page.locator("#health-text")).to_have_text(text)
        page.goto("about:blank")


def test_progress_and_cancel(slow_studio: Studio, slow_simulator: Simulator) -> None:
    page = slow_studio.page
    slow_studio.prompt("a long one").set(steps=150).generate().wait_for("busy")
    expect(page.locator("#progress-text")).to_have_text(re.compile(r"Painting, \d+ %"))
    page.click("#cancel")
    slow_studio.wait_for("failed")
    expect(page.locator("#problem h3")).to_have_text("Cancelled")
    assert len(slow_simulator.generations) == 1


def test_the_queue_position_is_told(slow_studio: Studio, context: BrowserContext, slow: Service) -> None:
    other = studio_of(context.new_page(), slow).prompt("the first").set(steps=150).generate()
    expect(other.page.locator("#progress-text")).to_have_text(re.compile("Painting"))
    slow_studio.prompt("the second").set(steps=1, width=64, height=64).generate()
    expect(slow_studio.page.locator("#progress-text")).to_have_text("Waiting: you are next")
    other.page.click("#cancel")
    slow_studio.wait_for("done")
    other.wait_for("failed")


def test_a_reload_in_mid_job_finds_the_job_again(slow_studio: Studio, slow_simulator: Simulator) -> None:
    page = slow_studio.page
    slow_studio.mode("Image to image").choose_picture(photo((64, 64))).prompt("a long one")
    slow_studio.set(steps=20, width=512, height=512).generate()
    expect(page.locator("#progress-text")).to_have_text(re.compile("Painting"))
    page.reload()
    expect(page.locator("#prompt")).to_have_value("a long one")
    slow_studio.wait_for("done")
    assert len(slow_simulator.generations) == 1, "it was painted twice"
    expect(page.locator("#history li")).to_have_count(1)
    with page.expect_response("**/models"):
        page.reload()
    slow_studio.wait_for("empty")


def test_a_job_found_after_a_reload_can_be_cancelled(slow_studio: Studio, slow_simulator: Simulator) -> None:
    page = slow_studio.page
    slow_studio.prompt("a long one").set(steps=150).generate()
    expect(page.locator("#progress-text")).to_have_text(re.compile("Painting"))
    page.reload()
    expect(page.locator("#progress-text")).to_have_text(re.compile("Painting"))
    page.click("#cancel")
    slow_studio.wait_for("failed")
    expect(page.locator("#problem h3")).to_have_text("Cancelled")
    assert len(slow_simulator.generations) == 1


def test_a_lost_connection_does_not_lose_the_picture(page: Page, slow: Service, slow_simulator: Simulator) -> None:
    slow_simulator.forget_requests()
    with Cable(slow.port) as cable:
        studio = Studio(page, cable.root).open().prompt("a long one").set(steps=25).generate()
        expect(page.locator("#progress-text")).to_have_text(re.compile("Painting"))
        cable.cut()
        expect(page.locator("#progress-text")).to_have_text("Connection lost; looking for the job")
        expect(page.locator("#health-text")).to_have_text("Service not reachable")
        cable.mend()
        studio.wait_for("done")
        assert len(slow_simulator.generations) == 1, "it was painted twice"
        page.goto("about:blank")


def test_a_slow_network_shows_how_much_is_sent_and_can_be_cancelled(
    page: Page, service: Service, service_simulator: Simulator
) -> None:
    studio = studio_of(page, service).mode("Image to image").prompt("a tree").choose_picture(grain((320, 320)))
    throttle = page.context.new_cdp_session(page)
    throttle.send("Network.enable")
    slow = {"offline": False, "latency": 100, "downloadThroughput": -1, "uploadThroughput": 30_000}
    throttle.send("Network.emulateNetworkConditions", slow)
    studio.generate().wait_for("busy")
    expect(page.locator("#progress-text")).to_have_text(re.compile(r"Sending, [1-9]\d* %"))
    page.click("#cancel")
    studio.wait_for("failed")
    expect(page.locator("#problem h3")).to_have_text("Cancelled")
    assert service_simulator.generations == []
    throttle.send("Network.emulateNetworkConditions", slow | {"uploadThroughput": -1})
    page.get_by_role("button", name="Try again").click()
    studio.wait_for("done")


def test_an_answer_of_a_proxy_is_told_as_what_it_is(page: Page, service: Service) -> None:
    def bad_gateway(route: Route) -> None:
        route.fulfill(status=502, content_type="text/html", body="<h1>Bad gateway</h1>")

    page.route("**/txt2img", bad_gateway)
    studio_of(page, service).prompt("a tree").generate().wait_for("failed")
    expect(page.locator("#problem")).to_contain_text("Something between here and the service answered 502.")
    expect(page.get_by_role("button", name="Try again")).to_be_enabled()


def test_a_key_is_asked_for_where_keys_are_on(page: Page, service_simulator: Simulator, tmp_path: Path) -> None:
    with running_service(tmp_path, service_simulator.url, workers=1, API_KEYS="sésame") as service:
        service.wait_until_answering()
        page.goto(service.root)
        expect(page.locator("#key-dialog")).to_be_visible()
        page.fill("#key", "guess")
        page.keyboard.press("Enter")
        expect(page.locator("#key-error")).to_have_text("The service does not know this key.")
        page.fill("#key", "sésame")
        page.keyboard.press("Enter")
        expect(page.locator("#key-dialog")).to_be_hidden()
        studio = Studio(page, service.root).prompt("a tree").set(width=64, height=64, steps=1).generate()
        studio.wait_for("done")
        expect(page.locator("#code")).to_contain_text("$SD_API_KEY")
        assert page.evaluate("JSON.stringify(localStorage)") == "{}", "the key is kept beyond the tab"
        studio.open()
        expect(page.locator("#key-dialog")).to_be_hidden()
        page.goto("about:blank")
