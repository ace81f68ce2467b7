import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from storage import ImageStorage, open_storage

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("storage_process.py")
DEADLINE_S = 60

StartProcess = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=["local"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStorage:
    addresses = {"local": str(tmp_path / "not" / "there" / "yet")}
    return open_storage(addresses[request.param])


@pytest.fixture
def start_process():
    """Start storage_process.py with arguments; whatever still runs at the test's end is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, prefix: Sequence[str] = ()) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*prefix, sys.executable, str(SCRIPT), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run_process(start_process: StartProcess):
    """Run storage_process.py to its end and return its exit status and its standard output."""

    def run(*arguments: object, prefix: Sequence[str] = ()) -> tuple[int, str]:
        process = start_process(*arguments, prefix=prefix)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert "Traceback" not in err, err
        return process.returncode, out

    return run


@pytest.fixture
def files_under():
    """All files below a folder, as sorted names relative to it."""

    def names(root: Path) -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())

    return names
