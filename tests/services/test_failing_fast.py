"""A Redis that failed is left alone for a while, and then asked again."""

from __future__ import annotations

import pytest
import redis

from services.failing_fast import FailingFastRedis
from tests.running import RedisServer, wait_until


def test_after_a_failure_nothing_is_sent_for_a_while(redis_server: RedisServer) -> None:
    client = FailingFastRedis.from_url(redis_server.url, socket_timeout=0.25)
    client.pause_s = 600
    failed: list[bool] = []
    client.on_error = lambda: failed.append(True)
    assert client.set("key", 1)
    assert failed == []
    redis_server.stop()
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    redis_server.start()
    with pytest.raises(redis.ConnectionError, match="a moment ago"):
        client.get("key")
    assert failed == [True], "what was not sent did not fail"
    client.close()


def test_a_refused_command_is_an_error_that_is_told(redis_server: RedisServer) -> None:
    client = FailingFastRedis.from_url(redis_server.url, socket_timeout=0.25)
    failed: list[bool] = []
    client.on_error = lambda: failed.append(True)
    client.set("key", 1)
    with pytest.raises(redis.ResponseError):
        client.lpush("key", 1)
    assert client.register_script("return 1")() == 1
    assert failed == [True], "a script that Redis does not know yet is no error"
    assert client.get("key") == b"1", "and Redis is asked on"
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
