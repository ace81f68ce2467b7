"""Redis is away for longer than the hosts wait for it."""

from __future__ import annotations

from pathlib import Path

import redis

from simulator import Simulator
from tests.pool.callers import (
    callers,
    health,
    statuses,
    wait_for_holders,
    wait_for_no_lease,
    wait_for_redis,
    wait_for_webuis,
    when,
)
from tests.pool.webuis import STEP_TIME, all_jobs, assert_never_crowded, assert_no_job_twice, urls
from tests.running import RedisServer, running_service


def test_redis_is_away_for_long(redis_server: RedisServer, tmp_path: Path) -> None:
    """Each host queues for itself then, so a WebUI may get a job of each; nothing is lost, nothing done twice."""
    settings = {"REDIS_URL": redis_server.url, "SD_MODEL": "v1-5-pruned-emaonly"}
    with Simulator(step_time=STEP_TIME) as one, Simulator(step_time=STEP_TIME) as other:
        webuis = [one, other]
        with (
            running_service(tmp_path / "one", urls(webuis), **settings) as first,
            running_service(tmp_path / "two", urls(webuis), **settings) as second,
            callers() as load,
        ):
            hosts = [first, second]
            for host in hosts:
                host.wait_until_answering()
                wait_for_webuis(host, 2)
            jobs = [load.paint(host, seconds=1) for host in hosts * 6]
            when(lambda: len(all_jobs(webuis)) >= 3, "some have ended, some run, some wait")
            redis_server.stop()
            jobs += [load.paint(first, seconds=0.2)]
            assert statuses(job.result() for job in jobs) == {"200": 13}
            wait_for_redis([first], "down")
            assert health(first)["status"] == "degraded"

            redis_server.start()
            wait_for_redis(hosts, "up")
            with redis.Redis.from_url(redis_server.url) as client:
                wait_for_holders(client, 2 * len(hosts))
            assert_no_job_twice(webuis)
            for webui in webuis:
                webui.forget_requests()
            assert statuses(load.paint_many(hosts, 8)) == {"200": 8}
            wait_for_no_lease(*hosts)
        assert_never_crowded(webuis)
        assert_no_job_twice(webuis)
