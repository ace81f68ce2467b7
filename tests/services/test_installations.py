"""Two services that meet in one Redis without meaning to are told so; those that share WebUIs are not."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import redis

from services.installations import Installations
from state.connection import open_redis
from tests.running import RedisServer


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    made = open_redis(redis_server.url)
    yield made
    made.close()


def warnings(caplog: pytest.LogCaptureFixture) -> int:
    return sum("another installation" in record.getMessage() for record in caplog.records)


def test_another_pool_under_the_same_prefix(client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    shop = Installations(client, prefix="sd-api", webuis=["http://a:7860", "http://b:7860"])
    blog = Installations(client, prefix="sd-api", webuis=["http://c:7860"])
    shop.look()
    assert warnings(caplog) == 0
    blog.look()
    assert warnings(caplog) == 1
    shop.look()
    assert warnings(caplog) == 2
    assert "REDIS_PREFIX (sd-api)" in caplog.text
    assert b"7860" not in b" ".join(client.hgetall("sd-api:installations").values())
    for _ in range(3):
        shop.look()
        blog.look()
    assert warnings(caplog) == 2, "once each"


@pytest.mark.parametrize(
    ("prefix", "webuis"),
    [
        ("other", ["http://c:7860"]),
        ("sd-api", ["http://b:7860", "http://me:pw@A:7860"]),
        ("sd-api", ["http://b:7860", "http://c:7860"]),
        ("sd-api", ["http://a:7860", "http://b:7860", "http://c:7860"]),
    ],
)
def test_no_warning_where_all_is_well(
    client: redis.Redis, caplog: pytest.LogCaptureFixture, prefix: str, webuis: list[str]
) -> None:
    """Another prefix; the same pool; one that has a WebUI in common, or more of them since a reload."""
    caplog.set_level(logging.WARNING)
    both = [
        Installations(client, prefix="sd-api", webuis=["http://a:7860", "http://b:7860"]),
        Installations(client, prefix=prefix, webuis=webuis),
    ]
    for one in both * 2:
        one.look()
    assert warnings(caplog) == 0


@pytest.mark.parametrize("age_s", [3600, -3600])
def test_one_that_is_gone_is_forgotten(client: redis.Redis, caplog: pytest.LogCaptureFixture, age_s: int) -> None:
    caplog.set_level(logging.WARNING)
    seconds, _ = client.time()
    client.hset("sd-api:installations", mapping={"gone": f"{seconds - age_s} 0123456789ab", "odd": b"\xff"})
    Installations(client, prefix="sd-api", webuis=["http://a:7860"]).look()
    assert warnings(caplog) == 0
    assert client.hlen("sd-api:installations") == 1
    assert 0 < client.ttl("sd-api:installations") <= 60


def test_what_another_program_left_there_is_replaced(client: redis.Redis, redis_server: RedisServer) -> None:
    client.set("sd-api:installations", "foreign")
    shop = Installations(client, prefix="sd-api", webuis=["http://a:7860"])
    shop.look()
    shop.look()
    assert client.hlen("sd-api:installations") == 1
    redis_server.stop()
    shop.look()
