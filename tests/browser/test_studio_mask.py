"""The picture that comes in and the mask on it: by mouse, finger, pen and keyboard."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Browser, Page, expect

from simulator import Simulator
from tests.browser.conftest import watched
from tests.browser.studio_page import Studio, photo, studio_of
from tests.running import Service

WIDTH, HEIGHT = 256, 192


@pytest.fixture
def studio(page: Page, service: Service) -> Studio:
    """In inpainting, with a photo on the easel."""
    return studio_of(page, service).mode("Inpainting").choose_picture(photo((WIDTH, HEIGHT)))


def shares(mask: Image.Image) -> tuple[int, int]:
    """Pixels that are white, and that are neither white nor black."""
    histogram = mask.histogram()
    return histogram[255], sum(histogram[1:255])


def place(box: tuple[int, int, int, int] | None) -> tuple[float, float]:
    assert box is not None, "the mask is empty"
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def test_only_what_was_painted_over_changes(studio: Studio) -> None:
    studio.prompt("a red balloon").set(mask_blur=0, steps=2, seed=3)
    studio.drag([(0.25, 0.3), (0.5, 0.5), (0.7, 0.35)])
    painted = studio.mask().point(lambda grey: 255 if grey > 127 else 0)
    studio.generate().wait_for("done")
    before = Image.open(io.BytesIO(photo((WIDTH, HEIGHT)))).convert("RGB")
    changed = ImageChops.difference(before, studio.result()).convert("L").point(lambda grey: 255 if grey else 0)
    assert ImageChops.subtract(changed, painted).getbbox() is None, "something beyond the mask changed"
    inside, masked = changed.histogram()[255], painted.histogram()[255]
    assert WIDTH * HEIGHT * 0.05 < masked < WIDTH * HEIGHT * 0.5
    assert inside > masked * 0.9


def test_the_mask_is_white_where_it_was_painted_and_as_large_as_the_picture(studio: Studio) -> None:
    studio.drag([(0.2, 0.5), (0.4, 0.5)])
    mask = studio.mask()
    assert mask.size == (WIDTH, HEIGHT)
    assert (mask.getpixel((WIDTH * 3 // 10, HEIGHT // 2)), mask.getpixel((WIDTH * 8 // 10, HEIGHT // 2))) == (255, 0)


def test_erase_undo_redo_invert_clear(studio: Studio) -> None:
    page = studio.page
    expect(page.locator("#mask-undo")).to_be_disabled()
    studio.drag([(0.2, 0.5), (0.8, 0.5)])
    stroke = studio.mask()
    page.click("#mask-erase")
    studio.drag([(0.5, 0.1), (0.5, 0.9)])
    cut = studio.mask()
    assert (stroke.getpixel((WIDTH // 2, HEIGHT // 2)), cut.getpixel((WIDTH // 2, HEIGHT // 2))) == (255, 0)
    page.click("#mask-undo")
    assert studio.mask().tobytes() == stroke.tobytes()
    page.click("#mask-redo")
    assert studio.mask().tobytes() == cut.tobytes()
    page.click("#mask-invert")
    assert ImageChops.difference(ImageChops.invert(cut), studio.mask()).getextrema()[1] <= 1
    page.click("#mask-clear")
    assert studio.mask().getbbox() is None
    page.click("#mask-undo")
    page.click("#mask-undo")
    assert studio.mask().tobytes() == cut.tobytes()


def test_by_keyboard_alone(studio: Studio, service_simulator: Simulator) -> None:
    page = studio.page
    page.locator("#source-remove").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#mask")).to_be_focused()
    for key in ["ArrowLeft"] * 20 + ["ArrowUp"] * 10 + ["Space"]:
        page.keyboard.press(key)
    expect(page.locator("#mask-said")).to_contain_text("Painted, 10 % from the left")
    dot = studio.mask()
    x, y = place(dot.getbbox())
    assert (x / WIDTH, y / HEIGHT) == pytest.approx((0.1, 0.5 - 0.2 * WIDTH / HEIGHT), abs=0.03)
    page.locator("#mask").focus()
    for key in ["Shift+ArrowRight"] * 10:
        page.keyboard.press(key)
    assert shares(studio.mask())[0] > shares(dot)[0] * 1.5
    page.locator("#mask").focus()
    for key in ["Control+z"] * 10:
        page.keyboard.press(key)
    assert studio.mask().tobytes() == dot.tobytes()
    page.locator("#mask").focus()
    page.keyboard.press("e")
    page.keyboard.press("]")
    expect(page.locator("#mask-erase")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("e")
    page.locator("#prompt").focus()
    page.keyboard.type("a hat")
    page.keyboard.press("Control+Enter")
    studio.wait_for("done")
    assert len(service_simulator.generations) == 1


def test_by_finger(browser: Browser, complaints: list[str], service: Service) -> None:
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = watched(phone, complaints).new_page()
    studio = studio_of(page, service).mode("Inpainting").choose_picture(photo((WIDTH, HEIGHT)))
    box = studio.canvas()
    touches = page.context.new_cdp_session(page)
    middle = box["y"] + box["height"] / 2
    for kind, x in [("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.8)]:
        point = {"x": box["x"] + x * box["width"], "y": middle}
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
    touches.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    mask = studio.mask()
    assert [mask.getpixel((int(WIDTH * x), HEIGHT // 2)) for x in (0.2, 0.35, 0.8)] == [255, 255, 255]
    phone.close()
    assert complaints == []


def test_a_pen_paints_as_well(studio: Studio) -> None:
    pen = studio.page.context.new_cdp_session(studio.page)
    box = studio.canvas()
    for kind, x in [("mousePressed", 0.3), ("mouseMoved", 0.6), ("mouseReleased", 0.6)]:
        at = {"x": box["x"] + x * box["width"], "y": box["y"] + box["height"] / 2}
        pen.send("Input.dispatchMouseEvent", {"type": kind, **at, "button": "left", "pointerType": "pen", "buttons": 1})
    assert studio.mask().getpixel((int(WIDTH * 0.45), HEIGHT // 2)) == 255


def test_a_mask_from_a_file(studio: Studio) -> None:
    own = Image.new("L", (WIDTH, HEIGHT))
    own.paste(255, (0, 0, WIDTH // 2, HEIGHT))
    out = io.BytesIO()
    own.save(out, "PNG")
    picked = {"name": "mask.png", "mimeType": "image/png", "buffer": out.getvalue()}
    studio.page.set_input_files("#mask-file", picked)
    expect(studio.page.locator("#mask-undo")).to_be_enabled()
    assert ImageChops.difference(studio.mask(), own).getbbox() is None


def test_a_picture_can_be_pasted_dropped_or_photographed(page: Page, service: Service) -> None:
    studio_of(page, service).mode("Image to image")
    remark = page.locator("#source-remark")
    for number, event in enumerate(["paste", "drop"], start=1):
        give(page, event, photo((64 * number, 64)))
        expect(remark).to_have_text(f"{64 * number} × 64 pixels")
    page.click("#source-remove")
    page.click("#source-camera")
    expect(page.locator("#camera-shoot")).to_be_enabled()
    page.click("#camera-shoot")
    expect(remark).to_contain_text("pixels")
    expect(page.locator("#easel")).to_be_visible()
    expect(page.locator("#camera-video")).to_have_js_property("srcObject", None)


def give(page: Page, event: str, png: bytes) -> None:
    """As the browser does when a file is pasted or dropped."""
    page.evaluate(
        """([event, data]) => {
            const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
            const given = new DataTransfer();
            given.items.add(new File([bytes], "photo.png", { type: "image/png" }));
            const how = { bubbles: true, cancelable: true };
            document.dispatchEvent(event === "paste"
                ? new ClipboardEvent("paste", { ...how, clipboardData: given })
                : new DragEvent("drop", { ...how, dataTransfer: given }));
        }""",
        [event, base64.b64encode(png).decode()],
    )


def test_a_large_photo_is_scaled_down_and_that_is_said(page: Page, service: Service) -> None:
    studio_of(page, service).mode("Image to image").choose_picture(photo((3000, 1500), form="JPEG"))
    expect(page.locator("#source-remark")).to_have_text(
        "2048 × 1024 pixels, scaled down from 3000 × 1500 before sending"
    )


def test_the_mask_of_a_large_photo_is_saved_as_large_as_the_photo(page: Page, service: Service) -> None:
    studio = studio_of(page, service).mode("Inpainting").choose_picture(photo((3000, 1500)))
    expect(page.locator("#mask-size")).to_have_text(
        "Save makes photo-mask.png: 3000 × 1500 pixels, as large as your file."
    )
    studio.drag([(0.2, 0.5), (0.4, 0.5)])
    sent = studio.prompt("a hat").set(steps=1, width=128, height=64)
    mask = sent.mask()
    assert mask.size == (3000, 1500)
    assert (mask.getpixel((900, 750)), mask.getpixel((2400, 750))) == (255, 0)
    assert shares(mask)[1] < 3000 * 1500 * 0.002, "its edge is smoothed"
    sent.generate().wait_for("done")


def test_what_is_no_picture_is_refused_at_its_field(page: Page, service: Service) -> None:
    studio_of(page, service).mode("Image to image")
    page.set_input_files("#source-file", {"name": "photo.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator("#image-error")).to_have_text("Your browser cannot read this file as a picture.")
