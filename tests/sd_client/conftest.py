import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sd_client.servers import PaintingServer, WebServer

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("probing_process.py")


@pytest.fixture
def web_server() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def painting_server() -> Iterator[PaintingServer]:
    server = PaintingServer()
    yield server
    server.close()


@pytest.fixture
def start_worker() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts probing_process.py and returns once it has said its first line; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline(), "the process ended before it was ready"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
