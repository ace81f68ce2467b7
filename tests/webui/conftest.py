"""A WebUI to hold against what the service relies on: the one SD_WEBUI_URL names, else every simulated flavour."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from pydantic_core import to_json

from config import Config
from sd_client.client import WebUIClient
from sd_client.errors import WebUIError
from sd_client.models import Capabilities
from sd_client.transport import Transport
from simulator import Simulator
from stable_diffusion_api import PREFIX, create_app

REAL = os.environ.get("SD_WEBUI_URL")
FLAVOURS = ("a1111", "a1111-1.6", "forge", "sdnext", "sdcpp", "koboldcpp", "koboldcpp-1.115")


class Service:
    """The service in this process in front of one WebUI, and the few calls that the tests make."""

    def __init__(self, app: Flask, url: str) -> None:
        self._client = app.test_client()
        self._url = url
        # 64 pixels and 2 steps: a real WebUI may paint on a CPU.
        self.smallest = {"prompt": "a lighthouse", "width": 64, "height": 64, "steps": 2, "seed": 42}

    def capabilities(self) -> Capabilities:
        """Of the WebUI, read by itself."""
        return WebUIClient(self._url).capabilities()

    @contextmanager
    def webui_options(self, **changes: object) -> Iterator[None]:
        """The WebUI with these settings, as its operator changes them; they are put back. Skips where it lacks them."""
        webui = Transport(self._url)
        try:
            options = webui.get("/sdapi/v1/options", timeout_s=10)
            before = {name: options[name] for name in changes}
        except (WebUIError, KeyError, TypeError):
            pytest.skip("this WebUI has no such settings")
        webui.post("/sdapi/v1/options", to_json(changes), timeout_s=60)
        try:
            yield
        finally:
            webui.post("/sdapi/v1/options", to_json(before), timeout_s=60)

    def get(self, route: str):
        return self._client.get(f"{PREFIX}/{route}")

    def post(self, route: str, *, leave_out=(), **fields):
        body = {name: value for name, value in (self.smallest | fields).items() if name not in leave_out}
        return self._client.post(f"{PREFIX}/{route}", json=body)

    def upscale(self, **fields):
        return self._client.post(f"{PREFIX}/upscale", json=fields)


def _app(url: str, folder: Path, **settings: str) -> Flask:
    environ = {"SD_WEBUI_URL": url, "RUNTIME_DIR": str(folder / "run"), "IMAGE_DIR": str(folder / "images")}
    quiet = {"RATE_LIMIT_GLOBAL": "1000000/second", "RATE_LIMIT_GENERATION": "1000000/second", "LOG_LEVEL": "ERROR"}
    return create_app(Config.from_env(environ | quiet | settings))


def _first_model(app: Flask) -> str:
    models = app.test_client().get(f"{PREFIX}/models").get_json()["models"]
    assert models, "the WebUI cannot be reached, or it lists no models"
    return next((model["id"] for model in models if model["loaded"]), models[0]["id"])


@pytest.fixture(scope="module", params=[REAL] if REAL else FLAVOURS, ids=["real"] if REAL else FLAVOURS)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    simulator = None if REAL else Simulator(flavour=request.param)
    if simulator:
        simulator.start()
    folder = tmp_path_factory.mktemp("service")
    url = REAL or simulator.url
    app = _app(url, folder)
    service = Service(app, url)
    service.smallest["model"] = _first_model(app)
    yield service
    app.extensions["close"]()
    if simulator:
        simulator.close()
