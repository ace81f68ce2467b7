"""The studio as a person uses it, and pictures to use it with."""

from __future__ import annotations

import base64
import io
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, expect

from simulator import Simulator
from tests.running import Service

_GENERATION = re.compile(r"/generation/(txt2img|img2img|inpainting)$")


class Studio:
    """The page of a running service. ``root``: where it is, a path included."""

    def __init__(self, page: Page, root: str) -> None:
        self.page = page
        self.root = root

    def open(self) -> Studio:
        self.page.goto(self.root)
        # The models are there: the service has told what the form may hold.
        expect(self.page.locator("#model option").first).to_contain_text("(default)")
        return self

    def prompt(self, text: str) -> Studio:
        self.page.fill("#prompt", text)
        return self

    def mode(self, name: str) -> Studio:
        self.page.get_by_role("radio", name=name).check(force=True)
        return self

    def set(self, **fields: object) -> Studio:
        """By the inputs' ids; those that are folded away too."""
        self.page.evaluate("document.getElementById('more').open = true")
        for name, value in fields.items():
            self.page.fill(f"#{name}", str(value))
        return self

    def add_lora(self, name: str, weight: object = None) -> Studio:
        self.page.evaluate("document.getElementById('more').open = true")
        self.page.select_option("#lora", name)
        self.page.click("#lora-add")
        if weight is not None:
            self.weight(name).fill(str(weight))
        return self

    def weight(self, lora: str) -> Locator:
        """Where the weight of a chosen LoRA is typed."""
        return self.page.get_by_role("spinbutton", name=f"Weight of {lora}")

    def generate(self) -> Studio:
        self.page.click("#generate")
        return self

    def generate_again(self) -> Studio:
        """To the end, from a state that the next picture also ends in: it is not taken for the next one's."""
        with self.page.expect_response(_GENERATION):
            self.generate()
        expect(self.page.locator("#generate")).to_be_enabled()
        return self

    def wait_for(self, state: str) -> Studio:
        """``empty``, ``busy``, ``done`` or ``failed``. What was so before passes at once: see `generate_again`."""
        expect(self.page.locator("#stage")).to_have_attribute("data-state", state)
        return self

    def choose_picture(self, data: bytes, *, name: str = "photo.png", kind: str = "image/png") -> Studio:
        self.page.set_input_files("#source-file", {"name": name, "mimeType": kind, "buffer": data})
        expect(self.page.locator("#easel")).to_be_visible()
        return self

    def choose_reference(self, data: bytes, *, name: str = "coat.png") -> Studio:
        self.page.set_input_files("#reference-file", {"name": name, "mimeType": "image/png", "buffer": data})
        expect(self.page.locator("#reference-chosen")).to_be_visible()
        return self

    def drag(self, points: Sequence[tuple[float, float]]) -> Studio:
        """Draws with the mouse; points as shares of the canvas."""
        box = self.canvas()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=4)
        self.page.mouse.up()
        return self

    def canvas(self) -> FloatRect:
        """Where the mask can be painted on, once it is there and in view."""
        canvas = self.page.locator("#mask")
        expect(canvas).to_be_visible()
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        return box

    def mask(self) -> Image.Image:
        """The file that Save gives, grey."""
        return Image.open(io.BytesIO(self._saved("mask-save")[1])).convert("L")

    def save(self, button: str, folder: Path) -> None:
        """What a click on ``button`` (its id) lets the browser save, under the name that the browser gives it."""
        name, data = self._saved(button)
        (folder / name).write_bytes(data)

    def _saved(self, button: str) -> tuple[str, bytes]:
        with self.page.expect_download() as saved:
            self.page.click(f"#{button}")
        return saved.value.suggested_filename, saved.value.path().read_bytes()

    def copied_code(self, language: str) -> str:
        """``curl``, ``fetch`` or ``Python``; the browser must be allowed to read its clipboard."""
        self.page.get_by_role("radio", name=language).check(force=True)
        self.page.click("#code-copy")
        expect(self.page.locator("#code-copy-text")).to_have_text("Copied")
        code: str = self.page.evaluate("navigator.clipboard.readText()")
        return code

    def result(self) -> Image.Image:
        """The picture that is shown, from the bytes behind it."""
        data: str = self.page.evaluate(
            """async () => {
                const images = document.querySelectorAll("#picture img:not(.before)");
                const image = images[images.length - 1];
                await image.decode();
                const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
                canvas.getContext("2d").drawImage(image, 0, 0);
                const bytes = new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
                return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
            }"""
        )
        return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")

    def fact(self, name: str) -> Locator:
        """Of the line below the picture: Seed, Size, Model, Time."""
        return self.page.locator("#meta > div", has_text=name).locator("dd")


def studio_of(page: Page, service: Service) -> Studio:
    return Studio(page, service.root).open()


def last_payload(simulator: Simulator) -> dict[str, Any]:
    """What the WebUI was asked for last."""
    payload: dict[str, Any] = json.loads(simulator.generations[-1].body)
    return payload


def grain(size: tuple[int, int]) -> bytes:
    """A PNG that nothing can make small: three bytes a pixel."""
    out = io.BytesIO()
    Image.frombytes("RGB", size, random.Random(1).randbytes(size[0] * size[1] * 3)).save(out, "PNG")
    return out.getvalue()


def photo(size: tuple[int, int] = (256, 192), *, form: str = "PNG") -> bytes:
    """A gradient, in which every pixel differs from its neighbours: what is kept is kept to the pixel."""
    across = Image.linear_gradient("L").rotate(90).resize(size)
    down = Image.linear_gradient("L").resize(size)
    out = io.BytesIO()
    Image.merge("RGB", (across, down, across.transpose(Image.Transpose.FLIP_LEFT_RIGHT))).save(out, form)
    return out.getvalue()
