"""A real Chromium, without a window: whatever a page says to its console or asks of other hosts fails its test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

from simulator import Simulator
from tests.running import DEADLINE_S, PREFIX, Service, running_service

#: Nothing of the browser's may go out: no updates, no first-run page, no sync.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    # A camera that shows a test picture, and is granted.
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]


expect.set_options(timeout=DEADLINE_S * 1000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all tests of a process; each test gets a new context."""
    # The same browser without windows, tabs and menus: a page costs a quarter less of processor time, a start half.
    found = shutil.which("chromium-headless-shell")
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def complaints() -> list[str]:
    """What pages complained about: nothing, at a test's end."""
    return []


@pytest.fixture
def context(browser: Browser, complaints: list[str]) -> Iterator[BrowserContext]:
    """As a new visitor's: nothing stored."""
    made = watched(browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce"), complaints)
    yield made
    made.close()
    assert complaints == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture(scope="session")
def slow_simulator() -> Iterator[Simulator]:
    """Six seconds for thirty steps: long enough to look at, and what is cancelled ends within one step."""
    with Simulator(step_time=0.2) as running:
        yield running


@pytest.fixture(scope="session")
def slow(slow_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("slow"), slow_simulator.url, workers=1) as service:
        service.wait_until_answering()
        yield service


def watched(context: BrowserContext, complaints: list[str]) -> BrowserContext:
    """Collects errors of its pages, requests to other hosts, and failures of anything but the API's own routes."""
    context.set_default_timeout(DEADLINE_S * 1000)
    context.on("console", lambda message: complaints.extend(_said(message)))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("request", lambda request: complaints.extend(_foreign(request)))
    context.on("response", lambda response: complaints.extend(_missing(response)))
    return context


def _said(message: ConsoleMessage) -> list[str]:
    # Chromium itself notes each answer that is no success. Of the API's those are meant.
    expected = message.text.startswith("Failed to load resource") and PREFIX in message.location["url"]
    return [message.text] if message.type in ("error", "warning") and not expected else []


def _foreign(request: Request) -> list[str]:
    url = urlsplit(request.url)
    inside = url.scheme in ("data", "blob") or url.hostname == "127.0.0.1"
    return [] if inside else [f"asked another host: {request.url}"]


def _missing(response: Response) -> list[str]:
    return [f"{response.status} {response.url}"] if response.status >= 400 and PREFIX not in response.url else []
