"""``examples/browser_fetch.html``: a page of another origin, its mask drawn with the mouse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect

from simulator import Simulator
from tests.running import DEADLINE_S, ROOT, Service, running_service, wait_until

PERSON = ROOT / "examples" / "samples" / "person.jpg"

MOST_IN_EIGHT_SECONDS = 2


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """A web server for the examples alone."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(ROOT / "examples")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join(DEADLINE_S)


@pytest.fixture(scope="module")
def webui() -> Iterator[Simulator]:
    # Without its page: it does not tell whose job runs, so that every one is interrupted.
    with Simulator(has_page=False) as running:
        yield running


@pytest.fixture(scope="module")
def callable_from_there(origin: str, webui: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("cors")
    limit = {"RATE_LIMIT_GENERATION": f"{MOST_IN_EIGHT_SECONDS}/8second"}
    with running_service(folder, webui.url, workers=1, CORS_ORIGINS=origin, **limit) as service:
        service.wait_until_answering()
        yield service


@pytest.fixture
def example(page: Page, origin: str, callable_from_there: Service, webui: Simulator) -> Page:
    webui.clear_faults()
    webui.forget_requests()
    page.goto(f"{origin}/browser_fetch.html?service={callable_from_there.root}")
    page.set_input_files("#photo", PERSON)
    expect(page.locator("#canvas")).to_have_js_property("width", 512)
    return page


def draw(page: Page) -> None:
    """A stroke over the T-shirt, from left to right."""
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    y = box["y"] + 0.5 * box["height"]
    page.mouse.move(box["x"] + 0.4 * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], y, steps=5)
    page.mouse.up()


def test_only_what_was_drawn_over_is_repainted(example: Page, tmp_path: Path) -> None:
    draw(example)
    example.click("#send")
    expect(example.locator("#status")).to_contain_text("Seed")
    expect(example.locator("#problem")).to_be_empty()
    expect(example.locator("#result")).to_have_js_property("naturalWidth", 512)
    png = requests.get(example.locator("#result").get_attribute("src") or "", timeout=DEADLINE_S).content
    (tmp_path / "result.png").write_bytes(png)
    photo, result = Image.open(PERSON).convert("RGB"), Image.open(tmp_path / "result.png").convert("RGB")
    box = ImageChops.difference(photo, result).getbbox()
    assert box is not None
    left, top, right, bottom = box
    # The stroke is 64 pixels wide; its blur reaches a little beyond.
    assert 0.4 * 512 - 60 < left < 0.4 * 512
    assert 0.6 * 512 < right < 0.6 * 512 + 60
    assert 768 / 2 - 60 < top < 768 / 2 < bottom < 768 / 2 + 60


def test_beyond_the_limit_it_waits_and_asks_again(example: Page, callable_from_there: Service) -> None:
    draw(example)
    for _ in range(MOST_IN_EIGHT_SECONDS):  # refused or not, the limit is reached
        callable_from_there.post("/txt2img", {"prompt": "a dot", "width": 64, "height": 64, "steps": 1})
    example.click("#send")
    expect(example.locator("#status")).to_contain_text("again in")
    expect(example.locator("#status")).to_contain_text("Seed")
    expect(example.locator("#problem")).to_be_empty()


def test_without_a_stroke_nothing_is_sent(example: Page, webui: Simulator) -> None:
    example.click("#send")
    expect(example.locator("#problem")).to_have_text("Paint over what is to change.")
    assert webui.generations == []


def test_stop_frees_the_webui(example: Page, callable_from_there: Service, webui: Simulator) -> None:
    webui.set_fault("slow", seconds=3.0)
    draw(example)
    example.click("#send")
    wait_until(lambda: bool(webui.generations), "the WebUI paints")
    example.click("#stop")
    expect(example.locator("#problem")).to_have_text("Stopped.")
    wait_until(lambda: any(one.route == "interrupt" for one in webui.requests), "the job is interrupted")
    wait_until(lambda: callable_from_there.get("/health").json()["webuis"]["busy"] == 0, "the WebUI is free again")
