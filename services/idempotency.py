"""One key, one picture: a retry gets the first answer again, whichever worker or host it comes to.

While the first attempt runs, others with the same key wait for it. An attempt that fails is not kept, and one whose
process died leaves nothing locked: the kernel frees a file's lock, and a lock in Redis expires.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import pybase64
import redis

from sd_client.errors import QueueFullError, QueueTimeoutError
from sd_client.leases import try_lock
from services.generation import GeneratedImage, Generation
from storage.base import ImageStorage
from storage.errors import StorageUnavailableError

log = logging.getLogger(__name__)

#: How long an answer is kept.
KEEP_S = 86_400
#: How often those who wait for the first attempt look whether it has ended.
_LOOK_S = 0.1
#: A lock in Redis that is not renewed expires after this; it is renewed every third of it.
_LOCK_S = 15.0


class IdempotencyMismatchError(ValueError):
    """The key was used with another request. The same will be answered again."""


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


@dataclass
class Claim:
    """
    :param replay: the first attempt's result; None for the one attempt that runs.
    """

    replay: Generation | None
    kept: Generation | None = None

    def keep(self, generation: Generation) -> None:
        """This is what others with the same key get."""
        self.kept = generation


class IdempotencyService:
    """
    :param longest_wait_s: for another attempt with the same key.
    :param most_waiting: such waits at a time in this process, each of which holds a thread.
    """

    def __init__(self, *, ledger: Ledger, storage: ImageStorage, longest_wait_s: float, most_waiting: int = 16) -> None:
        self._ledger = ledger
        self._storage = storage
        self._longest_wait_s = longest_wait_s
        self._waiting = threading.BoundedSemaphore(most_waiting)

    @contextmanager
    def claim(
        self, key: str, fingerprint: str, *, check: Callable[[], None], wait_s: float | None = None
    ) -> Iterator[Claim]:
        """
        The right to be the one attempt, or the result of the one that was.

        Where the ledger fails, the right is given without it: the picture matters more than being able to ask twice.

        :param check: called while waiting for another attempt; what it raises ends the wait.
        :param wait_s: how long the caller waits for that; None for as long as this service does.
        :raises IdempotencyMismatchError: the key was used with another request.
        :raises QueueTimeoutError: the other attempt takes too long.
        :raises ImageNotFoundError: the first attempt's picture has been deleted since.
        """
        try:
            lock, record = self._now(key, fingerprint)
            if lock is None and record is None:
                lock, record = self._later(key, fingerprint, check, wait_s)
        except StorageUnavailableError as error:
            log.error("an idempotency key cannot be looked up: %s", error)
            yield Claim(replay=None)
            return
        if lock is None:
            yield Claim(replay=self._replayed((record.answer if record else None) or {}))
            return
        try:
            claim = Claim(replay=None)
            self._note(key, Record(fingerprint=fingerprint))
            yield claim
            # A picture that could not be stored cannot be given again.
            if claim.kept is not None and all(image.stored for image in claim.kept.images):
                self._note(key, Record(fingerprint=fingerprint, answer=_answer(claim.kept)))
        finally:
            lock.release()

    def _note(self, key: str, record: Record) -> None:
        try:
            self._ledger.write(key, record)
        except StorageUnavailableError as error:
            log.error("an idempotency key cannot be kept: %s", error)

    def _later(
        self, key: str, fingerprint: str, check: Callable[[], None], wait_s: float | None
    ) -> tuple[Lock | None, Record | None]:
        """:meth:`_now`, as soon as the other attempt has ended."""
        if not self._waiting.acquire(blocking=False):
            raise QueueFullError("too many requests wait for another with their key", retry_after_s=5)
        try:
            until = time.monotonic() + min(self._longest_wait_s, self._longest_wait_s if wait_s is None else wait_s)
            while True:
                lock, record = self._now(key, fingerprint)
                if lock is not None or record is not None:
                    return lock, record
                if time.monotonic() > until:
                    raise QueueTimeoutError("another request with this key still runs", retry_after_s=5)
                check()
                time.sleep(_LOOK_S)
        finally:
            self._waiting.release()

    def _now(self, key: str, fingerprint: str) -> tuple[Lock | None, Record | None]:
        """The lock, or the record of an attempt that succeeded, or neither while another one runs."""
        lock = self._ledger.lock(key)
        record = self._ledger.read(key)
        finished = record is not None and record.answer is not None
        mismatch = record is not None and record.fingerprint != fingerprint and (finished or lock is None)
        if lock is not None and (finished or mismatch):
            lock.release()
            lock = None
        if mismatch:
            raise IdempotencyMismatchError
        return lock, record if finished else None

    def _replayed(self, answer: Mapping[str, Any]) -> Generation:
        return Generation(
            images=tuple(self._image(image) for image in answer["images"]),
            model=answer["model"],
            processing_time_s=answer["processing_time_s"],
            request_id=answer["request_id"],
        )

    def _image(self, image: Mapping[str, Any]) -> GeneratedImage:
        image_id = UUID(image["image_id"])
        with self._storage.open(image_id).file as file:
            png = file.read()
        return GeneratedImage(
            image_id=image_id,
            png=png,
            base64=pybase64.b64encode(png).decode("ascii"),
            seed=image["seed"],
            width=image["width"],
            height=image["height"],
            stored=True,
        )


def _answer(generation: Generation) -> dict[str, Any]:
    return {
        "images": [
            {"image_id": str(image.image_id), "seed": image.seed, "width": image.width, "height": image.height}
            for image in generation.images
        ],
        "model": generation.model,
        "processing_time_s": generation.processing_time_s,
        "request_id": generation.request_id,
    }


def fingerprint(mode: str, values: Mapping[str, object]) -> str:
    """What tells one request from another: its fields, however a form was cut into parts."""
    digest = hashlib.sha256(mode.encode())
    for name in sorted(values):
        value = values[name]
        data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
        digest.update(f"\n{name!r} {type(value).__name__} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()
