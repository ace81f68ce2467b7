"""``/docs`` and ``/docs/errors`` in Chromium: offline, under their own policy, and of use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, Locator, Page, expect
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import WSGIRequestHandler, make_server

from simulator import Simulator
from tests.browser.conftest import watched
from tests.running import PREFIX, service_in_process


class Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Nothing: what a page asks for is looked at in the page."""


@contextmanager
def served(app: object) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def open_docs(app: Flask) -> Iterator[str]:
    """Behind a path prefix, as a proxy would have it: nothing may be asked for beside it."""
    with served(DispatcherMiddleware(NotFound(), {"/sd": app.wsgi_app})) as root:
        yield f"{root}/sd"


@pytest.fixture(scope="module")
def keyed_docs(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("keyed")
    with service_in_process(folder, shared_simulator.url, API_KEYS="secret") as app, served(app) as root:
        yield root


@pytest.fixture(scope="module")
def docs(browser: Browser, open_docs: str) -> Iterator[Page]:
    """The page, opened once: what Swagger UI makes of the description takes seconds."""
    complaints: list[str] = []
    context = watched(browser.new_context(viewport={"width": 1280, "height": 900}), complaints)
    page = context.new_page()
    page.goto(f"{open_docs}/docs")
    yield page
    context.close()
    assert complaints == []


def operation(page: Page, method: str, path: str) -> Locator:
    """An operation's block, opened."""
    exact = f'.opblock-{method}:has(.opblock-summary-path[data-path="{PREFIX}/{path}"])'
    found = page.locator(exact)
    found.locator(".opblock-summary-control").click()
    expect(found.locator(".execute")).to_be_visible()
    return found


def execute(block: Locator) -> Locator:
    """What was answered."""
    block.locator(".execute").click()
    answer = block.locator(".live-responses-table .response")
    expect(answer).to_be_visible()
    return answer


def test_every_operation_is_shown(docs: Page, app: Flask) -> None:
    described = app.test_client().get("/openapi.json").get_json()["paths"]
    expect(docs.locator(".opblock")).to_have_count(sum(len(methods) for methods in described.values()))
    expect(docs.locator(".errors-wrapper")).to_have_count(0)


def test_a_slash_at_the_end_leads_to_the_page(docs: Page, open_docs: str) -> None:
    assert docs.request.get(f"{open_docs}/docs/").url == f"{open_docs}/docs"


def test_health_can_be_tried(docs: Page) -> None:
    answer = execute(operation(docs, "get", "health"))
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    expect(answer).to_contain_text('"status": "healthy"')


def test_a_picture_can_be_painted(docs: Page) -> None:
    block = operation(docs, "post", "txt2img")
    block.locator(".body-param__text").fill('{"prompt": "a boat", "width": 64, "height": 64, "response_format": "url"}')
    answer = execute(block)
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    expect(answer).to_contain_text('"image_url"')


def test_a_form_has_a_place_for_files(docs: Page) -> None:
    block = operation(docs, "post", "inpainting")
    block.locator(".body-param-content-type select").select_option("multipart/form-data")
    expect(block.locator('tr[data-property-name="image"] input[type="file"]')).to_be_visible()
    expect(block.locator('tr[data-property-name="mask"] input[type="file"]')).to_be_visible()


def test_a_key_can_be_given(page: Page, keyed_docs: str) -> None:
    page.goto(f"{keyed_docs}/docs")
    block = operation(page, "get", "models")
    page.locator(".auth-wrapper .authorize").first.click()
    page.get_by_label("auth-bearer-value").fill("secret")
    page.locator(".auth-container").first.get_by_role("button", name="Apply credentials").click()
    page.locator(".btn-done").first.click()
    answer = execute(block)
    expect(answer.locator(".response-col_status")).to_contain_text("200")


def test_a_link_to_a_code_leads_to_it(page: Page, open_docs: str) -> None:
    page.goto(f"{open_docs}/docs/errors#queue_full")
    section = page.locator("#queue_full")
    expect(section).to_be_in_viewport()
    expect(section).to_contain_text("SD_QUEUE_LIMIT")
    page.get_by_role("link", name="Stable Diffusion API").click()
    expect(page).to_have_url(f"{open_docs}/docs")
    page.goto("about:blank")  # before Swagger UI makes its page


def test_the_errors_page_can_be_read_by_all(page: Page, open_docs: str) -> None:
    page.goto(f"{open_docs}/docs/errors")
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert Axe().run(page).response["violations"] == []
