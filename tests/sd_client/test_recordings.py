"""Answers that real servers gave, read by the client. Skipped where the recordings are not beside the project."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from sd_client.client import WebUIClient
from sd_client.errors import InvalidAnswerError, MissingRouteError, WebUIAuthError, WebUIStatusError
from sd_client.models import DUMMY_HASH, Checkpoint, GenerationParams, PaintedImage
from sd_client.payloads import read_answer
from sd_client.result import read_object
from sd_client.samplers import Spelling, spell
from sd_client.transport import Transport
from tests.sd_client.jobs import job
from tests.sd_client.servers import Answer, WebServer, as_json, encoded_image, in_base64

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings"
A1111 = RECORDINGS / "a1111"
SDCPP = RECORDINGS / "sdcpp"

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings beside the project")

DREAMSHAPER = Checkpoint(
    title="dreamshaper_8.safetensors [8b32423b5e]",
    model_name="dreamshaper_8",
    hash="8b32423b5e",
    filename="dreamshaper_8.safetensors",
)
SD15_RANDOM = Checkpoint(
    title="sd15-random", model_name="sd15-random", hash=DUMMY_HASH, filename="sd15-random.safetensors"
)
#: The pictures in most recordings are cut: this one stands for them.
PICTURE = in_base64(encoded_image((64, 64)))


def recorded(path: Path) -> Any:
    return json.loads(path.read_text())


def response_body(case: Any) -> Any:
    response = case["response"]
    return response["body"] if "body" in response else response.get("json", response.get("text", ""))


def with_pictures(answer: Any) -> bytes:
    return json.dumps({**answer, "images": [PICTURE for _ in answer["images"]]}).encode()


def read(body: bytes, asked: Any, checkpoint: Checkpoint, spelling: Spelling | None = None) -> tuple[PaintedImage, ...]:
    answer = json.loads(body)
    info = json.loads(answer.get("info") or "{}")
    # What was left to the server's own defaults is what it says that it took.
    amounts = {name: asked[name] if name in asked else info[name] for name in ("steps", "cfg_scale") if name in info}
    params: GenerationParams = job(seed=asked["seed"], batch_size=asked.get("batch_size", 1), **amounts)
    return read_answer(read_object(body), params, checkpoint=checkpoint, spelling=spelling or Spelling())


@pytest.mark.parametrize("case", ["txt2img_ok", "img2img_png_datauri", "inpaint_mask"])
def test_whole_answers_of_a1111(case: str) -> None:
    body = (A1111 / "full" / f"{case}.body").read_bytes()
    (image,) = read(body, {"seed": 42}, DREAMSHAPER, Spelling(sampler="Euler"))
    assert image.data == base64.b64decode(json.loads(body)["images"][0])
    assert image.infotext is not None
    assert "Seed: 42" in image.infotext


@pytest.mark.parametrize(
    ("case", "sampler"),
    [
        ("txt2img_ok", "Euler"),
        ("txt2img_batch2", None),
        ("txt2img_batch2_save_images", None),
        ("inpaint_save_mask_batch2", None),
        ("txt2img_sampler_karras_legacy", "DPM++ 2M"),
        ("auth_ok_txt2img", "Euler"),
    ],
)
def test_answers_of_a1111(case: str, sampler: str | None) -> None:
    recording = recorded(A1111 / f"{case}.json")
    asked = recording["request"]["body"]
    images = read(with_pictures(response_body(recording)), asked, DREAMSHAPER, Spelling(sampler=sampler))
    assert len(images) == asked.get("batch_size", 1)
    for image in images:
        assert f"Seed: {image.seed}," in str(image.infotext)


@pytest.mark.parametrize(
    ("case", "sampler", "message"),
    [
        ("txt2img_unknown_sampler", "Nope", "another sampler"),
        ("txt2img_override_unknown_model", None, "another model"),
        ("txt2img_send_images_false", None, "0 of 1 pictures"),
    ],
)
def test_what_a1111_replaced_in_silence(case: str, sampler: str | None, message: str) -> None:
    recording = recorded(A1111 / f"{case}.json")
    asked = recording["request"]["body"]
    wanted = asked.get("override_settings", {}).get("sd_model_checkpoint")
    checkpoint = Checkpoint(title=wanted, model_name=wanted) if wanted else DREAMSHAPER
    with pytest.raises(InvalidAnswerError, match=message):
        read(with_pictures(response_body(recording)), asked, checkpoint, Spelling(sampler=sampler))


def _sdcpp_answers() -> list[Path]:
    cases = [*SDCPP.glob("*/t2i_*.json"), *SDCPP.glob("*/i2i_b*.json")]
    answers = {path: response_body(recorded(path)) or {} for path in cases}
    # A very long info is cut in its recording.
    return sorted(path for path, answer in answers.items() if "images" in answer and isinstance(answer["info"], str))


@pytest.mark.parametrize("path", _sdcpp_answers(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_answers_of_sdcpp(path: Path) -> None:
    recording = recorded(path)
    asked = recording["request"]["json"]
    answer = response_body(recording)
    if asked.get("seed", -1) < 0 or len(answer["images"]) != asked.get("batch_size", 1):
        pytest.skip("a seed or a number of images that this service never asks for")
    if path.stem == "t2i_extra_args":
        with pytest.raises(InvalidAnswerError, match="another number of steps"):
            read(with_pictures(answer), asked, SD15_RANDOM)
        return
    spelling = Spelling(sampler=asked.get("sampler_name"))
    used = json.loads(answer["info"])["sampler_name"] if answer["info"] else None
    if spelling.sampler == "DDIM" or (spelling.sampler and used == "NONE"):
        with pytest.raises(InvalidAnswerError, match="another sampler"):
            read(with_pictures(answer), asked, SD15_RANDOM, spelling)
    else:
        assert len(read(with_pictures(answer), asked, SD15_RANDOM, spelling)) == len(answer["images"])


def replay(server: WebServer, folder: Path) -> None:
    """Lets the server answer its GETs as recorded."""
    for path in folder.glob("get_*.json"):
        recording = recorded(path)
        route = recording["request"]["path"].partition("?")[0]
        response = recording["response"]
        status = response.get("status") or int(response["status_line"].split()[1])
        body = response_body(recording)
        server.routes[f"GET {route}"] = Answer(status=status) if body in ("", None) else as_json(body, status)


def test_capabilities_of_a1111(web_server: WebServer) -> None:
    replay(web_server, A1111)
    seen = WebUIClient(web_server.url).capabilities()
    assert seen.checkpoints[0] == DREAMSHAPER
    assert "DPM++ 2M" in [sampler.name for sampler in seen.samplers]
    assert seen.schedulers is not None
    assert "karras" in [scheduler.name for scheduler in seen.schedulers]
    assert "Lanczos" in seen.upscalers
    assert (seen.gpu, seen.has_progress, seen.limits.size_step) == (False, True, 8)
    assert spell(seen, "DPM++ 2M Karras", None) == Spelling(sampler="DPM++ 2M", scheduler="karras")


@pytest.mark.parametrize("build", ["new", "old"])
def test_capabilities_of_sdcpp(web_server: WebServer, build: str) -> None:
    replay(web_server, SDCPP / build)
    seen = WebUIClient(web_server.url).capabilities()
    assert seen.checkpoints[0].hash == DUMMY_HASH
    assert seen.checkpoints[0].stem.startswith("sd15-random")
    assert (seen.gpu, seen.has_progress, seen.limits.sure_size_step, seen.max_seed) == (None, False, 64, 2**31 - 1)
    assert spell(seen, "Euler a", "Karras") == Spelling(sampler="euler_a", scheduler="karras")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (A1111 / "unknown_path.json", MissingRouteError),
        (A1111 / "wrong_method_get_txt2img.json", MissingRouteError),
        (A1111 / "auth_none_txt2img.json", WebUIAuthError),
        (A1111 / "auth_wrong_password.json", WebUIAuthError),
        (A1111 / "img2img_no_init_images.json", WebUIStatusError),
        (A1111 / "txt2img_script_unknown.json", WebUIStatusError),
        (A1111 / "txt2img_steps_text.json", WebUIStatusError),
        (A1111 / "txt2img_override_unknown_key.json", WebUIStatusError),
        (SDCPP / "new" / "get_progress.json", MissingRouteError),
        (SDCPP / "new" / "method_get_txt2img.json", MissingRouteError),
        (SDCPP / "new" / "err_no_prompt.json", WebUIStatusError),
        (SDCPP / "new" / "err_malformed_json.json", WebUIStatusError),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else value.__name__,
)
def test_errors(web_server: WebServer, path: Path, expected: type[WebUIStatusError]) -> None:
    recording = recorded(path)
    response = recording["response"]
    status = response.get("status") or int(response["status_line"].split()[1])
    body = response_body(recording)
    web_server.routes["POST /sdapi/v1/txt2img"] = Answer(status=status) if not body else as_json(body, status)
    with pytest.raises(WebUIStatusError) as caught:
        Transport(web_server.url).post("/sdapi/v1/txt2img", b"{}", timeout_s=15)
    assert type(caught.value) is expected
    assert caught.value.status == status
