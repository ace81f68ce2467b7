"""How the studio looks: readable for everybody, at every width, without jumps; and the pictures of it in the docs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.studio_page import Studio, photo
from tests.running import Service

#: `make screenshots` sets it to docs/images.
_FOLDER = os.environ.get("SCREENSHOTS")
_IN_DOCS = {"studio-masked-1280-light", "studio-masked-360-dark", "studio-refused-1280-light"}

#: Texts that must not break: of the tabs, of the note that a simulator paints, and of the usual sizes.
_BROKEN = """
    Array.from(document.querySelectorAll(".modes span, #simulated-text, .chip"), (place) => {
        const text = document.createRange();
        text.selectNodeContents(place);
        return text.getClientRects().length > 1 ? place.textContent : null;
    }).filter((found) => found !== null)
"""

#: How many of the usual sizes stand in each row.
_ROWS = """
    () => {
        const rows = {};
        for (const chip of document.querySelectorAll("#sizes .chip:not([hidden])")) {
            rows[chip.offsetTop] = (rows[chip.offsetTop] ?? 0) + 1;
        }
        return Object.values(rows);
    }
"""

#: Chromium's measure of how much things jump; up to 0.1 counts as good. For half a second after a click it counts
#: nothing. Neither does this after a field has said what is wrong with it, which moves what is below.
_SHIFTS = """
    window.shifts = [];
    let said = -Infinity;
    new MutationObserver((changes) => {
        if (changes.some(({ target }) => target.matches(".error"))) said = performance.now();
    }).observe(document, { subtree: true, attributeFilter: ["hidden"] });
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) {
            if (!entry.hadRecentInput && entry.startTime - said > 500) {
                const what = entry.sources.map((source) => source.node?.id || source.node?.className || "?");
                window.shifts.push([entry.value, ...what]);
            }
        }
    }).observe({ type: "layout-shift", buffered: true });
"""


#: What the browser says to its console where the policy hindered something.
_BLOCKED = re.compile("Content Security Policy|Trusted")

#: A script that is put into the page, and what hindered it.
_SNEAK_IN = """
    () => new Promise((resolve) => {
        document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
        const script = document.createElement("script");
        script.append("window.ran = true");
        document.body.append(script);
    })
"""


def empty(studio: Studio) -> None:
    """As it comes."""


def done(studio: Studio) -> None:
    fields = {"seed": 7, "steps": 2, "width": 384, "height": 256, "batch_size": 2}
    studio.prompt("a lighthouse by the sea at dusk").set(**fields).generate().wait_for("done")


def masked(studio: Studio) -> None:
    """An inpainting, done, with its mask on the easel."""
    studio.prompt("a lighthouse by the sea at dusk").set(seed=7, steps=2, width=384, height=384).generate()
    studio.wait_for("done").page.click("#use-picture")
    studio.drag([(0.3, 0.35), (0.5, 0.3), (0.7, 0.4)]).prompt("a red balloon").set(seed=9)
    studio.page.evaluate("document.getElementById('more').open = false")
    studio.generate_again().wait_for("done")


def extras(studio: Studio) -> None:
    """LoRAs and a second pass, one of the weights refused."""
    studio.prompt("a lighthouse").add_lora("red dress v1.2").add_lora("add-detail", 3).page.check("#hires")
    studio.generate().wait_for("failed")


def refused(studio: Studio) -> None:
    studio.mode("Inpainting").choose_picture(photo()).set(steps=0).generate().wait_for("failed")


def limited(studio: Studio) -> None:
    refuse_with(studio, 429, "rate_limited", "more than 10 per 1 minute", {"Retry-After": "42"})


def refuse_with(studio: Studio, status: int, code: str, detail: str, headers: dict[str, str]) -> None:
    """The service's own answer, without waiting for the minute that brings it about."""
    problem = {"status": status, "code": code, "title": code, "detail": detail, "retryable": True, "request_id": "7f3a"}

    def answer(route: Route) -> None:
        route.fulfill(status=status, json=problem, headers=headers, content_type="application/problem+json")

    studio.page.route("**/txt2img", answer)
    studio.prompt("a fox in an autumn forest").generate().wait_for("failed")


STATES = [empty, done, masked, extras, refused, limited]


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_readable_without_jumps(page: Page, service: Service, state: Callable[[Studio], None], width: int) -> None:
    state(opened(page, service, width))
    expect(page.locator("#generate")).to_be_enabled()
    look_at(page, state.__name__, width)


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_a_picture_that_comes_moves_nothing(page: Page, service: Service, width: int) -> None:
    """Long after the click that asked for it, since a person looks for a file first."""
    studio = opened(page, service, width).mode("Inpainting")
    page.wait_for_timeout(600)  # until Chromium counts again
    studio.choose_picture(photo())
    page.wait_for_timeout(100)
    assert page.evaluate("window.shifts") == []


@pytest.mark.parametrize("width", [360, 1280])
def test_readable_while_it_paints(page: Page, slow: Service, width: int) -> None:
    studio = opened(page, slow, width).prompt("a long one").set(steps=150, batch_size=2).generate()
    expect(page.locator("#progress-text")).to_have_text(re.compile(r"Painting, \d+ %"))
    look_at(page, "busy", width)
    studio.wait_for("busy").page.click("#cancel")
    studio.wait_for("failed")


@pytest.mark.parametrize("width", [360, 1280])
def test_readable_with_a_garment(page: Page, service: Service, width: int) -> None:
    studio = opened(page, service, width)
    studio.prompt("a coat").choose_reference(photo()).set(width=64, height=64, steps=1).generate().wait_for("done")
    expect(page.locator("#generate")).to_be_enabled()
    look_at(page, "garment", width)


def opened(page: Page, service: Service, width: int) -> Studio:
    page.set_viewport_size({"width": width, "height": 800 if width < 600 else 900})
    page.add_init_script(_SHIFTS)
    return Studio(page, service.root).open()


def look_at(page: Page, state: str, width: int) -> None:
    """
    Nothing jumps, sticks out or stands alone in its row, and axe finds nothing (contrast by WCAG AA among it) in
    either theme.
    """
    shifts = page.evaluate("window.shifts")
    assert sum(shift[0] for shift in shifts) < 0.02, shifts
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_BROKEN) == []
    assert page.evaluate(_ROWS) in ([3], [2, 2])
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        photograph(page, f"studio-{state}-{width}-{theme}")
        if width == 1280 or (width, theme) == (360, "light"):  # elsewhere the same parts have other places or colours
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()


def photograph(page: Page, name: str) -> None:
    if _FOLDER and name in _IN_DOCS:
        page.evaluate("scrollTo(0, 0)")
        page.mouse.move(0, 0)
        page.screenshot(path=Path(_FOLDER) / f"{name}.png")


def test_who_wants_no_motion_sees_none(page: Page, service: Service) -> None:
    """The browser's own list of what moves, just after everything changed its colour."""
    Studio(page, service.root).open()
    moving = "getComputedStyle(document.body).color, document.getAnimations().length"
    page.emulate_media(reduced_motion="no-preference", color_scheme="light")
    changed = f"() => {{ document.documentElement.dataset.theme = THEME; return ({moving}); }}"
    assert page.evaluate(changed.replace("THEME", "'dark'")) > 0, "buttons fade"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(changed.replace("THEME", "'light'")) == 0


def test_nothing_runs_inline(page: Page, service: Service, complaints: list[str]) -> None:
    """The policy holds, and the page lives with it: a script that somebody gets into it does not run."""
    Studio(page, service.root).open()
    policy = page.request.get(service.root).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    with page.expect_console_message(lambda message: bool(_BLOCKED.search(message.text))):
        blocked = page.evaluate(_SNEAK_IN)
    assert blocked
    assert page.evaluate("window.ran") is None
    assert [complaint for complaint in complaints if not _BLOCKED.search(complaint)] == []
    complaints.clear()
    expect(page.locator("#generate")).to_be_enabled()
