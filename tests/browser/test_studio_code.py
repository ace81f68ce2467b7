"""The studio's "The same by program": what is copied runs as it is, with the files that the user has."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from simulator import Simulator
from tests.browser.studio_page import Studio, last_payload, photo, studio_of
from tests.running import DEADLINE_S, Service

PROMPT = 'it\'s a "hill" & $HOME `ls` é'
LANGUAGES = ["curl", "fetch", "Python"]


@pytest.fixture
def studio(context: BrowserContext, page: Page, service: Service) -> Studio:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return studio_of(page, service).prompt(PROMPT)


@pytest.mark.parametrize("language", LANGUAGES)
def test_txt2img(studio: Studio, service_simulator: Simulator, tmp_path: Path, language: str) -> None:
    studio.set(steps=2, width=64, height=128, seed=7)
    assert run(language, studio.copied_code(language), tmp_path).size == (64, 128)
    sent = last_payload(service_simulator)
    assert (sent["prompt"], sent["steps"], sent["seed"]) == (PROMPT, 2, 7)


@pytest.mark.parametrize("language", LANGUAGES)
def test_loras_and_a_second_pass(studio: Studio, service_simulator: Simulator, tmp_path: Path, language: str) -> None:
    studio.set(steps=1, width=64, height=64, seed=7, clip_skip=2).add_lora("red dress v1.2", 0.5).page.check("#hires")
    assert run(language, studio.copied_code(language), tmp_path).size == (128, 128)
    sent = last_payload(service_simulator)
    assert sent["prompt"] == f"<lora:red dress v1.2:0.5> {PROMPT}"
    assert sent["override_settings"]["CLIP_stop_at_last_layers"] == 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_lora_beside_a_file(studio: Studio, service_simulator: Simulator, tmp_path: Path, language: str) -> None:
    (tmp_path / "hat.png").write_bytes(photo((64, 64)))
    studio.mode("Image to image").choose_picture(photo((64, 64)), name="hat.png").set(steps=2).add_lora("add-detail")
    run(language, studio.copied_code(language), tmp_path, files={"image": "hat.png"})
    assert last_payload(service_simulator)["prompt"] == f"<lora:add-detail:1.0> {PROMPT}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_img2img_with_the_file_that_the_user_has(
    studio: Studio, service_simulator: Simulator, tmp_path: Path, language: str
) -> None:
    name = 'my "new" hat; it\'s, é=\\1.png'
    (tmp_path / name).write_bytes(photo((64, 64)))
    studio.mode("Image to image").choose_picture(photo((64, 64)), name=name).set(steps=2)
    assert run(language, studio.copied_code(language), tmp_path, files={"image": name}).size == (64, 64)
    assert last_payload(service_simulator)["prompt"] == PROMPT


@pytest.mark.parametrize("language", LANGUAGES)
def test_inpainting_of_a_photo_that_the_page_scales_down(
    studio: Studio, service_simulator: Simulator, tmp_path: Path, language: str
) -> None:
    """The service wants a mask as large as the picture: here, as the user's own file."""
    (tmp_path / "hat.jpeg").write_bytes(large := photo((2400, 1200), form="JPEG"))
    studio.mode("Inpainting").choose_picture(large, name="hat.jpeg", kind="image/jpeg")
    studio.drag([(0.3, 0.5), (0.6, 0.5)]).set(steps=1, width=128, height=64).save("code-mask", tmp_path)
    code = studio.copied_code(language)
    assert run(language, code, tmp_path, files={"image": "hat.jpeg", "mask": "hat-mask.png"}).size == (128, 64)
    assert last_payload(service_simulator)["mask"]


def test_inpainting_of_a_picture_that_the_user_has_not_as_a_file(studio: Studio, tmp_path: Path) -> None:
    """One of a kind that the service does not read: the page offers what it made of it."""
    gif = io.BytesIO()
    Image.new("RGB", (96, 64), "red").save(gif, "GIF")
    expect(studio.page.locator("#code-image")).to_be_hidden()
    studio.mode("Inpainting")
    expect(studio.page.locator("#code-image")).to_be_disabled()
    expect(studio.page.locator("#code-mask")).to_be_disabled()
    studio.choose_picture(gif.getvalue(), name="hat; 1?.gif", kind="image/gif").drag([(0.3, 0.5), (0.6, 0.5)])
    studio.set(steps=1)
    for button in ("code-image", "code-mask"):
        studio.save(button, tmp_path)
    assert run("curl", studio.copied_code("curl"), tmp_path).size == (96, 64)


@pytest.mark.parametrize("language", LANGUAGES)
def test_enlarging_the_picture_that_is_shown(
    studio: Studio, service_simulator: Simulator, tmp_path: Path, language: str
) -> None:
    studio.set(steps=1, width=96, height=64).generate().wait_for("done").page.get_by_role(
        "radio", name="Enlarge"
    ).check(force=True)
    studio.page.fill("[id='upscale.width']", "144")
    assert run(language, studio.copied_code(language), tmp_path).size == (144, 96)
    assert [one.route for one in service_simulator.generations] == ["txt2img", "extra-single-image"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_enlarging_a_file(studio: Studio, tmp_path: Path, language: str) -> None:
    (tmp_path / "picture.png").write_bytes(photo((96, 64)))
    studio.page.get_by_role("radio", name="Enlarge").check(force=True)
    expect(studio.page.locator("#code-remark")).to_have_text("It reads picture.png from the folder where it runs.")
    assert run(language, studio.copied_code(language), tmp_path, files={"image": "picture.png"}).size == (192, 128)
    studio.page.get_by_role("radio", name="Generate").check(force=True)
    expect(studio.page.locator("#code")).to_contain_text("/txt2img")


def test_a_picture_made_here_is_called_as_its_download(studio: Studio, tmp_path: Path) -> None:
    studio.set(steps=1, width=64, height=64).generate().wait_for("done").save("download", tmp_path)
    studio.page.click("#use-picture")
    studio.drag([(0.3, 0.5), (0.6, 0.5)]).save("mask-save", tmp_path)
    assert run("curl", studio.copied_code("curl"), tmp_path).size == (64, 64)


def run(language: str, code: str, folder: Path, files: dict[str, str] | None = None) -> Image.Image:
    """What the program makes. ``files``: for fetch, which is given them by the page around it."""
    programs = {
        "curl": ["bash", "-ec"],
        "fetch": ["node", "--input-type=module", "-e"],
        "Python": [sys.executable, "-c"],
    }
    if language == "fetch":
        code = in_node(code, files or {})
    try:
        subprocess.run([*programs[language], code], cwd=folder, check=True, timeout=DEADLINE_S, env=dict(os.environ))
    except FileNotFoundError:
        pytest.skip(f"needs {programs[language][0]}")
    with Image.open(folder / "result.png") as image:
        return image.convert("RGB")


def in_node(code: str, files: dict[str, str]) -> str:
    given = [f"const {field}File = new Blob([readFileSync({name!r})]);" for field, name in files.items()]
    head = 'const { readFileSync, writeFileSync } = await import("node:fs");'
    return "\n".join([head, *given, code, 'writeFileSync("result.png", Buffer.from(await picture.arrayBuffer()));'])
