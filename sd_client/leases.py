"""The schedule as a file that all workers of one host share.

A worker's own file under ``holders/`` stays locked while the worker lives, and the kernel unlocks it when it
dies, however it dies: so a dead worker's leases end with the next look at the schedule.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from sd_client.continuity import Continuity
from sd_client.schedule import Schedule, forget
from sd_client.schedule_json import HEAD_BYTES, ScheduleJson
from sd_client.shared_file import SharedFile


class SharedSchedule:
    """
    :param folder: on a local file system, the same for every worker of the host; made where it is missing.
    :raises OSError: where the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "holders").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        # Strings and descriptors, not pathlib and file objects: those took half of each job's two changes.
        self._lock = os.fspath(folder / "schedule.lock")
        self._file = SharedFile(os.fspath(folder / "schedule.json"))
        self._json = ScheduleJson()
        self._mutex = threading.Lock()
        self._renewing = threading.Lock()
        self.continuity = Continuity()
        with _exclusive(self._lock):
            self._host = _host_mark(folder, uuid.uuid4().hex[:12])
            self.holder = f"{self._host}-{uuid.uuid4().hex}"
            for holder in os.listdir(folder / "holders"):
                self._lives(holder)  # clears away what killed workers left
            self._alive = _locked(folder / "holders" / self.holder)

    def update(self, change: Callable[[Schedule], Schedule]) -> Schedule:
        """Applies ``change`` to the schedule of this moment, alone among all threads and workers."""
        with self._mutex:
            try:
                return self._updated(change)
            except FileNotFoundError:  # the whole folder was cleared away by hand
                self.renew()
                return self._updated(change)

    def _updated(self, change: Callable[[Schedule], Schedule]) -> Schedule:
        with _exclusive(self._lock):
            stored = self._load()
            before = self.continuity.found(stored)
            after = change(forget(before, self._dead(before)))
            if after != stored:
                self._file.write(self._json.dump(after))
            self.continuity.left(after)
            return after

    def look(self) -> Schedule:
        """
        The schedule as last written; while that is the one that was seen last, a few bytes of it are read. Waits for
        nobody who changes it.
        """
        return self._json.last(self._file.head(HEAD_BYTES)) or self._load()

    def seen(self) -> Schedule:
        """What was read or written last."""
        return self._json.seen()

    def renew(self) -> None:
        """
        Keeps this holder's file from whoever clears away what nobody has touched for days, and makes it anew where it
        has been cleared away all the same. To be called now and then.
        """
        path = self._folder / "holders" / self.holder
        with self._renewing:
            if is_at(self._alive, path):
                os.utime(path)
                return
            make_own_folder(path.parent)
            _host_mark(self._folder, self._host)
            lost, self._alive = self._alive, _locked(path)
            os.close(lost)

    def knows(self, holder: str) -> bool:
        """Whether that is, or was lately, a process of this host."""
        return (self._folder / "holders" / holder).exists()

    def lives(self, holder: str) -> bool | None:
        """Whether that process lives; None where it is another host's, of which nothing is known here."""
        if not holder.startswith(f"{self._host}-"):
            return None
        if holder == self.holder:
            return True
        path = self._folder / "holders" / holder
        lock = try_lock(path, create=False)
        if lock is not None:
            os.close(lock)
        return lock is None and path.exists()

    def close(self) -> None:
        """This holder's jobs end."""
        (self._folder / "holders" / self.holder).unlink(missing_ok=True)
        os.close(self._alive)

    def _load(self) -> Schedule:
        try:
            return self._json.load(self._file.read())
        except FileNotFoundError:  # cleared away by hand
            return Schedule()

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


def stored_schedule(folder: Path) -> Schedule:
    """As a service of this host wrote it last; empty where none did, or Redis keeps it."""
    try:
        return ScheduleJson().load(SharedFile(os.fspath(folder / "schedule.json")).read())
    except OSError:
        return Schedule()


def _host_mark(folder: Path, new: str) -> str:
    """What the holders of this folder begin with, uniquely among all hosts. :param new: where it has none yet."""
    path = folder / "host"
    if not path.exists():
        path.write_text(new)
    return path.read_text()


def make_own_folder(path: Path) -> None:
    """
    Where it is missing, with its parents, for this user alone.

    :raises OSError: also where what is there may be written by others, who came first where many may write.
    """
    if not path.parent.exists():
        make_own_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "the folder is not this user's alone")


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that lies there."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
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


@contextlib.contextmanager
def _exclusive(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
