"""A stored image named by its id instead of being sent, in a bucket and on a disk."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from simulator import Simulator
from tests.api.answers import problem_of
from tests.running import PREFIX, service_in_process
from tests.services import picture_samples as samples
from tests.storage.s3_servers import S3Server, aws_variables

SMALL = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, kw_only=True)
class Place:
    """:param folder: where the images' files are; :param server: of a bucket."""

    client: FlaskClient
    webui: Simulator
    folder: Path
    server: S3Server | None

    def stored(self) -> tuple[str, bytes]:
        """A new image's id and its file."""
        made = self.client.post(f"{PREFIX}/txt2img", json=SMALL).get_json()
        return made["image_id"], base64.b64decode(made["image_base64"].partition(",")[2])

    def img2img(self, image: object, **fields: object) -> TestResponse:
        return self.client.post(f"{PREFIX}/img2img", json={**SMALL, "image": image, **fields})

    def sent_picture(self) -> bytes:
        """What the WebUI got last."""
        return base64.b64decode(json.loads(self.webui.generations[-1].body)["init_images"][0])

    def fail(self) -> None:
        if self.server is not None:
            self.server.kill()
        else:
            self.folder.rename(self.folder.with_name("elsewhere"))
            self.folder.write_text("a file where a folder was")


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        webui = stack.enter_context(Simulator())
        settings: dict[str, str] = {"RATE_LIMIT_GENERATION": "1000/minute"}
        folder, server = tmp_path / "images", None
        if request.param == "bucket":
            stack.enter_context(aws_variables(AWS_ACCESS_KEY_ID="tests", AWS_SECRET_ACCESS_KEY="tests"))
            server = S3Server(tmp_path / "s3")
            server.start()
            stack.callback(server.kill)
            settings |= {"STORAGE_URL": server.url("images"), "IMAGE_DIR": ""}
            folder = server.folder / "images"
        app = stack.enter_context(service_in_process(tmp_path, webui.url, **settings))
        yield Place(client=app.test_client(), webui=webui, folder=folder, server=server)


def test_the_webui_receives_the_stored_pixels(place: Place) -> None:
    image_id, png = place.stored()
    for named in (image_id, image_id.upper(), f" {image_id}\n"):
        assert place.img2img(named).status_code == 200
        assert samples.pixels(place.sent_picture()).tobytes() == samples.pixels(png).convert("RGB").tobytes()


def test_in_a_form_and_with_a_mask(place: Place) -> None:
    image_id, png = place.stored()
    mask = samples.encode(samples.pixels(png).convert("L").point(lambda grey: 255 * (grey > 128)).convert("RGB"))
    form: dict[str, Any] = {**{name: str(value) for name, value in SMALL.items()}, "image": image_id}
    form["mask"] = base64.b64encode(mask).decode()
    answer = place.client.post(f"{PREFIX}/inpainting", data=form, content_type="multipart/form-data")
    assert answer.status_code == 200, answer.text
    assert samples.pixels(place.sent_picture()).tobytes() == samples.pixels(png).convert("RGB").tobytes()


def test_an_unknown_id_is_a_problem_of_its_field(place: Place) -> None:
    problem = problem_of(place.img2img(UNKNOWN, steps=0))
    assert (problem["status"], problem["code"]) == (422, "validation_error")
    by_field = {error["field"]: error for error in problem["errors"]}
    assert by_field.keys() == {"image", "steps"}
    assert by_field["image"]["message"].startswith("names no stored image")
    assert by_field["image"]["received"] == UNKNOWN
    assert not place.webui.generations


@pytest.mark.parametrize("place", ["disk"], indirect=True)
def test_an_expired_image_cannot_be_named(place: Place, tmp_path: Path) -> None:
    image_id, _ = place.stored()
    (file,) = place.folder.glob(f"*/*/{image_id}.png")
    os.utime(file, (time.time() - 7200,) * 2)
    settings = {"IMAGE_DIR": str(place.folder), "IMAGE_TTL_HOURS": "1"}
    with service_in_process(tmp_path / "other", place.webui.url, **settings) as app:
        answer = app.test_client().post(f"{PREFIX}/img2img", json={**SMALL, "image": image_id})
    assert problem_of(answer)["errors"][0]["message"].startswith("names no stored image")


def test_a_failing_storage_is_its_own_error(place: Place) -> None:
    image_id, _ = place.stored()
    place.fail()
    problem = problem_of(place.img2img(image_id))
    assert (problem["status"], problem["code"], problem["retryable"]) == (503, "storage_unavailable", True)
    assert len(place.webui.generations) == 1


def test_a_retry_gets_the_first_answer(place: Place) -> None:
    image_id, _ = place.stored()
    headers = {"Idempotency-Key": str(uuid4())}
    body = {**SMALL, "image": image_id}
    first, second = (place.client.post(f"{PREFIX}/img2img", json=body, headers=headers) for _ in range(2))
    assert first.get_json() == second.get_json()
    assert len(place.webui.generations) == 2


@pytest.mark.parametrize("place", ["disk"], indirect=True)
@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("image", f"https://example.org{PREFIX}/image/{UNKNOWN}.png?width=64", "its image_id"),
        ("image", f"/api/v1/ai/generation/image/{UNKNOWN}", "its image_id"),
        ("image", UNKNOWN.replace("-", ""), "must be"),
        ("image", f"{{{UNKNOWN}}}", "JSON inside a string"),
        ("mask", UNKNOWN, "is the id of an image"),
    ],
)
def test_what_is_no_id(place: Place, field: str, value: str, says: str) -> None:
    picture = base64.b64encode(samples.encode(samples.noise())).decode()
    body = {"prompt": "a harbour", "image": picture, "mask": picture, field: value}
    problem = problem_of(place.client.post(f"{PREFIX}/inpainting", json=body))
    (message,) = [error["message"] for error in problem["errors"] if error["field"] == field]
    assert says in message


@pytest.mark.parametrize("place", ["disk"], indirect=True)
def test_a_request_over_its_limit_fetches_nothing(place: Place, tmp_path: Path) -> None:
    """Neither is an image looked for in vain, which would tell that it is not there."""
    with service_in_process(tmp_path / "limited", place.webui.url, RATE_LIMIT_GENERATION="1/hour") as app:
        client = app.test_client()
        assert client.post(f"{PREFIX}/txt2img", json=SMALL).status_code == 200
        answer = client.post(f"{PREFIX}/img2img", json={**SMALL, "image": UNKNOWN})
    assert problem_of(answer)["code"] == "rate_limited"
