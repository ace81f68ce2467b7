"""Two hosts, a Redis and three WebUIs, each on another machine: cables are pulled and plugged in again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
import requests

from tests.pool.callers import (
    Callers,
    callers,
    health,
    statuses,
    wait_for_holders,
    wait_for_no_lease,
    wait_for_redis,
    wait_for_webuis,
)
from tests.pool.webuis import STEP_TIME, SimulatorProcess, all_jobs, assert_never_crowded, assert_no_job_twice
from tests.running import DEADLINE_S, ROOT, Service, redis_binary, started, wait_until
from tests.scale.namespaces import Network, network, why_not

_PORT = 7000


class RemoteWebUI(SimulatorProcess):
    """A simulator on one of the machines."""

    def __init__(self, address: str, port: int, on_machine: list[str]) -> None:
        super().__init__()
        self.url = f"http://{address}:{port}"
        self._command = [*on_machine, sys.executable, "-m", "simulator", "--host", "0.0.0.0", "--port", str(port)]
        self._command += ["--step-time", str(STEP_TIME)]


class Site:
    """Everything, and the network it is on. Cables: "one", "two" (the hosts), "redis"."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.network: Network = stack.enter_context(network())
        self._stack = stack
        self._folder = folder
        self.webuis = self._webuis()
        self.redis_url = self._redis()
        self.hosts = [self._host(name) for name in ("one", "two")]

    def _webuis(self) -> list[RemoteWebUI]:
        address, on_machine = self.network.machine("gpus")
        webuis = [RemoteWebUI(address, _PORT + number, on_machine) for number in range(3)]
        for webui in webuis:
            webui.start()
            self._stack.callback(webui.kill)
        return webuis

    def _redis(self) -> str:
        address, on_machine = self.network.machine("redis")
        command = [*on_machine, redis_binary(), "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
        process = subprocess.Popen([*command, "--dir", str(self._folder)], stdout=subprocess.DEVNULL)
        self._stack.callback(process.wait, DEADLINE_S)
        self._stack.callback(process.kill)
        return f"redis://{address}:6379/0"

    def _host(self, name: str) -> Service:
        address, on_machine = self.network.machine(name)
        command = [*on_machine, sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"0.0.0.0:{_PORT}"]
        command += ["-c", str(ROOT / "gunicorn.conf.py"), "stable_diffusion_api:app"]
        settings = {
            "SD_WEBUI_URL": ",".join(webui.url for webui in self.webuis),
            "REDIS_URL": self.redis_url,
            "SD_MODEL": "v1-5-pruned-emaonly",
            "SD_TIMEOUT": "30",
        }
        service = self._stack.enter_context(started(command, self._folder / name, _PORT, **settings))
        service.root = f"http://{address}:{_PORT}"
        service.url = service.root + "/api/v1/ai/generation"
        service.wait_until_answering()
        wait_for_webuis(service, 3)
        return service


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield Site(stack, tmp_path_factory.mktemp("site"))


@pytest.fixture(name="callers")
def many_callers() -> Iterator[Callers]:
    with callers() as made:
        yield made


def assert_all_is_as_before(site: Site, callers: Callers) -> None:
    for host in site.hosts:
        wait_for_webuis(host, 3)
    wait_for_redis(site.hosts, "up")
    wait_for_no_lease(*site.hosts)
    with redis.Redis.from_url(site.redis_url) as client:
        wait_for_holders(client, 2 * len(site.hosts))
    for webui in site.webuis:
        requests.delete(f"{webui.url}/simulator/requests", timeout=5).raise_for_status()
    assert statuses(callers.paint_many(site.hosts, 18, seconds=0.3)) == {"200": 18}
    assert_never_crowded(site.webuis)
    assert_no_job_twice(site.webuis)


def test_a_host_is_cut_off_and_comes_back(site: Site, callers: Callers) -> None:
    jobs = [[callers.paint(host, seconds=1) for _ in range(6)] for host in site.hosts]
    wait_until(lambda: len(all_jobs(site.webuis)) >= 3, "all WebUIs paint")
    site.network.cut("one")
    try:
        # Longer than a holder lives: what the host had is given to the other one.
        assert statuses(job.result() for job in jobs[1]) == {"200": 6}
        wait_until(lambda: health(site.hosts[1])["webuis"]["busy"] == 0, "the places of the host that is gone are free")
        assert statuses(callers.paint_many(site.hosts[1:], 6, seconds=0.3)) == {"200": 6}
    finally:
        site.network.heal("one")
    counts = statuses(job.result() for job in jobs[0])
    assert sum(counts.values()) == 6, "every one is answered"
    assert set(counts) <= {"200", "webui_error", "webui_timeout", "webui_unavailable", "queue_timeout"}
    assert_no_job_twice(site.webuis)
    assert_all_is_as_before(site, callers)


def test_redis_is_cut_off_and_comes_back(site: Site, callers: Callers) -> None:
    jobs = [callers.paint(host, seconds=1) for host in site.hosts * 6]
    wait_until(lambda: len(all_jobs(site.webuis)) >= 3, "all WebUIs paint")
    site.network.cut("redis")
    try:
        assert statuses(job.result() for job in jobs) == {"200": 12}
        wait_for_redis(site.hosts, "down")
        assert statuses(callers.paint_many(site.hosts, 4, seconds=0.3)) == {"200": 4}
    finally:
        site.network.heal("redis")
    assert_no_job_twice(site.webuis)
    assert_all_is_as_before(site, callers)
