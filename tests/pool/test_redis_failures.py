"""Two hosts and a Redis that dies or freezes while jobs wait and run."""

from __future__ import annotations

import time
from concurrent.futures import Future

import pytest

from simulator import Simulator
from tests.pool.callers import Callers, Outcome, statuses, wait_for_no_lease, when
from tests.pool.conftest import MakeWebUIs, StartService
from tests.pool.test_failures import assert_health_is_fast
from tests.pool.webuis import all_jobs, assert_never_crowded, assert_no_job_twice
from tests.running import RedisServer, Service


@pytest.fixture
def webuis(make_webuis: MakeWebUIs) -> list[Simulator]:
    return make_webuis(2)


@pytest.fixture
def hosts(webuis: list[Simulator], start_service: StartService, redis_server: RedisServer) -> list[Service]:
    return [start_service(webuis, host=host, REDIS_URL=redis_server.url) for host in ("one", "two")]


def busy(callers: Callers, hosts: list[Service], webuis: list[Simulator]) -> list[Future[Outcome]]:
    jobs = [callers.paint(hosts[number % 2], seconds=0.5) for number in range(12)]
    when(lambda: len(all_jobs(webuis)) >= 3, "some have ended, some run, some wait")
    return jobs


def assert_all_went_well(jobs: list[Future[Outcome]], hosts: list[Service], webuis: list[Simulator]) -> None:
    assert statuses(job.result() for job in jobs) == {"200": len(jobs)}
    assert_never_crowded(webuis)
    assert_no_job_twice(webuis)
    wait_for_no_lease(*hosts)


def test_redis_is_started_anew(
    callers: Callers, hosts: list[Service], webuis: list[Simulator], redis_server: RedisServer
) -> None:
    jobs = busy(callers, hosts, webuis)
    redis_server.stop()
    redis_server.start()
    assert_all_went_well(jobs, hosts, webuis)


def test_redis_is_emptied(
    callers: Callers, hosts: list[Service], webuis: list[Simulator], redis_server: RedisServer
) -> None:
    jobs = busy(callers, hosts, webuis)
    redis_server.empty()
    assert_all_went_well(jobs, hosts, webuis)


def test_redis_freezes_for_a_moment(
    callers: Callers, hosts: list[Service], webuis: list[Simulator], redis_server: RedisServer
) -> None:
    jobs = busy(callers, hosts, webuis)
    redis_server.freeze()
    try:
        assert_health_is_fast(hosts[0])
        time.sleep(1.5)
    finally:
        redis_server.thaw()
    assert_all_went_well(jobs, hosts, webuis)
