"""A Redis that failed is left alone for a while, and then asked again."""

from __future__ import annotations

import pytest
import redis

from services.failing_fast import FailingFastRedis
from tests.running import RedisServer, wait_until


def test_after_a_failure_nothing_is_sent_for_a_while(redis_server: RedisServer) -> None:
    client = FailingFastRedis.from_url(redis_server.url, socket_timeout=0.25)
    client.pause_s = 600
    assert client.set("key", 1)
    redis_server.stop()
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    redis_server.start()
    with pytest.raises(redis.ConnectionError, match="a moment ago"):
        client.get("key")
    client.close()


def test_it_is_asked_again(redis_server: RedisServer) -> None:
    client = FailingFastRedis.from_url(redis_server.url, socket_timeout=0.25)
    client.pause_s = 0.05
    redis_server.freeze()
    with pytest.raises(redis.TimeoutError):
        client.get("key")
    redis_server.thaw()

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False

    wait_until(answers, "it is asked again")
    client.close()
