"""Two hosts on one Redis that Sentinels watch over: the master dies, hangs, and the Sentinels themselves go away."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from simulator import Simulator
from tests.hosts.certificates import make_certificates
from tests.hosts.sentinels import WatchedRedis, needs_tls
from tests.pool.callers import health, paint, wait_for_no_lease, wait_for_webuis
from tests.pool.webuis import STEP_TIME, assert_no_job_twice, urls
from tests.running import DEADLINE_S, Service, running_service, wait_until

_WORKERS = 2
_LIMIT = 10

_addresses = (f"192.0.2.{number}" for number in itertools.count(1))


@pytest.fixture
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WatchedRedis]:
    """With TLS and passwords for ``indirect`` "tls"."""
    if getattr(request, "param", None) == "tls":
        certificates = make_certificates(tmp_path / "certificates")
        running = WatchedRedis(tmp_path, password="p@ss", sentinel_password="other", tls=certificates)
    else:
        running = WatchedRedis(tmp_path)
    with running:
        yield running


@pytest.fixture
def webuis() -> Iterator[list[Simulator]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Simulator(step_time=STEP_TIME)) for _ in range(2)]


@pytest.fixture
def hosts(watched: WatchedRedis, webuis: list[Simulator], tmp_path: Path) -> Iterator[list[Service]]:
    settings = {
        "REDIS_URL": watched.url(),
        "SD_MODEL": "v1-5-pruned-emaonly",
        "TRUSTED_PROXIES": "1",  # so that every call can be another caller's
        "RATE_LIMIT_GENERATION": f"{_LIMIT}/minute",
    }
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            service = running_service(tmp_path / name, urls(webuis), workers=_WORKERS, **settings)
            made.append(stack.enter_context(service))
            made[-1].wait_until_answering()
            wait_for_webuis(made[-1], len(webuis))
        yield made


@contextmanager
def traffic(hosts: list[Service]) -> Iterator[Callable[[], int]]:
    """One caller after the other at each host, until the end; yields how many have been answered."""
    ended = threading.Event()
    outcomes: list[str] = []

    def call(host: Service) -> None:
        while not ended.is_set():
            answer = paint(host, seconds=0.05, headers={"X-Forwarded-For": next(_addresses)})
            outcomes.append(answer.code or str(answer.status))

    with ThreadPoolExecutor(len(hosts)) as threads:
        calls = [threads.submit(call, host) for host in hosts]
        try:
            yield lambda: len(outcomes)
        finally:
            ended.set()
            for one in calls:
                one.result(DEADLINE_S)
    assert set(outcomes) == {"200"}


def more(answered: Callable[[], int]) -> None:
    before = answered()
    wait_until(lambda: answered() >= before + 10, "callers are answered")


def burst_of_one_caller(hosts: list[Service]) -> list[int]:
    headers = {"X-Forwarded-For": next(_addresses)}
    with ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(paint, hosts[number % 2], seconds=0.02, headers=headers) for number in range(2 * _LIMIT)]
        return [job.result(DEADLINE_S).status for job in jobs]


def everything_is_shared(hosts: list[Service], master: Callable[[], redis.Redis]) -> None:
    """All workers have their holder's key in the master, and count callers there."""

    def holders() -> int:
        with master() as client:
            return len(client.keys("sd-api:pool:holder:*"))

    wait_until(lambda: holders() == len(hosts) * _WORKERS, "all workers are known to the master")
    wait_until(lambda: burst_of_one_caller(hosts).count(200) == _LIMIT, "callers are counted together")
    wait_until(lambda: all(health(host)["redis"] == "up" for host in hosts for _ in range(4)), "health sees Redis")


@pytest.mark.parametrize("watched", ["plain", pytest.param("tls", marks=needs_tls)], indirect=True)
def test_the_master_dies(watched: WatchedRedis, hosts: list[Service], webuis: list[Simulator]) -> None:
    dead, promoted = watched.servers
    everything_is_shared(hosts, dead.client)
    with traffic(hosts) as answered:
        more(answered)
        dead.kill()
        more(answered)
        wait_until(lambda: watched.master() == promoted.port, "the replica is master")
        everything_is_shared(hosts, promoted.client)
        more(answered)
    wait_for_no_lease(*hosts)
    assert_no_job_twice(webuis)


def test_the_master_hangs_and_wakes_up(watched: WatchedRedis, hosts: list[Service], webuis: list[Simulator]) -> None:
    hung, promoted = watched.servers
    with traffic(hosts) as answered:
        more(answered)
        hung.freeze()
        more(answered)
        wait_until(lambda: watched.master() == promoted.port, "the replica is master")
        hung.thaw()
        everything_is_shared(hosts, promoted.client)
        more(answered)
    wait_for_no_lease(*hosts)
    assert_no_job_twice(webuis)


def test_all_sentinels_go_away(watched: WatchedRedis, hosts: list[Service]) -> None:
    """Whoever has a connection to the master keeps it; nobody is refused."""
    with traffic(hosts) as answered:
        for sentinel in watched.sentinels:
            sentinel.kill()
        more(answered)
        for sentinel in watched.sentinels:
            sentinel.start()
        everything_is_shared(hosts, watched.servers[0].client)
