"""Following and cancelling a job, from whichever worker or host is asked."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
import requests

from simulator import Simulator
from state.holders import HOLDER_S
from tests.pool.callers import Callers, statuses, wait_for_no_lease, wait_for_queue, when
from tests.pool.conftest import MakeWebUIs, StartService
from tests.pool.test_failures import worker_pids
from tests.pool.webuis import jobs_of
from tests.running import RedisServer, Service


@pytest.fixture
def webui(make_webuis: MakeWebUIs) -> Simulator:
    return make_webuis(1)[0]


@pytest.fixture
def hosts(webui: Simulator, start_service: StartService, redis_server: RedisServer) -> list[Service]:
    settings = {"REDIS_URL": redis_server.url, "API_KEYS": "ann,bob", "SD_QUEUE_LIMIT": "3"}
    return [start_service([webui], host=host, **settings) for host in ("one", "two")]


def asked(service: Service, name: str, *, key: str = "ann") -> dict[str, Any]:
    answer = service.get(f"/requests/{name}", headers={"X-API-Key": key})
    return {"status": answer.status_code} if answer.status_code != 200 else dict(answer.json())


def cancel(service: Service, name: str, *, key: str = "ann") -> int:
    return requests.delete(f"{service.url}/requests/{name}", headers={"X-API-Key": key}, timeout=10).status_code


def named(name: str) -> dict[str, str]:
    return {"X-API-Key": "ann", "X-Request-ID": name}


def test_a_job_is_followed_and_cancelled_from_any_host(
    callers: Callers, hosts: list[Service], webui: Simulator
) -> None:
    one, two = hosts
    measured = callers.paint(one, seconds=0.5, headers=named("measured"))
    assert measured.result().status == 200
    done = asked(two, "measured")
    assert (done["status"], done["progress"], len(done["image_ids"])) == ("done", 1.0, 1)

    running = callers.paint(one, seconds=2.3, headers=named("running"))
    when(lambda: asked(two, "running")["status"] == "running", "the job runs")
    queued = callers.paint(one, headers=named("queued"))
    wait_for_queue(two, 1)
    last = callers.paint(two, headers=named("last"))
    wait_for_queue(one, 2)
    first, second = asked(two, "queued"), asked(one, "last")
    assert (first["status"], first["queue_position"], first["progress"]) == ("queued", 1, 0.0)
    assert (second["status"], second["queue_position"]) == ("queued", 2)
    assert second["eta_seconds"] > first["eta_seconds"] > 0
    when(lambda: (asked(two, "running").get("progress") or 0) > 0.0, "progress is seen")

    assert asked(two, "queued", key="bob") == {"status": 404}
    assert cancel(two, "queued", key="bob") == 404
    assert cancel(two, "queued") == 204
    assert queued.result().code == "cancelled"
    assert queued.result().status == 409
    assert asked(one, "queued")["status"] == "cancelled"
    assert cancel(two, "running") == 204
    assert running.result().code == "cancelled"
    assert last.result().status == 200
    when(lambda: any(one.route == "interrupt" for one in webui.requests), "it was interrupted")
    assert len(jobs_of(webui)) == 3
    assert cancel(one, "last") == 404, "it has ended"
    wait_for_no_lease(*hosts)


def test_the_queue_is_as_long_as_it_may_be_over_all_hosts(
    callers: Callers, hosts: list[Service], webui: Simulator
) -> None:
    webui.set_fault("hang-before")
    headers = {"X-API-Key": "ann"}
    jobs = [callers.paint(hosts[0], headers=headers)]
    when(lambda: jobs_of(webui), "it runs")
    jobs += [callers.paint(hosts[number % 2], headers=headers) for number in range(9)]
    when(lambda: sum(job.done() for job in jobs) == 6, "all but those who may wait were told at once")
    refused = [job.result() for job in jobs if job.done()]
    assert statuses(refused) == {"queue_full": 6}
    assert all(one.retry_after_s is not None and 1 <= one.retry_after_s <= 60 for one in refused)
    webui.clear_faults()
    assert sum(job.result().status == 200 for job in jobs) == 4


@pytest.mark.parametrize("with_redis", [False, True], ids=["alone", "redis"])
def test_the_request_of_a_killed_worker_has_failed(
    callers: Callers, webui: Simulator, start_service: StartService, redis_server: RedisServer, with_redis: bool
) -> None:
    settings = {"REDIS_URL": redis_server.url} if with_redis else {}
    service = start_service([webui], workers=2, API_KEYS="ann", **settings)
    webui.set_fault("hang-before")
    job = callers.paint(service, headers=named("lost"))
    when(lambda: jobs_of(webui), "it runs")
    assert asked(service, "lost")["status"] == "running"

    for worker in worker_pids(service):  # whichever has it
        if not job.done():
            os.kill(worker, signal.SIGKILL)
            time.sleep(0.5)
    with pytest.raises(requests.ConnectionError):
        job.result()
    died = time.monotonic()
    when(lambda: answers(service), "a worker is there")
    assert asked(service, "lost")["status"] == "failed"
    assert cancel(service, "lost") == 404
    assert time.monotonic() - died < HOLDER_S - 1, "not only when Redis has forgotten the worker"


def answers(service: Service) -> bool:
    try:
        return service.get("/health/live").ok
    except requests.ConnectionError:
        return False
