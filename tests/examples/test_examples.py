"""The programs in ``examples/`` do what the documentation shows them for, against the real service."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from flask import Flask
from PIL import Image, ImageChops, ImageFilter

from simulator import Simulator
from tests.browser.cable import Cable
from tests.running import DEADLINE_S, PREFIX, ROOT, Service, environment, running_service, wait_until

EXAMPLES = ROOT / "examples"
PERSON = EXAMPLES / "samples" / "person.jpg"
GARMENT = EXAMPLES / "samples" / "sweater.jpg"

#: What one page fetches of itself.
PARTS_OF_PAGES = {"/docs/", "/docs/<name>", "/studio/<name>"}

MASK_BLUR = 4

#: As many as curl.sh asks for.
MOST_IN_TEN_SECONDS = 10


def command_of(name: str) -> list[str]:
    interpreters = {".py": [sys.executable], ".mjs": [program("node")], ".sh": [program("sh")]}
    if name.endswith(".sh"):
        program("curl")
    return [*interpreters[Path(name).suffix], str(EXAMPLES / name)]


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}, which is not installed")
    return found


def start(root: str, name: str, *arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command_of(name), *map(str, arguments)],
        env={**environment({}), "SERVICE": root, "API_KEY": "", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status, and what was printed."""
    try:
        printed, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, printed


def run(root: str, name: str, *arguments: object, env: Mapping[str, str] | None = None) -> str:
    status, printed = end(start(root, name, *arguments, env=env))
    assert status == 0, printed
    return printed


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


@pytest.fixture(scope="module")
def slow_webui() -> Iterator[Simulator]:
    """Its jobs last long enough to be cancelled."""
    with Simulator(step_time=0.01) as webui:
        yield webui


@pytest.fixture(scope="module")
def guarded(slow_webui: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With a key, and a limit that can be met. One worker: each counts for itself."""
    settings = {"API_KEYS": "secret,another", "RATE_LIMIT_GENERATION": f"{MOST_IN_TEN_SECONDS}/10second"}
    with running_service(tmp_path_factory.mktemp("guarded"), slow_webui.url, workers=1, **settings) as service:
        service.wait_until_answering()
        yield service


def routes_asked(service: Service) -> set[tuple[str, str]]:
    lines = [json.loads(line) for line in service.printed.splitlines() if line.startswith("{")]
    return {(line["method"], line["route"]) for line in lines if line["message"] == "request"}


def test_curl_asks_every_route_once(guarded: Service, app: Flask, tmp_path: Path) -> None:
    printed = run(guarded.root, "curl.sh", tmp_path, env={"API_KEY": "secret"})
    assert "== Done" in printed
    offered = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule not in PARTS_OF_PAGES
    }
    assert sorted(offered - routes_asked(guarded)) == []
    assert ("HEAD", f"{PREFIX}/image/<image_id>") in routes_asked(guarded)
    assert size_of(tmp_path / "photo.png") == size_of(tmp_path / "night.png") == size_of(tmp_path / "sky.png")
    assert size_of(tmp_path / "sky-small.webp") == (256, 256)
    assert size_of(tmp_path / "larger.png") == (1024, 1024)
    assert json.loads((tmp_path / "cancelled.json").read_bytes())["code"] == "cancelled"


def test_curl_without_its_key_ends_with_the_reason(guarded: Service, tmp_path: Path) -> None:
    status, printed = end(start(guarded.root, "curl.sh", tmp_path))
    assert status != 0
    assert "unauthorized" in printed


def test_a_folder_of_photos_of_any_name(service: Service, service_simulator: Simulator, tmp_path: Path) -> None:
    photos, painted = tmp_path / "photos", tmp_path / "painted"
    photos.mkdir()
    shutil.copy(PERSON, photos / 'a, b; "c".jpg')
    shutil.copy(EXAMPLES / "samples" / "circle-mask.png", photos / "two.png")
    (photos / "broken.jpg").write_bytes(PERSON.read_bytes()[:500])
    (photos / "notes.txt").write_text("no photo")
    status, printed = end(start(service.root, "folder.sh", photos, painted, "a watercolour; @home", "0.4"))
    assert status == 1
    assert "broken.jpg: " in printed
    assert '"code":"validation_error"' in printed
    assert files(painted) == {'a, b; "c".png', "two.png"}
    assert size_of(painted / 'a, b; "c".png') == size_of(PERSON)
    bodies = [json.loads(one.body) for one in service_simulator.generations]
    sent = [(body["prompt"], body["denoising_strength"]) for body in bodies]
    assert sent == [("a watercolour; @home", 0.4)] * 2

    (photos / "broken.jpg").unlink()
    assert "two.png: is there already" in run(service.root, "folder.sh", photos, painted, "a watercolour")
    assert len(service_simulator.generations) == 2


def test_python(service: Service, service_simulator: Simulator, tmp_path: Path) -> None:
    run(service.root, "python_requests.py", tmp_path)
    assert files(tmp_path) == {"lighthouse.png", "night-7.png", "night-8.png", "sky-small.webp"}
    assert size_of(tmp_path / "night-8.png") == size_of(tmp_path / "lighthouse.png") == (512, 384)
    assert (tmp_path / "night-7.png").read_bytes() != (tmp_path / "night-8.png").read_bytes()


def test_python_tells_a_refusal_in_words(guarded: Service, tmp_path: Path) -> None:
    status, printed = end(start(guarded.root, "python_requests.py", tmp_path))
    assert status == 1
    assert printed.startswith("401 unauthorized: ")


def test_node(service: Service, tmp_path: Path) -> None:
    printed = run(service.root, "node.mjs", tmp_path)
    assert "photo.png: 512 × 512, seed 7" in printed
    assert size_of(tmp_path / "sky.png") == (512, 512)
    assert (tmp_path / "sky.png").read_bytes() != (tmp_path / "photo.png").read_bytes()


def changes(photo: Image.Image, result: Image.Image, mask: Image.Image) -> tuple[bool, bool]:
    """Whether something changed well inside the white of the mask, and whether anything did beyond its blur."""
    changed = ImageChops.difference(photo, result).convert("L").point(lambda value: 255 if value else 0)
    inner = mask.filter(ImageFilter.MinFilter(4 * MASK_BLUR + 1))
    outer = ImageChops.invert(mask.filter(ImageFilter.MaxFilter(8 * MASK_BLUR + 1)))
    inside, outside = ImageChops.multiply(changed, inner), ImageChops.multiply(changed, outer)
    return inside.getbbox() is not None, outside.getbbox() is not None


def test_try_on_changes_what_the_polygon_holds_and_nothing_else(service: Service, tmp_path: Path) -> None:
    polygon = "0.36,0.33 0.64,0.33 0.66,0.62 0.34,0.62"
    run(service.root, "try_on.py", PERSON, "a red sweater", "--polygon", polygon, "--seed", 3, "--out", tmp_path)
    photo = Image.open(PERSON).convert("RGB")
    mask, result = Image.open(tmp_path / "mask.png"), Image.open(tmp_path / "result.png")
    assert mask.getpixel((256, 384)) == 255
    assert mask.getpixel((20, 20)) == 0
    assert changes(photo, result, mask) == (True, False)
    assert size_of(tmp_path / "try-on.png") == (3 * 256 + 2 * 12, 384)


def test_try_on_with_a_picture_of_the_garment(service: Service, service_simulator: Simulator, tmp_path: Path) -> None:
    arguments = [PERSON, "a red sweater", "--rectangle", "0.35,0.33,0.65,0.62", "--seed", 3]
    run(service.root, "try_on.py", *arguments, "--out", tmp_path / "plain")
    garment = ["--garment", GARMENT, "--weight", 0.7, "--out", tmp_path / "worn"]
    printed = run(service.root, "try_on.py", *arguments, *garment)
    assert "photo, mask, garment, result" in printed
    plain, worn = (Image.open(tmp_path / name / "result.png").convert("RGB") for name in ("plain", "worn"))
    mask = Image.open(tmp_path / "worn" / "mask.png")
    assert changes(plain, worn, mask) == (True, False)
    (unit,) = json.loads(service_simulator.generations[-1].body)["alwayson_scripts"]["controlnet"]["args"]
    assert unit["weight"] == 0.7
    assert size_of(tmp_path / "worn" / "try-on.png") == (3 * 256 + 384 + 3 * 12, 384)

    status, printed = end(start(service.root, "try_on.py", *arguments, "--weight", 0.7))
    assert (status, "say --garment as well" in printed) == (2, True)


def test_try_on_where_no_webui_takes_a_garment(tmp_path: Path) -> None:
    with (
        Simulator(controlnet="none") as webui,
        running_service(tmp_path / "service", webui.url, workers=1) as service,
    ):
        service.wait_until_answering()
        arguments = [PERSON, "a red sweater", "--rectangle", "0.3,0.3,0.6,0.6", "--garment", GARMENT]
        status, printed = end(start(service.root, "try_on.py", *arguments, "--out", tmp_path / "out"))
    assert status == 1
    assert "capability_missing: reference: no WebUI of this service can take a reference picture" in printed
    assert not (tmp_path / "out").exists()


def test_try_on_with_a_photo_that_lies_on_its_side(service: Service, tmp_path: Path) -> None:
    lying, exif = Image.open(PERSON).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise, as phones write it
    lying.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    arguments = [tmp_path / "phone.jpg", "a hat", "--out", tmp_path / "out"]
    run(service.root, "try_on.py", *arguments, "--rectangle", "0.3,0.05,0.7,0.2")
    assert size_of(tmp_path / "out" / "result.png") == size_of(tmp_path / "out" / "mask.png") == size_of(PERSON)

    # As pages draw them: over a smaller copy of the photo.
    Image.open(tmp_path / "out" / "mask.png").resize((256, 384)).save(tmp_path / "small.png")
    printed = run(service.root, "try_on.py", *arguments, "--mask", tmp_path / "small.png")
    assert "mask: from 256 × 384 to 512 × 768 pixels" in printed
    assert size_of(tmp_path / "out" / "mask.png") == size_of(PERSON)


def test_a_lost_connection_costs_no_second_picture(
    service: Service, service_simulator: Simulator, tmp_path: Path
) -> None:
    service_simulator.set_fault("slow", seconds=1.0)
    with Cable(service.port) as cable:
        process = start(cable.root, "idempotent_retry.py", "a lighthouse", tmp_path / "picture.png")
        wait_until(lambda: len(service_simulator.generations) == 1, "the WebUI paints")
        cable.cut()
        cable.mend()
        status, printed = end(process)
    assert status == 0, printed
    assert "attempt 1: the connection was lost" in printed
    assert "kept from the first attempt" in printed
    assert len(service_simulator.generations) == 1
    assert size_of(tmp_path / "picture.png") == (512, 512)


def test_limits_are_waited_for_and_deadlines_kept(guarded: Service, slow_webui: Simulator, tmp_path: Path) -> None:
    key = {"API_KEY": "another"}
    small = {"prompt": "a dot", "width": 64, "height": 64, "steps": 1}
    for _ in range(MOST_IN_TEN_SECONDS):
        guarded.post("/txt2img", small, headers={"X-API-Key": "another"}).raise_for_status()
    printed = run(guarded.root, "limits_and_deadlines.py", 1, "a lighthouse", "--out", tmp_path / "out", env=key)
    assert "rate_limited: again in " in printed
    assert files(tmp_path / "out") == {"1.png"}

    slow_webui.set_fault("slow", seconds=3.0)
    late = [1, "a lighthouse", "--wait", 1, "--out", tmp_path / "late"]
    status, printed = end(start(guarded.root, "limits_and_deadlines.py", *late, env=key))
    assert status == 1
    assert "seed 1: webui_timeout: " in printed
    assert files(tmp_path / "late") == set()


def test_every_example_is_run_by_a_test() -> None:
    tests = Path(__file__).read_text() + (ROOT / "tests" / "browser" / "test_example_page.py").read_text()
    scripts = [path.name for path in EXAMPLES.iterdir() if path.suffix not in ("", ".toml")]
    # The page loads both of its scripts.
    assert [name for name in scripts if name not in tests and not name.startswith("browser_")] == []
    assert "browser_fetch.html" in tests
