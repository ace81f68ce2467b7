"""A storage for the limits library: Redis, while the shared store has it up."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from limits.storage import RedisStorage

from api.rate_limit_storage import ProcessStorage
from state.failover import FailoverStore

log = logging.getLogger(__name__)

#: What Redis answers if a key holds something other than times.
_FOREIGN = re.compile(r"^WRONGTYPE|attempt to compare")

#: Removes a key that is not a list of times, or whose newest time is in the future because the clock was set back: in
#: one step, or it might remove what another worker has begun to count meanwhile. ARGV[1] is the latest time allowed.
_REMOVE_USELESS = b"""
local kind = redis.call('type', KEYS[1]).ok
local newest = kind == 'list' and tonumber(redis.call('lindex', KEYS[1], 0))
local oldest = kind == 'list' and tonumber(redis.call('lindex', KEYS[1], -1))
if newest and oldest and newest <= tonumber(ARGV[1]) then
    return 0
end
return redis.call('del', KEYS[1])
"""

#: How far the workers' estimates of Redis' clock may differ.
_TOLERANCE_S = 1.0

T = TypeVar("T")


class SharedStorage(RedisStorage):
    """
    Moving windows in Redis, by its clock; while Redis is down, in this process. To be named as ``shared://``.

    Flask-Limiter's own fallback takes a Redis that answers PING for one that counts, which a full one and a read-only
    replica do not.

    :param client: with short time-outs and no retries.
    :param store: decides whether Redis is used, and knows its clock.
    :param on_error: called whenever Redis fails.
    """

    STORAGE_SCHEME = ["shared"]  # noqa: RUF012 - declared like this where it comes from

    def __init__(
        self,
        uri: str = "shared://",
        *,
        client: redis.Redis,
        prefix: str,
        store: FailoverStore,
        on_error: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> None:
        super().__init__(uri, connection_pool=client.connection_pool, key_prefix=prefix, **options)
        self._count_error = on_error
        self._store = store
        self._process = ProcessStorage(clock=self.now)
        self._remove_useless = self.get_connection().register_script(_REMOVE_USELESS)

    def now(self) -> float:
        """Seconds since the epoch, by the clock that counts."""
        return self._store.now()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        def acquire(name: str) -> bool:
            return bool(self.lua_acquire_moving_window([name], [self.now(), limit, expiry, amount]))

        def acquire_if_any_way(name: str) -> bool:
            return acquire(name) or (self._repairs(name) and acquire(name))

        return self._ask(key, acquire_if_any_way, lambda: self._process.acquire_entry(key, limit, expiry, amount))

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        def look(name: str) -> tuple[float, int]:
            now = self.now()
            start, count = self.lua_moving_window([name], [now - expiry, limit]) or (now, 0)
            return float(start), count

        return self._ask(key, look, lambda: self._process.get_moving_window(key, limit, expiry))

    def _ask(self, key: str, in_redis: Callable[[str], T], in_process: Callable[[], T]) -> T:
        """:param in_redis: receives the key's name there; it may be called twice."""
        if self._store.up:
            name = self.prefixed_key(key)
            try:
                return self._asked_of_redis(name, in_redis)
            except redis.RedisError as error:
                self._store.failed(error)
                self._count_error()
        return in_process()

    def _asked_of_redis(self, name: str, question: Callable[[str], T]) -> T:
        try:
            return question(name)
        except redis.ResponseError as error:
            if not _FOREIGN.search(str(error)):
                raise
            if self._repairs(name):
                log.warning("a rate limit's key in redis held something else: its count starts again")
            return question(name)

    def _repairs(self, name: str) -> bool:
        """Whether the key was useless, and has been removed."""
        return bool(self._remove_useless([name], [self.now() + _TOLERANCE_S]))
