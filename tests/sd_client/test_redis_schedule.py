from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from sd_client.redis_schedule import RedisSchedule
from sd_client.schedule import Schedule
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
