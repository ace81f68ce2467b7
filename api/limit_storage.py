"""Where rate limits are counted: in Redis for all workers and hosts, and in this process while that fails."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence

import redis
from limits.storage import RedisStorage

from api.moving_windows import Count, Window
from api.process_counts import ProcessCounts
from observability.metrics import Metrics

log = logging.getLogger(__name__)

#: While Redis fails one request in so many seconds asks it again.
PAUSE_S = 1.0

#: Under each key are the times of its requests, the newest first, as limits' own script for one window keeps them. They
#: are of Redis' clock, which all hosts share. Where that was set back, the newest are of the future: they are none.
#: Everything is looked at before anything is written: what is found to be foreign has not been counted in part.
_ACQUIRE_IN_ORDER = b"""
local clock = redis.call('time')
local text = string.format('%d.%06d', clock[1], clock[2])
local now = tonumber(text)

-- How many of the newest are of the future; and of the others, how many still count, and the oldest of these.
local function counting(key, since)
    local first, size = 0, redis.call('llen', key)
    while first < size and tonumber(redis.call('lindex', key, first)) > now do
        first = first + 1
    end
    local low, high = first, size
    local oldest = high > low and redis.call('lindex', key, high - 1)
    if not oldest or tonumber(oldest) >= since then
        return first, high - first, oldest or text
    end
    oldest = text
    while low < high do
        local middle = math.floor((low + high) / 2)
        local time = redis.call('lindex', key, middle)
        if tonumber(time) >= since then
            low, oldest = middle + 1, time
        else
            high = middle
        end
    end
    return first, low - first, oldest
end

local counts, future = {}, {}
for at, key in ipairs(KEYS) do
    local limit, expiry, amount = tonumber(ARGV[3 * at - 2]), tonumber(ARGV[3 * at - 1]), tonumber(ARGV[3 * at])
    local first, taken, oldest = counting(key, now - expiry)
    future[at] = first
    counts[at] = {taken + amount <= limit and amount or 0, oldest, taken, text}
    if counts[at][1] == 0 then
        break
    end
end
for at, count in ipairs(counts) do
    if count[1] > 0 then
        if future[at] > 0 then
            redis.call('ltrim', KEYS[at], future[at], -1)
        end
        for _ = 1, count[1] do
            redis.call('lpush', KEYS[at], text)
        end
        redis.call('ltrim', KEYS[at], 0, ARGV[3 * at - 2] - 1)
        redis.call('expire', KEYS[at], ARGV[3 * at - 1])
    end
    count[3] = count[3] + count[1]
end
return counts
"""

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
        key_prefix: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(uri, connection_pool=connection_pool, key_prefix=key_prefix)
        self.shared = True
        self._acquire_in_order = self.get_connection().register_script(_ACQUIRE_IN_ORDER)
        self._remove_foreign = self.get_connection().register_script(_REMOVE_FOREIGN)
        self._fallback = metrics.rate_limit_fallback
        self._count_error = metrics.redis_failed("limits")
        self._own = ProcessCounts()
        self._clock = clock
        self._ask_again = 0.0
        self._mutex = threading.Lock()

    def acquire_in_order(self, windows: Sequence[Window]) -> list[Count]:
        """
        Up to the first that is full. Only this decides whether Redis counts: it writes, which is what a full or
        read-only one refuses.
        """
        if self._may_ask():
            try:
                counts = self._acquired(windows)
            except redis.RedisError as error:
                self._tell(shared=False, why=type(error).__name__)
            else:
                self._tell(shared=True)
                return counts
        return self._own.acquire_in_order(windows)

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        (count,) = self.acquire_in_order([Window(key, limit, expiry, amount)])
        return count.acquired

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        if self.shared:
            try:
                return super().get_moving_window(key, limit, expiry)
            except redis.RedisError as error:
                self._tell(shared=False, why=type(error).__name__)
        return self._own.get_moving_window(key, limit, expiry)

    def _acquired(self, windows: Sequence[Window]) -> list[Count]:
        keys = [self.prefixed_key(window.key) for window in windows]
        bounds = [bound for window in windows for bound in (window.limit, window.expiry_s, window.amount)]
        try:
            found = self._acquire_in_order(keys, bounds)
        except redis.ResponseError as error:
            if not _FOREIGN.search(str(error)):
                raise
            if sum(self._remove_foreign([key]) for key in keys):
                log.warning("a rate limit's key in redis held something else: it is counted anew")
            found = self._acquire_in_order(keys, bounds)
        return [Count(acquired > 0, float(start), taken, float(now)) for acquired, start, taken, now in found]

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
        if shared and self.shared:
            return
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
