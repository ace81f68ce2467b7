"""SIGTERM: what runs ends, what waits is told to go elsewhere, and nothing is left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import redis
import requests

from simulator import Simulator
from state.redis import RedisStore
from state.sqlite import STATE_FILE, SqliteStore
from tests.pool.callers import Callers, health, statuses, wait_for_queue, when
from tests.pool.conftest import MakeWebUIs, StartService
from tests.pool.webuis import jobs_of
from tests.pools import stored_schedule
from tests.running import DEADLINE_S, RedisServer, Service, wait_until


@pytest.fixture
def webui(make_webuis: MakeWebUIs) -> Simulator:
    return make_webuis(1)[0]


def shut_down(callers: Callers, service: Service, webui: Simulator) -> None:
    """SIGTERM while a job runs, three wait and a connection is kept alive."""
    with requests.Session() as kept_alive:
        # Whichever worker has this connection: it may be the one that has not read yet what the other has seen.
        when(lambda: kept_alive.get(f"{service.url}/health", timeout=5).json()["status"] == "healthy", "it serves")
        webui.set_fault("hang-before", times=1)
        running = callers.paint(service)
        when(lambda: jobs_of(webui), "it runs")
        waiting = [callers.paint(service) for _ in range(3)]
        wait_for_queue(service, 3)
        service.process.send_signal(signal.SIGTERM)
        outcomes = [job.result() for job in waiting]
        draining = kept_alive.get(f"{service.url}/health", timeout=5)
    webui.clear_faults()
    assert (draining.status_code, draining.json()["status"]) == (503, "draining")
    assert statuses(outcomes) == {"draining": 3}
    assert all(one.status == 503 and (one.retry_after_s or 0) >= 1 for one in outcomes)
    assert running.result().status == 200
    assert service.process.wait(DEADLINE_S) == 0
    assert len(jobs_of(webui)) == 1


def test_shutting_down(callers: Callers, webui: Simulator, start_service: StartService, tmp_path: Path) -> None:
    shut_down(callers, start_service([webui], workers=2), webui)
    left = stored_schedule(SqliteStore(tmp_path / "host" / STATE_FILE))
    assert (left.waiting, left.running) == ((), ())
    assert left.epoch  # it is one
    assert list((tmp_path / "host" / "holders").iterdir()) == []


def test_one_of_two_hosts_shuts_down(
    callers: Callers, webui: Simulator, start_service: StartService, redis_server: RedisServer
) -> None:
    one, other = (start_service([webui], host=host, REDIS_URL=redis_server.url) for host in ("one", "two"))
    shut_down(callers, one, webui)
    assert statuses(callers.paint_many([other], 3, seconds=0.1)) == {"200": 3}
    assert health(other)["status"] == "healthy"
    client = redis.Redis.from_url(redis_server.url)
    holders = list(client.scan_iter("sd-api:pool:holder:*"))
    left = stored_schedule(RedisStore(client, prefix="sd-api"))
    client.close()
    assert len(holders) == 1, "the other host's worker"
    assert (left.waiting, left.running) == ((), ())
    assert left.epoch  # it is one


def test_a_job_that_no_worker_can_end_keeps_nobody(
    callers: Callers, webui: Simulator, start_service: StartService
) -> None:
    """A worker waits for its jobs, not for a WebUI that does not answer an interrupt."""
    service = start_service([webui], SD_TIMEOUT="1")
    webui.set_fault("hang-before")
    job = callers.paint(service)
    when(lambda: jobs_of(webui), "it runs")
    service.process.send_signal(signal.SIGTERM)
    assert job.result().code == "webui_timeout"
    wait_until(lambda: service.process.poll() is not None, "the service has ended")
    webui.clear_faults()
