"""The Dockerfile carried out, and what comes out started as it would be: not as root, on a read-only root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.containers.carried_out import Image, Stage, why_not
from tests.running import NO_LIMITS, ROOT, Service, ended, free_port, wait_until

SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("image")
    folder.chmod(0o755)
    return Image(ROOT / "Dockerfile", ROOT, folder)


@contextmanager
def running(stage: Stage, folder: Path, port: int, *command: str, **settings: str) -> Iterator[Service]:
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            stage.argv(command or stage.command, read_only=True), env=stage.environ(**settings), stdout=log, stderr=log
        )
    with ended(Service(process, port, folder)) as service:
        yield service


def health_check(stage: Stage, port: int) -> int:
    check = stage.argv(stage.health, read_only=True)
    return subprocess.run(check, env=stage.environ(PORT=str(port)), capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def webui(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    folder = tmp_path_factory.mktemp("webui")
    command = ("python", "-m", "simulator", "--port", str(port))
    with running(image.build("simulator"), folder, port, *command) as simulator:
        wait_until(lambda: str(port) in simulator.printed, "the simulator listens")
        yield f"http://127.0.0.1:{port}"


def test_the_image_serves(image: Image, webui: str, tmp_path: Path) -> None:
    stage = image.build("service")
    assert stage.user == "10001:10001"
    port = free_port()
    assert health_check(stage, port) == 1
    with running(stage, tmp_path, port, PORT=str(port), HOST="127.0.0.1", SD_WEBUI_URL=webui, **NO_LIMITS) as service:
        service.wait_until_answering()
        assert health_check(stage, port) == 0
        painted = service.post("/txt2img", SMALL | {"response_format": "url"})
        assert painted.status_code == 200, painted.text
        assert "warnings" not in painted.json() or not painted.json()["warnings"]
        kept = service.get(f"/image/{painted.json()['image_id']}")
        assert kept.content.startswith(b"\x89PNG")
        assert service.get("/models").status_code == 200
        assert '"level": "ERROR"' not in service.printed
    assert health_check(stage, port) == 1


def test_what_is_in_it(image: Image) -> None:
    root = image.build("service").root
    assert not (root / "app" / "tests").exists()
    assert not (root / "app" / "simulator").exists()
    assert not list(root.glob("opt/venv/lib/python*/site-packages/pip"))
    not_ours = [path for path in (root / "app").rglob("*") if path.stat().st_uid != 0 and path != root / "app" / "data"]
    assert not_ours == []
