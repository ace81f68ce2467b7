"""Open WebUI's own server with a user, who paints by either of its two engines."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from PIL import Image

from simulator import Simulator
from tests.clients.conftest import model_of
from tests.clients.programs import HERE, serving
from tests.running import DEADLINE_S, Service, free_port

PROGRAM = HERE / ".environments" / "open-webui" / "bin" / "open-webui"
KEY = "key-of-carl"

#: Without language models, documents and speech, and without a word to other hosts.
SETTINGS = {
    "WEBUI_SECRET_KEY": "of-this-test",
    "USE_SLIM_DOCKER": "true",
    "OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",
    "ENABLE_OLLAMA_API": "false",
    "ENABLE_OPENAI_API": "false",
    "ENABLE_VERSION_UPDATE_CHECK": "false",
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
}


class OpenWebUI:
    """As its page uses it. The first user is its administrator."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._session = requests.Session()

    def sign_up(self) -> None:
        person = {"name": "Carl", "email": "carl@example.com", "password": "a-long-Passw0rd"}
        token = self.post("/api/v1/auths/signup", person).json()["token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str) -> requests.Response:
        return self._session.get(self._root + path, timeout=DEADLINE_S)

    def post(self, path: str, body: object) -> requests.Response:
        return self._session.post(self._root + path, json=body, timeout=DEADLINE_S)

    def set(self, **settings: Any) -> None:
        current = self.get("/api/v1/images/config").json()
        answer = self.post("/api/v1/images/config/update", {**current, **settings})
        assert answer.ok, answer.text

    def generate(self, **fields: Any) -> requests.Response:
        return self.post("/api/v1/images/generations", {"prompt": "a lighthouse by the sea", **fields})

    def pictures(self, answer: requests.Response) -> list[Image.Image]:
        assert answer.ok, answer.text
        return [Image.open(io.BytesIO(self.get(one["url"]).content)) for one in answer.json()]


@pytest.fixture(scope="module")
def open_webui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenWebUI]:
    if not PROGRAM.exists():
        pytest.skip("needs Open WebUI, which is for Python 3.11 and 3.12: `make test-clients` installs it")
    folder, port = tmp_path_factory.mktemp("open-webui"), free_port()
    root = f"http://127.0.0.1:{port}"
    command = [str(PROGRAM), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with serving(command, f"{root}/health", folder / "log", {**SETTINGS, "DATA_DIR": str(folder)}):
        program = OpenWebUI(root)
        program.sign_up()
        yield program


def chosen(service: Service, key: str) -> str:
    options = requests.get(f"{service.root}/sdapi/v1/options", headers={"X-API-Key": key}, timeout=DEADLINE_S)
    title: str = options.json()["sd_model_checkpoint"]
    return title


def test_as_automatic1111(open_webui: OpenWebUI, guarded: Service, service_simulator: Simulator) -> None:
    service_simulator.forget_requests()
    wrong, right = ({"engine": "automatic1111", "url": guarded.root, "key": f"any:{key}"} for key in ("nothing", KEY))
    assert open_webui.post("/api/v1/images/verify", wrong).status_code == 400
    assert open_webui.post("/api/v1/images/verify", right).json() is True

    where = {"AUTOMATIC1111_BASE_URL": guarded.root, "AUTOMATIC1111_API_AUTH": f"any:{KEY}"}
    open_webui.set(ENABLE_IMAGE_GENERATION=True, IMAGE_GENERATION_ENGINE="automatic1111", IMAGE_STEPS=5, **where)
    titles = [model["id"] for model in open_webui.get("/api/v1/images/models").json()]
    (title,) = [title for title in titles if title.startswith("sd_xl_base")]
    # It sends all of the service's options back, with this one changed.
    open_webui.set(IMAGE_GENERATION_MODEL=title)
    assert chosen(guarded, KEY).startswith("sd_xl_base")
    assert chosen(guarded, "key-of-dora").startswith("v1-5"), "nobody else's"

    pictures = open_webui.pictures(open_webui.generate(n=2, size="256x192"))
    assert [picture.size for picture in pictures] == [(256, 192)] * 2
    (job,) = service_simulator.generations
    assert model_of(job) == "sd_xl_base_1.0"

    assert open_webui.generate(size="20x20").status_code == 400
    assert open_webui.generate(model="nothing", size="256x256").status_code == 400, "not by another model"
    assert len(service_simulator.generations) == 1


def test_as_openai(open_webui: OpenWebUI, guarded: Service) -> None:
    where = {"IMAGES_OPENAI_API_BASE_URL": f"{guarded.root}/v1", "IMAGES_OPENAI_API_KEY": KEY}
    edits = {"IMAGES_EDIT_OPENAI_API_BASE_URL": f"{guarded.root}/v1", "IMAGES_EDIT_OPENAI_API_KEY": KEY}
    engines = {"IMAGE_GENERATION_ENGINE": "openai", "IMAGE_EDIT_ENGINE": "openai"}
    models = {"IMAGE_GENERATION_MODEL": "sd-v1-5", "IMAGE_EDIT_MODEL": "sd-v1-5"}
    switches = {"ENABLE_IMAGE_GENERATION": True, "ENABLE_IMAGE_EDIT": True}
    open_webui.set(**where, **edits, **engines, **models, **switches, IMAGES_OPENAI_API_PARAMS={"steps": 5})

    painted = open_webui.generate(n=2, size="256x192")
    assert [picture.size for picture in open_webui.pictures(painted)] == [(256, 192)] * 2
    edit = {"image": painted.json()[0]["url"], "prompt": "a forest"}
    (picture,) = open_webui.pictures(open_webui.post("/api/v1/images/edit", edit))
    assert picture.size == (256, 192)

    refused = open_webui.generate(size="20x20")
    assert (refused.status_code, refused.json()["detail"]) == (400, "[ERROR: BAD REQUEST]")
