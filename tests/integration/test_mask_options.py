"""A batch of an inpainting has its own pictures and nothing else, whatever the WebUI's operator lets it return."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from PIL import Image

from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import VALID
from tests.running import PREFIX, service_in_process

BODY = {**VALID["inpainting"], "width": 64, "height": 64, "steps": 1, "seed": 3, "sampler": "Euler"}
MASK_OPTIONS = [
    {"return_mask": True},
    {"return_mask_composite": True},
    {"return_mask": True, "return_mask_composite": True},
]


def set_options(webui: Simulator, options: dict[str, Any]) -> None:
    requests.post(f"{webui.url}/sdapi/v1/options", json=options, timeout=20).raise_for_status()


def get_options(webui: Simulator) -> dict[str, Any]:
    return dict(requests.get(f"{webui.url}/sdapi/v1/options", timeout=20).json())


def pixels(image: dict[str, Any]) -> bytes:
    data = base64.b64decode(image["image_base64"].partition(",")[2])
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB").tobytes()


def painted(client: FlaskClient, batch_size: int) -> list[bytes]:
    answer = client.post(f"{PREFIX}/inpainting", json={**BODY, "batch_size": batch_size})
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    return [pixels(image) for image in body.get("images", [body])]


@pytest.fixture(params=["a1111", "forge"])
def webui(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    with Simulator(flavour=request.param) as made:
        yield made


@pytest.mark.parametrize("options", MASK_OPTIONS, ids=["mask", "composite", "both"])
@pytest.mark.parametrize("pnginfo", [True, False])
def test_what_is_on_when_the_service_starts_is_sent_off(
    webui: Simulator, tmp_path: Path, options: dict[str, Any], pnginfo: bool
) -> None:
    with service_in_process(tmp_path / "plain", webui.url) as app:
        expected = painted(app.test_client(), 3)
    set_options(webui, {**options, "enable_pnginfo": pnginfo})
    before = get_options(webui)
    with service_in_process(tmp_path / "masks", webui.url) as app:
        assert painted(app.test_client(), 3) == expected
        assert painted(app.test_client(), 1) == expected[:1]
    assert get_options(webui) == before, "the operator's settings stay as they are"


@pytest.mark.parametrize("options", MASK_OPTIONS, ids=["mask", "composite", "both"])
@pytest.mark.parametrize("samples_format", ["png", "jpg", "webp"])
def test_what_is_turned_on_later_is_left_out(
    webui: Simulator, tmp_path: Path, options: dict[str, Any], samples_format: str
) -> None:
    set_options(webui, {"samples_format": samples_format})
    with service_in_process(tmp_path, webui.url) as app:
        client = app.test_client()
        expected = painted(client, 3)
        set_options(webui, options)
        assert painted(client, 3) == expected
        assert painted(client, 1) == expected[:1]


def test_where_nothing_tells_the_pictures_it_is_an_error(webui: Simulator, tmp_path: Path) -> None:
    set_options(webui, {"enable_pnginfo": False})
    with service_in_process(tmp_path, webui.url) as app:
        client = app.test_client()
        assert len(painted(client, 1)) == 1, "the options have been read"
        set_options(webui, {"return_mask": True})
        answer = client.post(f"{PREFIX}/inpainting", json={**BODY, "batch_size": 2})
        problem = problem_of(answer)
        assert (problem["status"], problem["reason"], problem["retryable"]) == (502, "ambiguous_images", True)
        assert len(list(tmp_path.rglob("*.png"))) == 1, "nothing of it is kept"
        assert len(painted(client, 1)) == 1
