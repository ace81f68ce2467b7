"""Redis while it can be used, this host's store while it cannot. Nothing else knows how to do without Redis."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from state.sqlite import SqliteStore
from state.store import Change, Store, StoreError

if TYPE_CHECKING:
    from state.redis import RedisStore

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How often each process looks whether Redis can be used again.
LOOK_S = 0.25
#: How often it looks whether Redis can still be used, though it asks nothing else, and has what this host gave it.
UP_LOOK_S = 0.5
#: How long what Redis has missed, and the mark that says it has missed nothing, are remembered.
_DAY_S = 86_400.0
_FOR_EVER_S = 365 * _DAY_S
#: In a durable store, keys that begin with this name others that Redis has missed.
_MISSED = "missed:"


class FailoverStore:
    """
    A circuit breaker: after one error nobody asks Redis until it takes writes again. Otherwise a hundred waiting
    threads would each sit out its time-out.

    Durable keys are written to a store of this host as well. Once Redis is back they are pushed there, and likewise if
    Redis has lost them without a connection having been broken. Only the host that wrote one last may delete it.

    :param host: used while Redis cannot be.
    :param durable: what durable keys begin with, and ``kept`` where this host keeps them; None: no key is durable.
    :param on_error: called whenever Redis fails.
    :ivar changed_at: when ``up`` last changed, in seconds of ``time.monotonic``; 0 if it never did.
    """

    def __init__(
        self,
        host: Store,
        redis: RedisStore,
        *,
        durable: Sequence[str] = ("",),
        kept: SqliteStore | None = None,
        on_error: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._redis = redis
        self._durable = tuple(durable)
        self._kept = kept
        self._on_error = on_error
        self._up: bool | None = None
        self.changed_at = 0.0
        self._mark = self._own_mark()
        self._mutex = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="redis", daemon=True)
        self._look()

    @property
    def up(self) -> bool:
        """Whether Redis is used."""
        return self._up is True

    def start(self) -> None:
        """Begins to watch Redis; to be called in the process that serves, after any fork."""
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def get(self, key: str) -> bytes | None:
        kept = self._kept_at(key)
        try:
            found = self._ask_redis(lambda redis: redis.get(key))
        except StoreError:
            return (kept or self._host).get(key)
        return _read(kept, key) if found is None and kept is not None else found

    def head(self, key: str, size: int) -> bytes:
        try:
            return self._ask_redis(lambda redis: redis.head(key, size))
        except StoreError:
            return self._host.head(key, size)

    def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        shared = self._shared(lambda redis: redis.put(key, value, ttl_s=ttl_s))
        kept = self._kept_at(key)
        if kept is not None:
            self._keep(kept, key, value, ttl_s, shared=shared)
        elif not shared:
            self._host.put(key, value, ttl_s=ttl_s)

    def update(self, key: str, change: Change, *, ttl_s: float) -> bytes:
        kept = self._kept_at(key)
        if kept is None:
            try:
                return self._ask_redis(lambda redis: redis.update(key, change, ttl_s=ttl_s))
            except StoreError:
                return self._host.update(key, change, ttl_s=ttl_s)
        return self._update_durable(kept, key, change, ttl_s)

    def delete(self, key: str) -> None:
        shared = self._shared(lambda redis: redis.delete(key))
        kept = self._kept_at(key)
        if kept is None:
            if not shared:
                self._host.delete(key)
            return
        with suppress(StoreError):
            kept.delete(key)
        if not shared:
            kept.put(_MISSED + key, b"", ttl_s=_DAY_S)

    def now(self) -> float:
        return self._redis.now() if self.up else self._host.now()

    def failed(self, error: Exception) -> None:
        """To be called when Redis failed somebody who uses it otherwise than through this store."""
        self._switch(up=False, why=type(error).__name__)

    def _kept_at(self, key: str) -> Store | None:
        """Where this host keeps a durable key."""
        return self._kept if key.startswith(self._durable) else None

    def _ask_redis(self, question: Callable[[RedisStore], T]) -> T:
        """:raises StoreError: Redis is down."""
        if not self.up:
            raise StoreError("Redis is down")
        try:
            return question(self._redis)
        except StoreError as error:
            self._switch(up=False, why=str(error))
            raise

    def _shared(self, question: Callable[[RedisStore], None]) -> bool:
        """Whether Redis did it."""
        try:
            self._ask_redis(question)
        except StoreError:
            return False
        return True

    def _update_durable(self, kept: Store, key: str, change: Change, ttl_s: float) -> bytes:
        found: bytes | None = None

        def changed(before: bytes | None) -> bytes:
            nonlocal found
            found = _read(kept, key) if before is None else before
            return change(found)

        try:
            after = self._ask_redis(lambda redis: redis.update(key, changed, ttl_s=ttl_s))
        except StoreError:
            after = kept.update(key, change, ttl_s=ttl_s)
            kept.put(_MISSED + key, b"", ttl_s=ttl_s)
        else:
            if after != found:
                self._keep(kept, key, after, ttl_s, shared=True)
        return after

    @staticmethod
    def _keep(kept: Store, key: str, value: bytes, ttl_s: float, *, shared: bool) -> None:
        try:
            kept.put(key, value, ttl_s=ttl_s)
            if not shared:
                kept.put(_MISSED + key, b"", ttl_s=ttl_s)
        except StoreError as error:
            if not shared:
                raise
            log.error("a value is kept by Redis alone: %s", error)

    def _watch(self) -> None:
        while not self._stopped.wait(UP_LOOK_S if self.up else LOOK_S):
            self._look()

    def _look(self) -> None:
        try:
            complete = self._redis.check(self._mark, ttl_s=_DAY_S)
            self._push_missed()
            self._switch(up=True)
            if not complete:
                self._push_all()
        except StoreError as error:
            self._switch(up=False, why=str(error))

    def _push_missed(self) -> None:
        """What was written or deleted while Redis was down."""
        if self._kept is None:
            return
        for name, _, left_s in _until_error(self._items(before=_MISSED), []):
            with suppress(StoreError):
                self._kept.delete(name)  # first: what is written from now on is missed anew
            try:
                self._push(self._kept, name.removeprefix(_MISSED), left_s)
            except StoreError:
                with suppress(StoreError):
                    self._kept.put(name, b"", ttl_s=left_s)
                raise

    def _push(self, kept: Store, key: str, left_s: float) -> None:
        value = _read(kept, key)
        if value is None:
            self._redis.delete(key)
        else:
            self._redis.put(key, value, ttl_s=left_s)

    def _push_all(self) -> None:
        """Redis has lost what it had, or sees this host for the first time. Repeated if the disk fails meanwhile."""
        errors: list[StoreError] = []
        self._redis.add(_until_error(self._items(), errors))
        if not errors:
            self._redis.put(self._mark, b"1", ttl_s=_DAY_S)

    def _items(self, before: str = "") -> Iterator[tuple[str, bytes, float]]:
        """What this host keeps of durable keys, or of others that are named after them. :raises StoreError:"""
        if self._kept is not None:
            for durable in self._durable:
                yield from self._kept.items(before + durable)

    def _own_mark(self) -> str:
        """A key that Redis has until it loses everything: one for all processes that keep their keys in one place."""
        own = uuid.uuid4().hex.encode()
        if self._kept is not None:
            with suppress(StoreError):
                own = self._kept.update("mark", lambda before: before or own, ttl_s=_FOR_EVER_S)
        return f"{self._durable[0]}host:{own.decode()}"

    def _switch(self, *, up: bool, why: str = "") -> None:
        if not up:
            self._on_error()
        with self._mutex:
            before, self._up = self._up, up
            if before is not None and before != up:
                self.changed_at = time.monotonic()
        if before != up and not up:
            log.warning("redis is down (%s): this host goes on alone", why)
        elif before is False and up:
            log.warning("redis is back")


def _read(kept: Store, key: str) -> bytes | None:
    """None also if the disk fails: Redis has the value then, or nobody."""
    with suppress(StoreError):
        return kept.get(key)
    return None


def _until_error(
    items: Iterator[tuple[str, bytes, float]], errors: list[StoreError]
) -> Iterator[tuple[str, bytes, float]]:
    """
    A disk that fails is no reason to do without Redis.

    :param errors: receives the one that ended it.
    """
    try:
        yield from items
    except StoreError as error:
        errors.append(error)
