"""Where idempotency keys are kept: a record and a lock by key, on this host's disk or in Redis for all hosts."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import redis

from sd_client.leases import try_lock
from storage.errors import StorageUnavailableError

log = logging.getLogger(__name__)

#: How long an answer is kept.
KEEP_S = 86_400
#: A lock in Redis that is not renewed expires after this; it is renewed every third of it.
_LOCK_S = 15.0


@dataclass(frozen=True, kw_only=True)
class Record:
    """
    :param fingerprint: of the request that the key was used with first.
    :param answer: None while that runs.
    """

    fingerprint: str
    answer: Mapping[str, Any] | None = None


class Lock(Protocol):
    """Held by the one attempt that runs."""

    def release(self) -> None: ...


class Ledger(Protocol):
    """Keeps a record and a lock by key."""

    def lock(self, key: str) -> Lock | None:
        """None while another attempt holds it."""

    def read(self, key: str) -> Record | None: ...
    def write(self, key: str, record: Record) -> None: ...


class FileLedger:
    """On disk beside the images, for all workers of one host. ``folder`` is made on demand."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def lock(self, key: str) -> Lock | None:
        with _disk_errors_told():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            descriptor = try_lock(self._folder / f"{key}.lock")
        return None if descriptor is None else _FileLock(descriptor)

    def read(self, key: str) -> Record | None:
        path = self._folder / f"{key}.json"
        with _disk_errors_told():
            try:
                if time.time() - path.stat().st_mtime > KEEP_S:
                    return None
                return _record(path.read_bytes())
            except FileNotFoundError:
                return None

    def write(self, key: str, record: Record) -> None:
        temporary = self._folder / f"{key}.tmp"  # only the holder of the key's lock writes
        with _disk_errors_told():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            temporary.write_text(json.dumps(asdict(record)))
            temporary.replace(self._folder / f"{key}.json")

    def sweep(self) -> None:
        """Removes what is no longer kept, but for what an attempt holds."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another worker sweeps as well
                if time.time() - path.stat().st_mtime > KEEP_S and (lock := self.lock(path.stem)) is not None:
                    path.unlink()
                    lock.release()


@contextmanager
def _disk_errors_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageUnavailableError("io") from error


@dataclass(frozen=True)
class _FileLock:
    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


class RedisLedger:
    """For all hosts; while Redis is away, ``otherwise``."""

    def __init__(self, client: redis.Redis, *, prefix: str, otherwise: Ledger) -> None:
        self._client = client
        self._prefix = prefix
        self._otherwise = otherwise

    def lock(self, key: str) -> Lock | None:
        lock = self._client.lock(f"{self._prefix}:{key}:lock", timeout=_LOCK_S, thread_local=False)
        try:
            return _RedisLock(lock) if lock.acquire(blocking=False) else None
        except redis.RedisError:
            return self._otherwise.lock(key)

    def read(self, key: str) -> Record | None:
        try:
            text = self._client.get(f"{self._prefix}:{key}")
        except redis.RedisError:
            text = None
        found = _record(text) if isinstance(text, bytes) else None
        if found is not None and found.answer is not None:
            return found
        # An answer may have been kept here while Redis was away.
        return self._otherwise.read(key) or found

    def write(self, key: str, record: Record) -> None:
        shared = False
        with contextlib.suppress(redis.RedisError):
            shared = bool(self._client.set(f"{self._prefix}:{key}", json.dumps(asdict(record)), ex=KEEP_S))
        # An answer is kept here as well: a retry may come while Redis is away, or after it has lost everything.
        if record.answer is not None or not shared:
            self._otherwise.write(key, record)


class _RedisLock:
    """Renewed by a thread of its own until it is released, or its process dies."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._released = threading.Event()
        threading.Thread(target=self._renew, name="idempotency-lock", daemon=True).start()

    def release(self) -> None:
        self._released.set()
        with contextlib.suppress(redis.RedisError):  # LockError among them: it expired while Redis was away
            self._lock.release()

    def _renew(self) -> None:
        while not self._released.wait(_LOCK_S / 3):
            with contextlib.suppress(redis.RedisError):
                self._lock.extend(_LOCK_S, replace_ttl=True)


def shared_ledger(on_disk: FileLedger, connection: redis.Redis | None) -> Ledger:
    """The ledger of all hosts, or of this one where there is no Redis."""
    return on_disk if connection is None else RedisLedger(connection, prefix="sd-api:idempotency", otherwise=on_disk)


def _record(text: bytes) -> Record:
    fields = json.loads(text)
    return Record(fingerprint=fields["fingerprint"], answer=fields["answer"])
