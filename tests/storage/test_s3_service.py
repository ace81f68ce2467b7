"""The whole service with its images in a bucket."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pybase64
import pytest
from flask import Flask
from localbucket import S3Handler
from PIL import Image

from config import Config, ConfigError
from simulator import Simulator
from stable_diffusion_api import create_app
from tests.api.conditional_requests import CASES, Conditional, check
from tests.running import NO_LIMITS, PREFIX
from tests.storage.s3_servers import S3Server, serving

SMALL = {"prompt": "a fox", "width": 64, "height": 64, "steps": 1}


def settings(webui_url: str, storage_url: str, folder: Path) -> Config:
    own = {"SD_WEBUI_URL": webui_url, "STORAGE_URL": storage_url, "RUNTIME_DIR": str(folder), "LOG_LEVEL": "ERROR"}
    return Config.from_env({**NO_LIMITS, **own, "API_KEYS": "key"})


@contextmanager
def made_app(config: Config) -> Iterator[Flask]:
    app = create_app(config)
    try:
        yield app
    finally:
        app.extensions["close"]()


@pytest.fixture
def app(shared_simulator: Simulator, s3_server: S3Server, tmp_path: Path) -> Iterator[Flask]:
    with made_app(settings(shared_simulator.url, s3_server.url(uuid4().hex), tmp_path)) as app:
        yield app


@pytest.fixture(scope="module")
def stored(
    shared_simulator: Simulator, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Flask, str]]:
    """The service, and the path of an image that it has painted."""
    config = settings(shared_simulator.url, s3_server.url(uuid4().hex), tmp_path_factory.mktemp("run"))
    with made_app(config) as app:
        made = app.test_client().post(f"{PREFIX}/txt2img", json=SMALL, headers={"Authorization": "Bearer key"})
        yield app, str(made.json["image_url"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conditions_and_ranges(stored: tuple[Flask, str], case: Conditional) -> None:
    app, path = stored
    check(app.test_client(), path, case)


def test_an_image_is_painted_kept_given_and_removed(app: Flask) -> None:
    client = app.test_client()
    headers = {"Authorization": "Bearer key"}
    made = client.post(f"{PREFIX}/txt2img", json=SMALL, headers=headers)
    assert made.status_code == 200
    assert "warnings" not in made.json
    png = pybase64.b64decode(made.json["image_base64"].partition(",")[2])
    url = made.json["image_url"]
    with client.get(url) as given:
        assert (given.data, given.mimetype) == (png, "image/png")
    with client.get(url, headers={"Range": "bytes=8-15"}) as part:
        assert (part.status_code, part.data) == (206, png[8:16])
    with client.get(f"{url}?format=webp&width=32") as copy, Image.open(io.BytesIO(copy.data)) as image:
        assert (image.format, image.size) == ("WEBP", (32, 32))
    assert client.delete(url, headers=headers).status_code == 204
    assert client.get(url).status_code == 404


class Watched(S3Handler):
    """A real S3 server that notes how much of what each GET and HEAD asks for."""

    protocol_version = "HTTP/1.0"
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        if self.path.endswith(".png"):
            self.asked.append((self.command, self.headers["Range"]))
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_who_needs_no_picture_fetches_none(shared_simulator: Simulator, aws_credentials: None, tmp_path: Path) -> None:
    (tmp_path / "s3" / "pictures").mkdir(parents=True)
    handler = type("One", (Watched,), {"data_root": tmp_path / "s3", "asked": []})
    with serving(handler) as url, made_app(settings(shared_simulator.url, url, tmp_path / "run")) as app:
        client = app.test_client()
        made = client.post(f"{PREFIX}/txt2img", json=SMALL, headers={"X-API-Key": "key"}).json
        url, size = made["image_url"], len(pybase64.b64decode(made["image_base64"].partition(",")[2]))

        def call(method: str, **headers: str) -> tuple[int, str | None, list[str | None]]:
            """Its status, how long it says the picture is, and what was asked of the bucket."""
            handler.asked.clear()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            with client.open(url, method=method, headers=named) as answer:
                assert method != "HEAD" or answer.data == b""
                return answer.status_code, answer.headers.get("Content-Length"), [part for _, part in handler.asked]

        tag = f'"{made["image_id"]}"'
        first_byte, everything = "bytes=0-0", None
        assert call("GET") == (200, str(size), [everything])
        assert call("HEAD") == (200, str(size), [first_byte])
        assert call("GET", If_None_Match=tag) == (304, None, [first_byte])
        assert call("GET", If_None_Match='"other"') == (200, str(size), [first_byte, everything])
        assert call("GET", If_None_Match='"other"', Range="bytes=0-7") == (206, "8", [first_byte, everything])
        assert client.delete(url, headers={"X-API-Key": "key"}).status_code == 204
        assert [call("HEAD")[0], call("GET", If_None_Match=tag)[0]] == [404, 404]


def test_a_key_is_kept_in_the_runtime_folder(app: Flask, tmp_path: Path) -> None:
    client = app.test_client()
    headers = {"Authorization": "Bearer key", "Idempotency-Key": "one"}
    first, second = (client.post(f"{PREFIX}/txt2img", json=SMALL, headers=headers) for _ in range(2))
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json["image_base64"] == first.json["image_base64"]
    assert len(list(tmp_path.glob("idempotency-*"))) == 1


def test_a_bucket_that_does_not_exist_keeps_nobody_from_the_picture(
    shared_simulator: Simulator, s3_server: S3Server, tmp_path: Path
) -> None:
    with made_app(settings(shared_simulator.url, s3_server.url(bucket="nowhere"), tmp_path)) as app:
        made = app.test_client().post(f"{PREFIX}/txt2img", json=SMALL, headers={"X-API-Key": "key"})
        assert (made.status_code, made.json["image_url"]) == (200, None)
        assert made.json["warnings"]
        assert made.json["image_base64"].startswith("data:image/png;base64,")


def test_an_address_with_a_misspelling_stops_the_start(shared_simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'regoin' is unknown"):
        create_app(settings(shared_simulator.url, "s3://pictures?regoin=eu", tmp_path))
    assert list(tmp_path.iterdir()) == []
