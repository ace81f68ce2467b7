"""Health: what balancers see, in every state the service can be in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import problem_of
from tests.conftest import MakeApp
from tests.running import PREFIX, free_port, wait_until

SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1}


def health(client: FlaskClient) -> dict[str, Any]:
    answer = client.get(f"{PREFIX}/health")
    body = dict(answer.get_json())
    assert answer.status_code == (200 if body["status"] in ("healthy", "degraded") else 503)
    assert answer.headers["Cache-Control"] == "no-store"
    return body


def wait_for(client: FlaskClient, status: str) -> dict[str, Any]:
    wait_until(lambda: health(client)["status"] == status, f"health says {status}")
    return health(client)


def test_every_key(client: FlaskClient) -> None:
    body = wait_for(client, "healthy")
    assert body.pop("uptime_seconds") >= 0
    assert body == {
        "status": "healthy",
        "version": "0.1.0",
        "device": "gpu",
        "webuis": {"total": 1, "available": 1, "busy": 0, "gpu": 1, "cpu": 0},
        "queue": {"waiting": 0, "limit": 64},
        "redis": "off",
        "storage": "ok",
        "reasons": [],
    }


def test_live(client: FlaskClient) -> None:
    assert client.get(f"{PREFIX}/health/live").get_json() == {"status": "alive"}


def test_before_the_first_look(make_app: MakeApp, simulator: Simulator) -> None:
    simulator.set_fault("hang-before", route="sd-models")
    client = make_app(simulator.url).test_client()

    assert health(client)["status"] == "unhealthy"
    assert client.get(f"{PREFIX}/health/live").status_code == 200
    simulator.clear_faults()
    wait_for(client, "healthy")


def test_a_generation_that_comes_first_waits_for_the_first_look(make_app: MakeApp, simulator: Simulator) -> None:
    simulator.set_fault("slow", route="sd-models", seconds=0.5, times=1)
    client = make_app(simulator.url).test_client()
    assert client.post(f"{PREFIX}/txt2img", json=SMALL).status_code == 200


@pytest.mark.parametrize(
    ("settings", "device", "status"),
    [
        ({}, "cpu", "healthy"),
        ({"USE_GPU": "false"}, "cpu", "healthy"),
        ({"CPU_FALLBACK": "false", "USE_GPU": "false"}, "cpu", "healthy"),
        ({"CPU_FALLBACK": "false"}, "none", "unhealthy"),
    ],
)
def test_a_webui_without_a_gpu(make_app: MakeApp, settings: dict[str, str], device: str, status: str) -> None:
    with Simulator(device="cpu") as webui:
        client = make_app(webui.url, **settings).test_client()
        wait_until(lambda: health(client)["webuis"]["available"] == 1, "it was seen")
        body = health(client)
        assert (body["status"], body["device"]) == (status, device)
        assert body["reasons"] == (["no_gpu"] if status == "unhealthy" else [])
        assert body["webuis"] == {"total": 1, "available": 1, "busy": 0, "gpu": 0, "cpu": 1}
        answer = client.post(f"{PREFIX}/txt2img", json=SMALL)
        if device == "cpu":
            assert answer.status_code == 200
        else:
            problem = problem_of(answer)
            assert (problem["status"], problem["code"], problem["retryable"]) == (503, "gpu_unavailable", True)
            assert int(answer.headers["Retry-After"]) > 0
            assert webui.generations == []


def test_a_server_that_does_not_tell_counts_as_a_gpu(make_app: MakeApp) -> None:
    with Simulator(flavour="sdcpp") as webui:
        client = make_app(webui.url, CPU_FALLBACK="false").test_client()
        assert wait_for(client, "healthy")["device"] == "gpu"


def test_no_webui(make_app: MakeApp) -> None:
    client = make_app(f"http://user:topsecret@127.0.0.1:{free_port()}").test_client()
    assert (health(client)["status"], health(client)["reasons"]) == ("unhealthy", ["no_webui"])
    problem = problem_of(client.post(f"{PREFIX}/txt2img", json=SMALL))
    assert (problem["status"], problem["code"]) == (503, "webui_unavailable")
    answer = client.get(f"{PREFIX}/health")
    assert answer.status_code == 503
    assert "127.0.0.1" not in answer.text
    assert "topsecret" not in answer.text


@pytest.mark.parametrize("flavour", ["a1111", "forge"])
def test_no_webui_has_a_model(make_app: MakeApp, capfd: pytest.CaptureFixture[str], flavour: str) -> None:
    with Simulator(flavour=flavour, models=()) as webui:
        client = make_app(webui.url, LOG_LEVEL="WARNING").test_client()
        wait_until(lambda: health(client)["webuis"]["available"] == 1, "it was seen")
        body = health(client)
        assert (body["status"], body["device"], body["reasons"]) == ("unhealthy", "none", ["no_checkpoint"])
        problem = problem_of(client.post(f"{PREFIX}/txt2img", json=SMALL))
        assert (problem["status"], problem["code"], problem["retryable"]) == (503, "webui_unavailable", True)
        assert webui.generations == []
        assert told_in_log(capfd, "health: no_checkpoint: no WebUI has a model") == 1


def told_in_log(capfd: pytest.CaptureFixture[str], text: str) -> int:
    """How often, once it is there at all."""
    log = ""

    def there() -> bool:
        nonlocal log
        log += capfd.readouterr().out
        return text in log

    wait_until(there, f"the log says {text}")
    return log.count(text)


@pytest.mark.parametrize(
    ("model", "reason", "words"),
    [
        ("foo", "default_model_unknown", "SD_MODEL names no model of any WebUI"),
        ("twin", "default_model_ambiguous", "SD_MODEL could mean several models"),
    ],
)
def test_a_default_model_that_names_none_or_several(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str], model: str, reason: str, words: str
) -> None:
    with Simulator(models=("one.safetensors", "a/twin.safetensors", "b/twin.safetensors")) as webui:
        client = make_app(webui.url, SD_MODEL=model, LOG_LEVEL="WARNING").test_client()
        wait_for(client, "degraded")
        assert (health(client)["reasons"], health(client)["device"]) == ([reason], "gpu")
        problem = problem_of(client.post(f"{PREFIX}/txt2img", json=SMALL))
        assert (problem["status"], problem["code"]) == (422, "model_not_found")
        assert f"none was given, and SD_MODEL, this service's default ('{model}')" in problem["detail"]
        assert "(got" not in problem["detail"], "the caller sent none"
        assert client.post(f"{PREFIX}/txt2img", json={**SMALL, "model": "one"}).status_code == 200
        assert told_in_log(capfd, f"health: {reason}: {words}") == 1


def test_one_of_two_webuis_has_no_model(make_app: MakeApp, simulator: Simulator) -> None:
    with Simulator(models=()) as empty:
        client = make_app(f"{empty.url},{simulator.url}").test_client()
        wait_until(lambda: health(client)["webuis"]["available"] == 2, "both were seen")
        assert (health(client)["status"], health(client)["reasons"]) == ("degraded", ["webui_without_checkpoint"])
        assert client.post(f"{PREFIX}/txt2img", json=SMALL).status_code == 200


def test_one_of_two_webuis_is_down(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(f"http://127.0.0.1:{free_port()},{simulator.url}").test_client()
    assert wait_for(client, "degraded")["reasons"] == ["webui_down"]


def test_a_webui_that_starts_later(make_app: MakeApp) -> None:
    with Simulator(startup_time=1.0) as webui:
        client = make_app(webui.url).test_client()
        assert health(client)["status"] == "unhealthy"
        wait_for(client, "healthy")
        assert client.post(f"{PREFIX}/txt2img", json=SMALL).status_code == 200


def test_a_storage_that_fails_and_heals(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.write_text("no folder")
    client = make_app(simulator.url, IMAGE_DIR=str(folder)).test_client()

    body = wait_for(client, "degraded")
    assert (body["storage"], body["device"], body["reasons"]) == ("failing", "gpu", ["storage_failing"])
    folder.unlink()
    assert wait_for(client, "healthy")["storage"] == "ok"


def test_a_runtime_folder_that_fails_and_heals(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    run = tmp_path / "run"
    client = make_app(simulator.url, RUNTIME_DIR=str(run)).test_client()
    wait_for(client, "healthy")
    run.rename(tmp_path / "elsewhere")
    run.write_text("no folder")
    assert wait_for(client, "degraded")["reasons"] == ["runtime_dir_failing"]
    assert client.get("/metrics").status_code == 200
    run.unlink()
    wait_for(client, "healthy")
    assert client.post(f"{PREFIX}/txt2img", json=SMALL).status_code == 200


def test_redis_that_is_not_there(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0").test_client()
    body = wait_for(client, "degraded")
    assert (body["redis"], body["reasons"]) == ("down", ["redis_down"])
    assert client.get(f"{PREFIX}/models").status_code == 200
    assert client.post(f"{PREFIX}/txt2img", json=SMALL).status_code == 200


def test_health_asks_nobody(client: FlaskClient, simulator: Simulator) -> None:
    wait_for(client, "healthy")
    simulator.set_fault("hang-before", route="*")
    for _ in range(50):
        assert health(client)["status"] == "healthy"
