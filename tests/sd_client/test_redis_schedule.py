from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from sd_client.redis_schedule import RedisSchedule
from sd_client.schedule import Job, Schedule
from tests.running import RedisServer, wait_until


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    connection = redis.Redis.from_url(redis_server.url)
    yield connection
    connection.close()


def calls(client: redis.Redis, command: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_what_has_not_changed_is_not_sent_again(client: redis.Redis) -> None:
    one, other = (RedisSchedule(client, prefix="shop:pool", holder=holder) for holder in ("one", "other"))
    one.update(lambda schedule: replace(schedule, job_seconds=1.0))
    assert other.look().job_seconds == 1.0
    whole, looks = calls(client, "get"), calls(client, "getrange")

    def looked_again() -> bool:
        assert other.look().job_seconds == 1.0
        return calls(client, "getrange") >= looks + 5

    wait_until(looked_again, "it has looked five times")
    assert calls(client, "get") == whole

    one.update(lambda schedule: replace(schedule, job_seconds=2.0))
    wait_until(lambda: other.look().job_seconds == 2.0, "the change is seen")


def test_a_schedule_that_is_gone_is_seen_to_be_gone(client: redis.Redis) -> None:
    schedule = RedisSchedule(client, prefix="shop:pool", holder="one")
    schedule.update(lambda before: replace(before, job_seconds=1.0))
    client.flushall()
    wait_until(lambda: schedule.look() == Schedule(), "it is empty")


def test_the_dead_are_forgotten_where_the_clock_of_redis_was_set_back(client: redis.Redis) -> None:
    """What was to expire in ten seconds is then kept for an hour and ten seconds, over a restart of everything."""
    dead = RedisSchedule(client, prefix="shop:pool", holder="dead")
    dead.renew()
    lost = Job(ticket="lost", holder="dead", webuis=("w",), model="m", since=0.0, webui="w")
    dead.update(lambda schedule: replace(schedule, running=(lost,)))
    client.pexpire("shop:pool:holder:dead", 3_610_000)
    begun = RedisSchedule(client, prefix="shop:pool", holder="begun")
    begun.renew()
    assert 0 < client.pttl("shop:pool:holder:dead") <= 10_000
    client.pexpire("shop:pool:holder:dead", 1)
    wait_until(lambda: begun.update(lambda schedule: schedule).running == (), "its job is forgotten")


def test_its_time_is_that_of_redis(client: redis.Redis) -> None:
    schedule = RedisSchedule(client, prefix="shop:pool", holder="one")
    schedule.renew()
    seconds, microseconds = client.time()
    assert abs(schedule.now() - seconds - microseconds / 1e6) < 30
