"""A Redis connection for what can go on without: once it failed, it fails at once for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis


class FailingFastRedis(redis.Redis):
    """
    A Redis that hangs costs the one request that notices its time-out, and not every call of every request.

    :raises redis.RedisError: every command, without being sent, for ``pause_s`` after one could not be.
    """

    #: Called whenever a command was sent and failed.
    on_error: Callable[[], None] = staticmethod(lambda: None)
    #: Seconds.
    pause_s = 1.0
    _closed_until = 0.0

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if time.monotonic() < self._closed_until:
            raise redis.ConnectionError("away a moment ago")
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except redis.exceptions.NoScriptError:  # it is sent again, with the script
            raise
        except redis.RedisError as error:
            self.on_error()
            if isinstance(error, redis.ConnectionError | redis.TimeoutError):
                self._closed_until = time.monotonic() + self.pause_s
            raise
