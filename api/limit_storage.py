"""Where rate limits are counted: in Redis for all workers and hosts, and in this process while that fails."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

import redis
from limits.storage import RedisStorage

from api.process_counts import ProcessCounts
from observability.metrics import Metrics

log = logging.getLogger(__name__)

#: While Redis fails one request in so many seconds asks it again.
PAUSE_S = 1.0

#: What Redis says of a key that another program, or another release with another strategy, left under our name.
_FOREIGN = re.compile(r"^WRONGTYPE|attempt to compare")
#: Removes such a key, and none that another worker has begun to count under since. Ours are lists of times.
_REMOVE_FOREIGN = b"""
if redis.call('type', KEYS[1]).ok ~= 'list' or not tonumber(redis.call('lindex', KEYS[1], -1)) then
    return redis.call('del', KEYS[1])
end
return 0
"""


class SharedCounts(RedisStorage):
    """
    To be named as Flask-Limiter's ``storage_uri``. Raises nothing: where Redis could not count, its methods say what
    this process counted.

    Flask-Limiter's own fallback is not used: it takes a Redis that answers PING for one that counts, which one that is
    full or a read-only replica does not, and lets requests pass uncounted that are under way when Redis goes.

    :ivar shared: whether the last count was Redis's.
    """

    STORAGE_SCHEME = ["shared-redis"]  # noqa: RUF012 - declared like this where it comes from

    def __init__(
        self,
        uri: str,
        *,
        connection_pool: redis.ConnectionPool,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(uri, connection_pool=connection_pool)
        self.shared = True
        self._remove_foreign = self.get_connection().register_script(_REMOVE_FOREIGN)
        self._fallback = metrics.rate_limit_fallback
        self._count_error = metrics.redis_failed("limits")
        self._own = ProcessCounts()
        self._clock = clock
        self._ask_again = 0.0
        self._mutex = threading.Lock()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Only this decides whether Redis counts: it writes, which is what a full or read-only one refuses."""
        if self._may_ask():
            try:
                acquired = self._acquired(key, limit, expiry, amount)
            except redis.RedisError as error:
                self._tell(shared=False, why=type(error).__name__)
            else:
                self._tell(shared=True)
                return acquired
        return self._own.acquire_entry(key, limit, expiry, amount)

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        if self.shared:
            try:
                return super().get_moving_window(key, limit, expiry)
            except redis.RedisError as error:
                self._tell(shared=False, why=type(error).__name__)
        return self._own.get_moving_window(key, limit, expiry)

    def _acquired(self, key: str, limit: int, expiry: int, amount: int) -> bool:
        try:
            return super().acquire_entry(key, limit, expiry, amount)
        except redis.ResponseError as error:
            if not _FOREIGN.search(str(error)):
                raise
        if self._remove_foreign([self.prefixed_key(key)]):
            log.warning("a rate limit's key in redis held something else: it is counted anew")
        return super().acquire_entry(key, limit, expiry, amount)

    def _may_ask(self) -> bool:
        if self.shared:
            return True
        with self._mutex:
            now = self._clock()
            if now < self._ask_again:
                return False
            self._ask_again = now + PAUSE_S
            return True

    def _tell(self, *, shared: bool, why: str = "") -> None:
        with self._mutex:
            changed, self.shared = shared != self.shared, shared
            if not shared:
                self._ask_again = self._clock() + PAUSE_S
        if not shared:
            self._count_error()
        if changed:
            self._fallback.set(not shared)
        if changed and shared:
            log.warning("rate limits are counted in redis again")
        elif changed:
            log.warning("redis fails (%s): rate limits are counted in each process", why)
