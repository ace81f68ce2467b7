"""Where the workers of one gunicorn count together: a folder of small files that they map into their memory.

It belongs to one gunicorn: services that share a ``RUNTIME_DIR``, and the old and the new one of an upgrade by USR2,
have one each. Its master holds the folder's lock, so that one whose master died, however it died, is known by that.

prometheus_client decides when it is imported whether it counts there. gunicorn's master must not import it, lest the
workers have no choice any more; so this module does not, and knows the names of its files instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

from observability.counts_file import key_of, read_counts, write_counts

#: What gunicorn's master counts: its name without ``_total``, and what it says of itself.
DEATHS: Final = ("sd_api_worker_deaths", "Workers that died, with what they were doing.")

_PREFIX = "metrics-"
#: Each worker has one file of each kind, as prometheus_client calls them: what it counted, and what it is.
_COUNTS = ("counter", "histogram")
_STATES = "gauge_livemax"
#: Several times what the service's series take. What lies below a mapping has to be there: a worker that writes to a
#: mapped file for which a full disk has no block is killed by the kernel.
_RESERVED_BYTES = 512 * 1024


@functools.cache  # a gunicorn that reads its settings again keeps its folder
def own_folder(runtime: Path) -> Path:
    """
    This process' folder, new and empty; those of the dead are removed. To be called by gunicorn's master.

    :param runtime: ``RUNTIME_DIR``.
    :raises OSError:
    """
    with _locked_file(runtime / "metrics.lock", fcntl.LOCK_EX):
        for other in runtime.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):  # locked: its master lives
                os.close(_locked(other))
                shutil.rmtree(other)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=runtime))
        _locked(folder)  # until this process and its workers have ended
    return folder


def reserve(folder: Path, pid: int) -> None:
    """
    Room on the disk for what a worker will count, in the folder, which may have been cleared away since.

    :raises OSError: there is none.
    """
    make_again(folder)
    for kind in (*_COUNTS, _STATES):
        path = folder / f"{kind}_{pid}.db"
        temporary = path.with_suffix(".tmp")
        # An earlier worker of this number may have left counts: they go on.
        counted = path.read_bytes() if path.exists() else b""
        try:
            temporary.write_bytes(counted.ljust(_RESERVED_BYTES, b"\0"))
            temporary.rename(path)  # whoever reads meanwhile finds no half of it
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def make_again(folder: Path) -> None:
    """:raises OSError:"""
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, exist_ok=True)


def count_death(folder: Path) -> None:
    """
    Of a worker that was not told to end.

    :raises OSError: there is no room; it is not counted.
    """
    path, key = folder / "counter_deaths.db", key_of(*DEATHS)
    so_far = read_counts(path)[key] if path.exists() else 0.0
    write_counts(path, {key: so_far + 1})


def mark_dead(folder: Path, pid: int) -> None:
    """A worker ended: its counts stay, what it was does not (prometheus_client's ``mark_process_dead``)."""
    (folder / f"{_STATES}_{pid}.db").unlink(missing_ok=True)
    for kind in _COUNTS:
        path = folder / f"{kind}_{pid}.db"
        with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
            # A file begins with how much of it is used: more will not be.
            file.truncate(int.from_bytes(file.read(4), sys.byteorder) or None)


def merge_dead(folder: Path, alive: Container[int]) -> None:
    """
    What dead workers counted becomes one file. While somebody reads it is put off until the next worker ends.

    :param alive: the pids of all others.
    :raises OSError: there is no room; all stays as it is.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked_file(_readers_lock(folder), fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            return
        for kind in _COUNTS:
            merged = folder / f"{kind}_dead.db"
            pids = [path.stem.removeprefix(f"{kind}_") for path in folder.glob(f"{kind}_*.db")]
            dead = [folder / f"{kind}_{pid}.db" for pid in pids if pid.isdecimal() and int(pid) not in alive]
            sums: dict[str, float] = defaultdict(float)
            for path in (*dead, *([merged] if merged.exists() else [])):
                for key, value in read_counts(path).items():
                    sums[key] += value
            write_counts(merged, sums)
            for path in dead:
                path.unlink()


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Meanwhile no counts move from one file to another, where they would be missed or found twice."""
    with _locked_file(_readers_lock(folder), fcntl.LOCK_SH):
        yield


def _readers_lock(folder: Path) -> Path:
    return folder / "readers.lock"


@contextlib.contextmanager
def _locked_file(path: Path, operation: int) -> Iterator[None]:
    """:param operation: as of :func:`fcntl.flock`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def _locked(folder: Path) -> int:
    """:raises OSError: somebody else has locked it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
