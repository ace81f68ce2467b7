"""The schedule as a file that all workers of one host share.

A worker's own file under ``holders/`` stays locked while the worker lives, and the kernel unlocks it when it
dies, however it dies: so a dead worker's leases end with the next look at the schedule.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from sd_client.schedule import Schedule, forget
from sd_client.schedule_json import ScheduleJson

_PIECE_BYTES = 256 * 1024


class SharedSchedule:
    """
    :param folder: on a local file system, the same for every worker of the host; made where it is missing.
    :raises OSError: where the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "holders").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        # Strings and descriptors, not pathlib and file objects: those took half of each job's two changes.
        self._file = os.fspath(folder / "schedule.json")
        self._lock = os.fspath(folder / "schedule.lock")
        self._seen: tuple[tuple[int, int, int] | None, Schedule] = (None, Schedule())
        self._json = ScheduleJson()
        self._mutex = threading.Lock()
        self.holder = uuid.uuid4().hex
        self._temporary = os.fspath(folder / f"schedule.{self.holder}.tmp")
        with _exclusive(self._lock):
            for holder in os.listdir(folder / "holders"):
                self._lives(holder)  # clears away what killed workers left
            self._alive = _locked(folder / "holders" / self.holder)

    def update(self, change: Callable[[Schedule], Schedule]) -> Schedule:
        """Applies ``change`` to the schedule of this moment, alone among all threads and workers."""
        with self._mutex, _exclusive(self._lock):
            before = self._load()
            after = change(forget(before, self._dead(before)))
            if after != before:
                self._write(after)
            return after

    def look(self) -> Schedule:
        """The schedule as last written; costs one stat while it has not changed."""
        with self._mutex:
            return self._load() if self._version() != self._seen[0] else self._seen[1]

    def renew(self) -> None:
        """
        Keeps this holder's file from whoever clears away what nobody has touched for days, and makes it anew where it
        has been cleared away all the same. To be called now and then.
        """
        path = self._folder / "holders" / self.holder
        try:
            if os.stat(path).st_ino == os.fstat(self._alive).st_ino:
                os.utime(path)
                return
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lost, self._alive = self._alive, _locked(path)
        os.close(lost)

    def knows(self, holder: str) -> bool:
        """Whether that is, or was lately, a process of this host."""
        return (self._folder / "holders" / holder).exists()

    def close(self) -> None:
        """This holder's jobs end."""
        (self._folder / "holders" / self.holder).unlink(missing_ok=True)
        os.close(self._alive)

    def _load(self) -> Schedule:
        """
        Always read anew: two writes in one tick of the file system's clock can leave the same version, the inode of
        the one before last being free again. Whoever only looks may be late by one change, never whoever writes.
        """
        version = self._version()
        try:
            schedule = self._json.load(_read(self._file))
        except FileNotFoundError:  # cleared away by hand
            schedule = Schedule()
        self._seen = (version, schedule)
        return schedule

    def _version(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._file)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _write(self, schedule: Schedule) -> None:
        _write(self._temporary, self._json.dump(schedule))
        os.replace(self._temporary, self._file)  # readers see the old or the new one, whole
        self._seen = (self._version(), schedule)

    def _dead(self, schedule: Schedule) -> set[str]:
        holders = {job.holder for job in (*schedule.waiting, *schedule.running)} - {self.holder}
        return {holder for holder in holders if not self._lives(holder)}

    def _lives(self, holder: str) -> bool:
        path = self._folder / "holders" / holder
        lock = try_lock(path, create=False)
        if lock is None:
            return path.exists()
        path.unlink(missing_ok=True)
        os.close(lock)
        return False


def try_lock(path: Path, *, create: bool = True) -> int | None:
    """An open descriptor that holds the file's lock, or None where another process holds it or it is missing."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # removed between the two steps: whoever comes next would lock another file


def _locked(path: Path) -> int:
    lock = try_lock(path)
    if lock is None:
        raise RuntimeError("a fresh holder's file is locked already")
    return lock


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, _PIECE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _exclusive(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
