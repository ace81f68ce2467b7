"""Idempotency keys of all hosts, in Redis; on each host's disk as well, for the times when Redis is away."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import redis
from redis.exceptions import LockError
from redis.lock import Lock as RedisLock

from services.ledger import KEEP_S, FileLedger, Lock, Record, read_record, write_record
from storage.errors import StorageUnavailableError

#: A lock in Redis that is not renewed expires after this.
_LOCK_S = 15.0
#: How often locks are renewed, and how soon what Redis lost is there again.
TICK_S = 1.0
#: Keys that are known by name while Redis is away: some 2 MB. They are all on the disk as well.
MOST_UNSHARED = 10_000


class SharedLedger:
    """
    An attempt holds its key's lock on its host's disk and in Redis, so that Redis may come, go or lose everything while
    it runs: what is missing there is put back every :data:`TICK_S`, locks as well as answers.

    :param host: names what shares ``on_disk``, uniquely.
    :param most_unshared: beyond so many answers that Redis was not told, all that are on the disk are looked through.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        prefix: str,
        on_disk: FileLedger,
        host: str,
        most_unshared: int = MOST_UNSHARED,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._on_disk = on_disk
        self._mark = f"{prefix}:host:{host}"
        self._most_unshared = most_unshared
        # What Redis was not told; None: of too many to know them by name.
        self._unshared: set[str] | None = set()
        self._renewed = time.monotonic()
        self._held: set[_SharedLock] = set()
        self._mutex = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="idempotency", daemon=True)

    def start(self) -> None:
        """Begins to renew locks; to be called in the process that serves."""
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def lock(self, key: str) -> Lock | None:
        fault: StorageUnavailableError | None = None
        local: Lock | None = None
        try:
            local = self._on_disk.lock(key)
        except StorageUnavailableError as error:
            fault = error
        if local is None and fault is None:
            return None
        shared = self._client.lock(f"{self._prefix}:{key}:lock", timeout=_LOCK_S, thread_local=False)
        try:
            taken = self._taken(shared)
        except redis.RedisError:
            if fault is not None:
                raise fault from None
            taken = True  # by the disk's alone, until Redis is back
        if not taken:
            if local is not None:
                local.release()
            return None
        held = _SharedLock(shared, local, self._forget)
        with self._mutex:
            self._held.add(held)
        return held

    def read(self, key: str) -> Record | None:
        told = True
        try:
            raw = self._client.get(f"{self._prefix}:{key}")
        except redis.RedisError:  # away, or the key is of another type
            raw, told = None, False
        found = read_record(raw) if isinstance(raw, bytes) else None
        if found is not None and found.answer is not None:
            return found
        try:
            return self._on_disk.read(key) or found
        except StorageUnavailableError:
            if not told:
                raise
            return found

    def write(self, key: str, record: Record) -> None:
        shared = False
        with contextlib.suppress(redis.RedisError):
            shared = bool(self._client.set(f"{self._prefix}:{key}", write_record(record), ex=KEEP_S))
        if record.answer is None and shared:
            return
        try:
            self._on_disk.write(key, record)
        except StorageUnavailableError:
            if not shared:
                raise
        if not shared and record.answer is not None:
            self._note_unshared({key})

    def _taken(self, shared: RedisLock) -> bool:
        if shared.acquire(blocking=False):
            return True
        left_ms = self._client.pttl(shared.name)
        if left_ms == -1:
            self._client.delete(shared.name)  # not of ours, which all expire; whoever waits looks again
        elif left_ms > _LOCK_S * 1000:  # Redis' clock was set back; who holds it renews it
            self._client.pexpire(shared.name, int(_LOCK_S * 1000))
        return False

    def _forget(self, lock: _SharedLock) -> None:
        with self._mutex:
            self._held.discard(lock)

    def _note_unshared(self, keys: set[str] | None) -> None:
        with self._mutex:
            if keys is None or self._unshared is None or len(self._unshared | keys) > self._most_unshared:
                self._unshared = None
            else:
                self._unshared |= keys

    def _keep(self) -> None:
        while not self._stopped.wait(TICK_S):
            self._renew()
            with contextlib.suppress(redis.RedisError, StorageUnavailableError):  # health tells
                self._put_back()

    def _renew(self) -> None:
        self._renewed = time.monotonic()
        with self._mutex:
            held = tuple(self._held)
        for lock in held:
            # Each by itself: one whose key is of another type must not let the others expire.
            with contextlib.suppress(redis.RedisError):
                lock.renew()

    def _put_back(self) -> None:
        """What Redis was not told while it was away; everything, where that was too much or it has lost everything."""
        lost = not self._client.exists(self._mark)
        with self._mutex:
            unshared, self._unshared = self._unshared, set()
        try:
            for key, record, left_s in self._on_disk.answered(None if lost else unshared):
                self._put(key, record, left_s)
                if time.monotonic() - self._renewed > TICK_S:
                    self._renew()
        except (redis.RedisError, StorageUnavailableError):
            self._note_unshared(unshared)
            raise
        if lost:
            self._client.set(self._mark, 1, ex=KEEP_S)

    def _put(self, key: str, record: Record, left_s: int) -> None:
        try:
            raw = self._client.get(f"{self._prefix}:{key}")
        except redis.ResponseError:  # the key is of another type
            raw = None
        found = read_record(raw) if isinstance(raw, bytes) else None
        if found is None or found.answer is None:
            self._client.set(f"{self._prefix}:{key}", write_record(record), ex=left_s)


class _SharedLock:
    """
    :param local: this host's lock; None where its disk fails.
    :param forget: called once it is released.
    """

    def __init__(self, shared: RedisLock, local: Lock | None, forget: Callable[[_SharedLock], None]) -> None:
        self._shared = shared
        self._local = local
        self._forget = forget
        self._mutex = threading.Lock()
        self._released = False

    def renew(self) -> None:
        """In Redis; where it is lost there it is taken again, unless another host was faster."""
        with self._mutex:
            if self._released:
                return
            try:
                self._shared.extend(_LOCK_S, replace_ttl=True)
            except LockError:
                self._shared.acquire(blocking=False)

    def release(self) -> None:
        with self._mutex:
            self._released = True
            with contextlib.suppress(redis.RedisError):  # LockError among them: then it is not held there
                self._shared.release()
        if self._local is not None:
            self._local.release()
        self._forget(self)
