"""SillyTavern's own server with a user, who paints by two of its sources: AUTOMATIC1111 and stable-diffusion.cpp."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from simulator import Simulator
from tests.clients.conftest import generations, model_of, opened
from tests.clients.programs import HERE, serving
from tests.running import DEADLINE_S, Service, free_port, running_service, wait_until

PROGRAM = HERE / "sillytavern" / "node_modules" / "sillytavern"
KEY = "key-of-emma"
AUTH = f"any:{KEY}"
PROMPT = "a lighthouse by the sea"

#: What the page sends where nobody changed a setting, but for the size.
DEFAULTS = {
    "prompt": PROMPT,
    "negative_prompt": "lowres",
    "sampler_name": "DDIM",
    "scheduler": "normal",
    "steps": 20,
    "cfg_scale": 7,
    "width": 256,
    "height": 192,
    "restore_faces": False,
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "hr_scale": 1,
    "hr_additional_modules": [],
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "override_settings": {"CLIP_stop_at_last_layers": 1},
    "override_settings_restore_afterwards": True,
    "clip_skip": 1,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
}


class SillyTavern:
    """As its page uses it: each request names the WebUI."""

    def __init__(self, port: int, log: Path) -> None:
        self._port = port
        self._log = log

    @property
    def console(self) -> str:
        return self._log.read_text()

    def ask(self, what: str, service: Service, **fields: Any) -> requests.Response:
        body = {"url": service.root, **fields}
        return requests.post(f"http://127.0.0.1:{self._port}/api/sd/{what}", json=body, timeout=DEADLINE_S)

    def begin(self, what: str, service: Service, **fields: Any) -> HTTPConnection:
        """A request whose answer nobody waits for."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)
        body = json.dumps({"url": service.root, **fields})
        connection.request("POST", f"/api/sd/{what}", body, {"Content-Type": "application/json"})
        return connection


@pytest.fixture(scope="module")
def sillytavern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SillyTavern]:
    folder, port = tmp_path_factory.mktemp("sillytavern"), free_port()
    files = ["--dataRoot", str(folder / "data"), "--configPath", str(folder / "config.yaml")]
    switches = ["--listen", "false", "--browserLaunchEnabled", "false", "--disableCsrf", "true"]
    command = [node(), str(PROGRAM / "server.js"), "--port", str(port), *files, *switches]
    with serving(command, f"http://127.0.0.1:{port}/", folder / "log", {}):
        yield SillyTavern(port, folder / "log")


def node() -> str:
    """
    The path of a node that can run it.

    :raises pytest.skip.Exception: there is none, or SillyTavern is not installed.
    """
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs node 20 or later, which `make test-clients` does not install")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"needs node 20 or later; this is {version}")
    if not PROGRAM.is_dir():
        pytest.skip("needs SillyTavern: `make test-clients` installs it")
    return found


def choose_dreamshaper(sillytavern: SillyTavern, service: Service) -> None:
    titles = [model["value"] for model in sillytavern.ask("models", service, auth=AUTH).json()]
    (title,) = [title for title in titles if title.startswith("dreamshaper")]
    assert sillytavern.ask("set-model", service, auth=AUTH, model=title).status_code == 200
    # Without the hash, which a WebUI adds once it has loaded the file.
    assert sillytavern.ask("get-model", service, auth=AUTH).text.startswith("dreamshaper_8.safetensors")


def picture(answer: requests.Response) -> Image.Image:
    assert answer.ok, answer.text
    (encoded,) = answer.json()["images"]
    return opened(encoded)


def test_as_automatic1111(sillytavern: SillyTavern, guarded: Service, service_simulator: Simulator) -> None:
    service_simulator.forget_requests()
    assert sillytavern.ask("ping", guarded, auth="any:nothing").status_code == 500
    assert sillytavern.ask("ping", guarded, auth="").status_code == 500
    assert sillytavern.ask("ping", guarded, auth=AUTH).status_code == 200
    assert DEFAULTS["sampler_name"] in sillytavern.ask("samplers", guarded, auth=AUTH).json()
    assert DEFAULTS["scheduler"] in sillytavern.ask("schedulers", guarded, auth=AUTH).json()
    choose_dreamshaper(sillytavern, guarded)

    since = len(guarded.printed)
    painted = sillytavern.ask("generate", guarded, auth=AUTH, **DEFAULTS)
    assert picture(painted).size == (256, 192)
    (job,) = service_simulator.generations
    assert model_of(job) == "dreamshaper_8"

    wait_until(lambda: generations(guarded, since=since) == [200], "the request is logged")
    # It sends the password in the body as well, and hands on the service's answer as it came.
    in_header = base64.b64encode(AUTH.encode()).decode()
    for text in (painted.text, str(picture(painted).info), job.body.decode(), guarded.printed):
        assert [secret for secret in (KEY, in_header) if secret in text] == []
    assert PROMPT not in guarded.printed


def test_an_unknown_model_is_not_replaced_by_another(
    sillytavern: SillyTavern, guarded: Service, service_simulator: Simulator
) -> None:
    service_simulator.forget_requests()
    choose_dreamshaper(sillytavern, guarded)
    assert sillytavern.ask("set-model", guarded, auth=AUTH, model="nothing.safetensors").status_code == 500
    assert sillytavern.ask("generate", guarded, auth=AUTH, **DEFAULTS).status_code == 500
    assert "is not a model of this service" in sillytavern.console
    assert service_simulator.generations == []

    choose_dreamshaper(sillytavern, guarded)
    assert picture(sillytavern.ask("generate", guarded, auth=AUTH, **DEFAULTS)).size == (256, 192)


def test_a_refusals_sentence_is_in_its_console(
    sillytavern: SillyTavern, guarded: Service, service_simulator: Simulator
) -> None:
    service_simulator.forget_requests()
    choose_dreamshaper(sillytavern, guarded)
    refused = sillytavern.ask("generate", guarded, auth=AUTH, **{**DEFAULTS, "restore_faces": True})
    assert refused.status_code == 500
    assert "restore_faces: is not available here; leave it out" in sillytavern.console
    assert service_simulator.generations == []


def test_a_page_that_is_closed_ends_the_job(sillytavern: SillyTavern, tmp_path: Path) -> None:
    with Simulator(step_time=1.0) as webui, running_service(tmp_path / "service", webui.url) as service:
        service.wait_until_answering()
        with closing(sillytavern.begin("generate", service, auth="", **DEFAULTS)):
            wait_until(lambda: len(webui.generations) == 1, "the WebUI paints")
        wait_until(lambda: "/sdapi/v1/interrupt" in [request.path for request in webui.requests], "it is interrupted")


def test_as_stable_diffusion_cpp(
    sillytavern: SillyTavern, service: Service, guarded: Service, service_simulator: Simulator
) -> None:
    assert sillytavern.ask("sdcpp/ping", service).status_code == 200
    names = [model["id"] for model in sillytavern.ask("sdcpp/models", service).json()["data"]]
    assert "dreamshaper_8" in names
    fields = {name: DEFAULTS[name] for name in ("negative_prompt", "steps", "cfg_scale", "width", "height")}
    ways = {"sampler_name": "euler_a", "scheduler": "karras", "batch_size": 1, "clip_skip": 1}
    painted = sillytavern.ask("sdcpp/generate", service, model="dreamshaper_8", prompt=PROMPT, **fields, **ways)
    assert picture(painted).size == (256, 192)
    (job,) = service_simulator.generations
    assert model_of(job) == "dreamshaper_8"

    assert sillytavern.ask("sdcpp/models", guarded).status_code == 500, "it has no field for a key"
