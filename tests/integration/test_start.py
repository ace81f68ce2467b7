"""The commands that start the service, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import requests

from simulator import Simulator
from tests.api.answers import problem_of
from tests.running import DEADLINE_S, NO_LIMITS, ROOT, environment, free_port, running_service, started, wait_until

SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1}
GUNICORN = str(Path(sys.executable).with_name("gunicorn"))


def commands(port: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """The two documented ways: command and settings."""
    by_python = [sys.executable, "stable_diffusion_api.py"]
    by_gunicorn = [GUNICORN, "-w", "2", "-b", f"127.0.0.1:{port}", "stable_diffusion_api:app"]
    return {"python": (by_python, {"HOST": "127.0.0.1", "PORT": str(port)}), "gunicorn": (by_gunicorn, {})}


@pytest.mark.parametrize("name", ["python", "gunicorn"])
def test_start_paint_stop(simulator: Simulator, tmp_path: Path, name: str) -> None:
    port = free_port()
    command, settings = commands(port)[name]
    with started(command, tmp_path, port, SD_WEBUI_URL=simulator.url, **settings) as service:
        service.wait_until_answering()
        assert service.post("/txt2img", SMALL).status_code == 200
        assert service.stop() == 0
        with pytest.raises(requests.ConnectionError):
            service.get("/health")
        assert '"level": "ERROR"' not in service.printed
        assert "Traceback" not in service.printed


BAD = {
    "PORT": "99999",
    "MAX_STEPS": "0",
    "SD_TIMEOUT": "soon",
    "SD_WEBUI_URL": "ftp://user:topsecret@host",
    "REDIS_URL": "http://:topsecret@host",
    "USE_GPU": "perhaps",
    "RATE_LIMIT_GLOBAL": "many",
    "SD_MODEL_ALIASES": "house",
    "STORAGE_URL": "s3://user:topsecret@bucket",
    "SD_TIMEUOT": "1",
}


@pytest.mark.parametrize("name", ["python", "gunicorn"])
def test_a_bad_configuration_is_told_whole(tmp_path: Path, name: str) -> None:
    command, settings = commands(free_port())[name]
    run = subprocess.run(
        command, env=environment({**settings, **BAD}), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert run.returncode == 2
    printed = run.stderr + run.stdout
    assert [setting for setting in BAD if f"{setting}: " not in printed] == []
    assert "SD_TIMEUOT: unknown setting; did you mean SD_TIMEOUT?" in printed
    assert "topsecret" not in printed
    assert "Traceback" not in printed
    assert printed.count("invalid configuration") == 1


def test_a_bucket_with_a_wrong_parameter_is_reported_before_any_worker_starts(tmp_path: Path) -> None:
    command, settings = commands(free_port())["gunicorn"]
    settings |= {"STORAGE_URL": "s3://bucket/prefix?endpiont=https://s3.example", "RUNTIME_DIR": str(tmp_path / "run")}
    run = subprocess.run(
        command, env=environment(settings), cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert "STORAGE_URL: " in run.stderr
    assert "endpiont" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_worker_without_threads_is_refused(tmp_path: Path) -> None:
    command, settings = commands(free_port())["gunicorn"]
    run = subprocess.run(
        [*command, "-k", "sync", "--threads", "1"],
        env=environment({**settings, "RUNTIME_DIR": str(tmp_path / "run")}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert run.returncode == 2
    assert "has no threads" in run.stderr


def test_an_application_that_is_loaded_before_the_fork_is_refused(simulator: Simulator, tmp_path: Path) -> None:
    command, settings = commands(free_port())["gunicorn"]
    settings |= {"RUNTIME_DIR": str(tmp_path / "run"), "IMAGE_DIR": str(tmp_path), "SD_WEBUI_URL": simulator.url}
    run = subprocess.run(
        [*command, "--preload"],
        env=environment(settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert run.returncode == 2
    assert "leave out --preload" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("host", ["::", "[::1]"])
def test_an_address_of_ipv6(simulator: Simulator, tmp_path: Path, host: str) -> None:
    port = free_port()
    command = [sys.executable, "stable_diffusion_api.py", "-w", "1"]
    with started(command, tmp_path, port, SD_WEBUI_URL=simulator.url, HOST=host, PORT=str(port)) as service:
        wait_until(lambda: "Listening at" in service.printed, "it listens")
        assert requests.get(f"http://[::1]:{port}/api/v1/ai/generation/health/live", timeout=DEADLINE_S).ok
        if host == "::":
            assert service.get("/health/live").ok, "IPv4 comes there, too"


def test_without_any_webui(tmp_path: Path) -> None:
    with running_service(tmp_path, f"http://127.0.0.1:{free_port()}") as service:
        service.wait_until_answering(503)
        health = service.get("/health").json()
        assert (health["status"], health["device"]) == ("unhealthy", "none")
        assert health["webuis"] == {"total": 1, "available": 0, "busy": 0, "gpu": 0, "cpu": 0}
        for route in ("txt2img", "txt2img"):
            answer = requests.post(f"{service.url}/{route}", json=SMALL, timeout=5)
            problem = problem_of(answer)
            assert (problem["status"], problem["code"], problem["retryable"]) == (503, "webui_unavailable", True)
            assert int(answer.headers["Retry-After"]) > 0
        assert service.get("/health/live").status_code == 200
        assert service.get("/models").json() == {"default": "sd-v1-5", "models": []}
        assert service.post("/txt2img", {"steps": 0}).status_code == 422


def test_without_a_setting_its_library_is_not_imported() -> None:
    code = "import sys, api.worker, stable_diffusion_api; print({'redis', 'obstore'} & sys.modules.keys())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment({}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (run.stdout, run.stderr) == ("set()\n", "")


def test_importing_builds_nothing() -> None:
    code = (
        "import threading, stable_diffusion_api; print(threading.active_count(), 'app' in vars(stable_diffusion_api))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment({**NO_LIMITS, "PORT": "bad"}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (run.stdout, run.stderr) == ("1 False\n", "")
