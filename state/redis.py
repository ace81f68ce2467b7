"""The store of all hosts: Redis."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import redis
from redis.client import Pipeline

from state.store import Change, StoreError, StoreFullError

#: Two processes that collided try again after up to this long, so that they do not collide again.
_APART_S = 0.003
#: Keys per round trip when many are read or written.
_BATCH = 500
#: How long the small value that shows whether Redis takes writes is kept.
_HEALTH_S = 60


class RedisStore:
    """
    A value of another type under one of its keys counts as missing, and is written over.

    :param client: should time out soon and not retry; see :func:`state.connection.open_redis`.
    :param prefix: ``REDIS_PREFIX``, which every key begins with.
    """

    def __init__(self, client: redis.Redis, *, prefix: str = "sd-api") -> None:
        self._client = client
        self._prefix = f"{prefix}:"
        # The clock of Redis minus this process' monotonic one, which nobody sets.
        self._ahead_s = time.time() - time.monotonic()

    def get(self, key: str) -> bytes | None:
        with _translating():
            return _value(self._client, self._prefix + key)

    def head(self, key: str, size: int) -> bytes:
        with _translating():
            try:
                found = self._client.getrange(self._prefix + key, 0, size - 1)
            except redis.ResponseError as error:
                if not _is_foreign(error):
                    raise
                return b""
            return found if isinstance(found, bytes) else b""

    def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        with _translating():
            self._client.set(self._prefix + key, value, px=_milliseconds(ttl_s))

    def update(self, key: str, change: Change, *, ttl_s: float) -> bytes:
        name = self._prefix + key
        with _translating(), self._client.pipeline() as pipeline:
            while True:
                pipeline.watch(name)  # type: ignore[no-untyped-call]
                before = _value(pipeline, name)
                after = change(before)
                if after == before:
                    return after
                pipeline.multi()
                pipeline.set(name, after, px=_milliseconds(ttl_s))
                try:
                    pipeline.execute()
                except redis.WatchError:
                    time.sleep(random.uniform(0, _APART_S))
                else:
                    return after

    def delete(self, key: str) -> None:
        with _translating():
            self._client.delete(self._prefix + key)

    def add(self, items: Iterable[tuple[str, bytes, float]]) -> None:
        """Writes those that are missing: keys, values and seconds to live. :raises StoreError:"""
        left = iter(items)
        with _translating():
            while batch := list(islice(left, _BATCH)):
                with self._client.pipeline(transaction=False) as pipeline:
                    for key, value, ttl_s in batch:
                        pipeline.set(self._prefix + key, value, px=_milliseconds(ttl_s), nx=True)
                    pipeline.execute()

    def now(self) -> float:
        return time.monotonic() + self._ahead_s

    def check(self, mark: str, *, ttl_s: float) -> bool:
        """
        Whether the key ``mark`` is there; its time to live begins anew. Reads the clock as well.

        :raises StoreError: Redis does not answer, or takes no writes, as a full one or a read-only replica.
        """
        name = self._prefix + mark
        with _translating(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.set(f"{self._prefix}health", 1, ex=_HEALTH_S)
            pipeline.pexpire(name, _milliseconds(ttl_s))
            pipeline.time()
            _, marked, (seconds, microseconds) = pipeline.execute()
        self._ahead_s = seconds + microseconds / 1e6 - time.monotonic()
        return bool(marked)


def _value(client: redis.Redis | Pipeline, name: str) -> bytes | None:
    try:
        found = client.get(name)
    except redis.ResponseError as error:
        if not _is_foreign(error):
            raise
        return None
    return found if isinstance(found, bytes) else None


def _is_foreign(error: redis.ResponseError) -> bool:
    """Whether another program's value, of another type, is under the key."""
    return str(error).startswith("WRONGTYPE")


def _milliseconds(ttl_s: float) -> int:
    return max(1, round(ttl_s * 1000))


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise StoreFullError(type(error).__name__) from error
    except redis.RedisError as error:
        raise StoreError(type(error).__name__) from error
