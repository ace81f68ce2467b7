"""What a front end builds its form from."""

from __future__ import annotations

from flask.testing import FlaskClient

from api.schemas import FIELDS
from simulator import Simulator
from tests.api.answers import problem_of
from tests.conftest import MakeApp
from tests.running import PREFIX, wait_until

SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1}


def test_models(make_app: MakeApp) -> None:
    with Simulator() as webui:
        client = make_app(webui.url).test_client()
        body = client.get(f"{PREFIX}/models").get_json()

    assert body["default"] == "sd-v1-5"
    listed = {model["id"]: model for model in body["models"]}
    assert listed.keys() == {"sd-v1-5", "sdxl", "dreamshaper_8"}
    assert all(model.keys() == {"id", "checkpoint", "name", "hash", "loaded", "default"} for model in body["models"])
    default = listed["sd-v1-5"]
    assert default["checkpoint"] == f"v1-5-pruned-emaonly.safetensors [{default['hash']}]"
    assert (default["name"], default["loaded"], default["default"]) == ("v1-5-pruned-emaonly", True, True)
    assert listed["sdxl"] == {
        "id": "sdxl",
        "checkpoint": "sd_xl_base_1.0.safetensors",
        "name": "sd_xl_base_1.0",
        "hash": None,
        "loaded": False,
        "default": False,
    }


def test_every_listed_id_can_be_asked_for(client: FlaskClient) -> None:
    for model in client.get(f"{PREFIX}/models").get_json()["models"]:
        for name in (model["id"], model["checkpoint"], model["name"], model["hash"]):
            if name:
                answer = client.post(f"{PREFIX}/txt2img", json={**SMALL, "model": name})
                assert (answer.status_code, answer.get_json()["model"]) == (200, name)


def test_loaded_follows_the_jobs(client: FlaskClient) -> None:
    for name in ("sdxl", "sd-v1-5"):
        assert client.post(f"{PREFIX}/txt2img", json={**SMALL, "model": name}).status_code == 200
        models = client.get(f"{PREFIX}/models").get_json()["models"]
        assert [model["id"] for model in models if model["loaded"]] == [name]


def test_a_new_models_hash_is_seen_by_and_by(client: FlaskClient) -> None:
    assert client.post(f"{PREFIX}/txt2img", json={**SMALL, "model": "dreamshaper_8"}).status_code == 200

    def known() -> bool:
        models = client.get(f"{PREFIX}/models").get_json()["models"]
        return all(model["hash"] for model in models if model["id"] == "dreamshaper_8")

    wait_until(known, "the hash is listed")
    # A job after that names the model as it is spelled now.
    assert client.post(f"{PREFIX}/txt2img", json={**SMALL, "model": "dreamshaper_8"}).status_code == 200


def test_options(client: FlaskClient) -> None:
    body = client.get(f"{PREFIX}/options").get_json()

    assert {"Euler a", "Euler", "DPM++ 2M"} <= set(body["samplers"])
    assert {"Karras", "Automatic"} <= set(body["schedulers"])
    assert body["upscalers"] == ["Lanczos", "Nearest", "4x-UltraSharp", "LDSR"]
    assert body["loras"][:2] == [{"name": "add-detail", "base": "sd1"}, {"name": "red dress v1.2", "base": None}]
    assert body["limits"]["steps"] == {"minimum": 1, "maximum": 150}
    assert body["limits"]["width"] == {"minimum": 64, "maximum": 2048, "multiple_of": 8}
    assert body["limits"]["seed"] == {"minimum": -1, "maximum": 2**32 - 1}
    assert body["limits"]["strength"] == {"minimum": 0, "maximum": 1}
    assert body["limits"]["width x height"] == {"maximum": 1536 * 1536}
    assert body["defaults"].keys() == FIELDS.keys()
    assert body["defaults"]["inpainting"]["strength"] == 0.9


def test_every_listed_sampler_and_scheduler_can_be_asked_for(client: FlaskClient) -> None:
    options = client.get(f"{PREFIX}/options").get_json()
    for name in options["samplers"]:
        # Some fail in every WebUI with fewer steps.
        answer = client.post(f"{PREFIX}/txt2img", json={**SMALL, "steps": 3, "sampler": name})
        assert answer.status_code == 200, (name, answer.text)
    for name in options["schedulers"]:
        answer = client.post(f"{PREFIX}/txt2img", json={**SMALL, "sampler": "Euler", "scheduler": name})
        assert answer.status_code == 200, (name, answer.text)


def test_limits_of_the_operator(make_app: MakeApp, simulator: Simulator) -> None:
    settings = {"MAX_STEPS": "9", "MAX_BATCH_SIZE": "2", "MAX_PIXELS": "300000", "MAX_PROMPT_CHARS": "5"}
    client = make_app(simulator.url, **settings).test_client()
    limits = client.get(f"{PREFIX}/options").get_json()["limits"]
    assert (limits["steps"]["maximum"], limits["batch_size"]["maximum"]) == (9, 2)
    assert (limits["prompt"], limits["width x height"]) == ({"max_length": 5}, {"maximum": 300_000})
    bad = {"prompt": "abcdef", "steps": 10, "batch_size": 3, "width": 1024, "height": 512}
    problem = problem_of(client.post(f"{PREFIX}/txt2img", json=bad))
    assert {entry["field"] for entry in problem["errors"]} == {"prompt", "steps", "batch_size", "height"}


def test_the_operators_sampler_and_aliases(make_app: MakeApp, simulator: Simulator) -> None:
    settings = {"SD_SAMPLER": "euler_a", "SD_SCHEDULER": "Karras", "SD_MODEL": "house"}
    client = make_app(simulator.url, SD_MODEL_ALIASES="house=dreamshaper_8", **settings).test_client()
    body = client.post(f"{PREFIX}/txt2img", json=SMALL).get_json()
    assert body["model"] == "house"
    job = simulator.generations[-1].body.decode()
    assert '"sampler_name":"Euler a"' in job
    assert '"scheduler":"karras"' in job
    assert "dreamshaper_8.safetensors" in job
    assert client.get(f"{PREFIX}/models").get_json()["default"] == "house"
