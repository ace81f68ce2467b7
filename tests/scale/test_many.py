"""Many WebUIs under more jobs than they can do."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.test_reference import REFERENCE
from tests.pool.callers import callers, health, paint, statuses, wait_for_no_lease, wait_for_webuis, when
from tests.pool.test_failures import assert_health_is_fast, worker_pids
from tests.running import RedisServer, running_service
from tests.scale.many import Callers, WebUIs, pool


@pytest.mark.parametrize(("count", "redis"), [(16, True), (50, False), (50, True)])
def test_many_webuis(count: int, redis: bool) -> None:
    with pool(count, redis=redis, SD_QUEUE_LIMIT="100") as (service, webuis):
        load = Callers(service.url, count + 20)
        time.sleep(10)
        assert_health_is_fast(service)
        load.end()
        assert set(load.answers) == {200}
        wait_for_no_lease(service)
        seen = webuis.generations()
    seeds = [json.loads(body)["seed"] for one in seen for _, _, body in one]
    assert len(seeds) == len(load.answers)
    assert all(seen), "every WebUI got jobs"
    for one in seen:
        spans = sorted((start, end) for start, end, _ in one)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans)), "two at once"


def test_half_of_the_webuis_can_do_a_third_of_the_jobs() -> None:
    """
    None stands idle. On a quiet machine they are busy for more than 0.95 of the time, and what the schedule loses is
    in tests/sd_client/test_schedule.py; here neighbours may delay every step between two jobs.
    """
    kinds = ({"controlnet": "strict"}, {"controlnet": "none"})
    with pool(16, redis=False, kinds=kinds, SD_QUEUE_LIMIT="100") as (service, webuis):
        load = Callers(service.url, 36, steps=32, extras=REFERENCE)
        time.sleep(6)
        begin = time.monotonic()
        time.sleep(12)
        busy = webuis.busy_share(begin, time.monotonic())
        load.end()
        assert set(load.answers) == {200}
        seen = webuis.generations()
    with_reference = [sum("alwayson_scripts" in json.loads(body) for _, _, body in one) for one in seen]
    assert all(with_reference[::2]), "all that can do them got some"
    assert not any(with_reference[1::2])
    assert busy > 0.75


def test_a_worker_is_killed_while_redis_keeps_its_places(redis_server: RedisServer, tmp_path: Path) -> None:
    """Its places are free when its key has expired, although the other host knows nothing of it."""
    webuis = WebUIs(2)
    settings = {"REDIS_URL": redis_server.url, "SD_MODEL": "v1-5-pruned-emaonly"}
    urls = ",".join(webuis.urls)
    with (
        running_service(tmp_path / "one", urls, workers=1, **settings) as killed,
        running_service(tmp_path / "two", urls, workers=1, **settings) as other,
        callers() as load,
    ):
        for service in (killed, other):
            service.wait_until_answering()
            wait_for_webuis(service, 2)
        lost = [load.paint(killed, seconds=100 / 64) for _ in range(2)]
        when(lambda: health(other)["webuis"]["busy"] == 2, "both run")
        os.kill(worker_pids(killed)[0], signal.SIGKILL)
        assert paint(other, seconds=0.02).status == 200
        assert all(one.exception() is not None for one in lost)
        wait_for_no_lease(killed, other)
        assert statuses(load.paint_many([killed, other], 4, seconds=0.02)) == {"200": 4}
    webuis.close()
