"""Six machines on one network: a balancer, two APIs, Redis, the image store, and the WebUIs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.nginx_server import write_configuration
from tests.pool.callers import wait_for_webuis
from tests.pool.webuis import STEP_TIME
from tests.running import DEADLINE_S, NO_LIMITS, PREFIX, ROOT, Service, environment, redis_binary, wait_until
from tests.scale.namespaces import Network

WEBUIS = 3
_PORT = 7000
_ANY = "0.0.0.0"  # noqa: S104 - each in its network namespace
NAMES = ("balancer", "one", "two", "redis", "store", "webuis")


@dataclass
class Machine:
    """Programs that are started and killed together, each with its port."""

    name: str
    address: str
    on_machine: list[str]
    log: Path
    commands: dict[int, list[str]] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        with self.log.open("ab") as log:
            for command in self.commands.values():
                process = subprocess.Popen(  # noqa: S603 - our own commands
                    [*self.on_machine, *command],
                    env=environment(self.settings),
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                self._processes.append(process)
        wait_until(lambda: all(map(self._listens, self.commands)), f"{self.name} listens")

    def kill(self) -> None:
        """Kill all at once, like a power cut, except that the network still refuses connections."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE_S)
        self._processes.clear()

    def url(self, port: int = _PORT) -> str:
        return f"http://{self.address}:{port}"

    def service(self) -> Service:
        """The service as callers reach it."""
        service = Service(self._processes[0], _PORT, self.log.parent)
        service.root = self.url()
        service.url = service.root + PREFIX
        return service

    def _listens(self, port: int) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.address, port)) == 0


class Site:
    """Starts all machines; each API then sees all WebUIs."""

    def __init__(self, stack: ExitStack, network: Network, folder: Path) -> None:
        self.network = network
        self.machines: dict[str, Machine] = {}
        for name in NAMES:
            (folder / name).mkdir()
            address, on_machine = network.machine(name)
            self.machines[name] = Machine(name, address, on_machine, folder / name / "printed")
            stack.callback(self.machines[name].kill)
        plans: dict[str, Callable[[Machine, Path], None]] = {
            "webuis": _webuis,
            "redis": _redis,
            "store": _store,
            "one": self._api,
            "two": self._api,
            "balancer": self._balancer,
        }
        for name, plan in plans.items():
            plan(self.machines[name], folder / name)
            self.machines[name].start()
        for name in ("one", "two"):
            self.apis[name].wait_until_answering()
            wait_for_webuis(self.apis[name], WEBUIS)

    @property
    def apis(self) -> dict[str, Service]:
        return {name: self.machines[name].service() for name in ("one", "two")}

    @property
    def balancer(self) -> str:
        """The base URL for callers."""
        return self.machines["balancer"].url() + PREFIX

    @property
    def webuis(self) -> list[str]:
        machine = self.machines["webuis"]
        return [machine.url(port) for port in machine.commands]

    def _api(self, machine: Machine, folder: Path) -> None:
        gunicorn = [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"0.0.0.0:{_PORT}"]
        machine.commands[_PORT] = [*gunicorn, "-c", str(ROOT / "gunicorn.conf.py"), "stable_diffusion_api:app"]
        store = self.machines["store"].url()
        machine.settings = {
            **NO_LIMITS,
            "SD_WEBUI_URL": ",".join(self.webuis),
            "SD_MODEL": "v1-5-pruned-emaonly",
            "REDIS_URL": f"redis://{self.machines['redis'].address}:{_PORT}/0",
            "STORAGE_URL": f"s3://pictures/all?endpoint={store}&allow_http=true",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "RUNTIME_DIR": str(folder / "run"),
            "TRUSTED_PROXIES": "1",
            # Short, so that requests that wait for a vanished machine end within the run.
            "SD_TIMEOUT": "20",
            "SD_QUEUE_TIMEOUT": "20",
        }

    def _balancer(self, machine: Machine, folder: Path) -> None:
        """The project's own nginx configuration, with only its addresses changed."""
        write_configuration(folder, 5002, port=_PORT, images=folder)
        (folder / "listen.conf").write_text(f"listen {_PORT};\n")
        servers = " ".join(f"server {self.machines[name].address}:{_PORT} max_fails=0;" for name in ("one", "two"))
        upstream = (folder / "upstream.conf").read_text().replace("server 127.0.0.1:5002 max_fails=0;", servers)
        (folder / "upstream.conf").write_text(upstream)
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert nginx
        files = ["-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")]
        machine.commands[_PORT] = [nginx, *files, "-g", f"pid {folder}/nginx.pid; daemon off; user root;"]


def _webuis(machine: Machine, folder: Path) -> None:
    for port in range(_PORT, _PORT + WEBUIS):
        simulator = [sys.executable, "-m", "simulator", "--host", _ANY, "--port", str(port)]
        machine.commands[port] = [*simulator, "--step-time", str(STEP_TIME)]


def _redis(machine: Machine, folder: Path) -> None:
    redis = [redis_binary(), "--bind", _ANY, "--port", str(_PORT), "--protected-mode", "no"]
    machine.commands[_PORT] = [*redis, "--save", "", "--dir", str(folder)]


def _store(machine: Machine, folder: Path) -> None:
    (folder / "pictures").mkdir()
    machine.commands[_PORT] = [
        *(sys.executable, "-m", "localbucket"),
        *("--host", _ANY, "--port", str(_PORT), str(folder)),
    ]
