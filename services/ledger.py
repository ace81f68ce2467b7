"""Where idempotency keys are kept: a record and a lock by key, on this host's disk."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError

from sd_client.leases import try_lock
from storage.errors import StorageUnavailableError

#: How long an answer is kept.
KEEP_S = 86_400
#: A file's time may be so far ahead of the clock's, for file systems round.
_AHEAD_S = 60.0


@dataclass(frozen=True, kw_only=True)
class AnsweredImage:
    image_id: UUID
    seed: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is given again; the pictures themselves are in the storage."""

    images: Annotated[tuple[AnsweredImage, ...], Field(min_length=1)]
    model: str
    processing_time_s: float
    request_id: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """
    :param fingerprint: of the request that the key was used with first.
    :param answer: None while that runs, and where it failed.
    :param request: what that request can be asked for by.
    """

    fingerprint: str
    answer: Answer | None = None
    request: str = ""


_RECORD = TypeAdapter(Record)


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
                if _age_s(path) > KEEP_S:
                    return None
                return read_record(path.read_bytes())
            except FileNotFoundError:
                return None

    def write(self, key: str, record: Record) -> None:
        temporary = self._folder / f"{key}.tmp"  # only the holder of the key's lock writes
        with _disk_errors_told():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            temporary.write_bytes(write_record(record))
            temporary.replace(self._folder / f"{key}.json")

    def answered(self, keys: Collection[str] | None = None) -> Iterator[tuple[str, Record, int]]:
        """
        Keys and records of answers, and for how many seconds each will still be kept.

        :param keys: of these, where there is an answer; None: of all.
        """
        with _disk_errors_told():
            found = self._folder.glob("*.json") if keys is None else [self._folder / f"{key}.json" for key in keys]
            paths = sorted(found)
        for path in paths:
            # What is not there has been swept meanwhile.
            with _disk_errors_told(), contextlib.suppress(FileNotFoundError):
                left_s = int(KEEP_S - _age_s(path))
                record = self.read(path.stem)
                if record is not None and record.answer is not None and left_s > 0:
                    yield path.stem, record, left_s

    def sweep(self) -> None:
        """Removes what is no longer kept, but for what an attempt holds."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another worker sweeps as well
                if _age_s(path) > KEEP_S and (lock := self.lock(path.stem)) is not None:
                    path.unlink()
                    lock.release()


def _age_s(path: Path) -> float:
    """
    Of a file that was written when the clock was ahead the age counts from now on.

    :raises FileNotFoundError:
    """
    age_s = time.time() - path.stat().st_mtime
    if age_s < -_AHEAD_S:
        with contextlib.suppress(OSError):  # it is read only, or gone: then it is none the worse
            os.utime(path)
    return max(0.0, age_s)


def read_record(raw: bytes) -> Record | None:
    """None for what is none: another program or version wrote it, or a power cut left half of it."""
    try:
        return _RECORD.validate_json(raw)
    except ValidationError:
        return None


def write_record(record: Record) -> bytes:
    return _RECORD.dump_json(record)


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
