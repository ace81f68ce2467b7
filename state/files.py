"""Folders and lock files of one host. The kernel frees the lock of a process that dies, however it dies."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_own_folder(path: Path) -> None:
    """
    Makes a folder for this user alone, and its parents, unless it exists.

    :raises OSError: also if others may write into it: somebody else may have made it, where everybody can.
    """
    if not path.parent.exists():
        make_own_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "the folder is not this user's alone")


def try_lock(path: Path, *, create: bool = True) -> int | None:
    """
    A descriptor that holds the file's lock until it is closed; None if another process holds it, or the file is missing
    and must not be created.

    :raises OSError:
    """
    return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB, create=create)


def lock(path: Path) -> int:
    """
    As :func:`try_lock`, but waits while another process holds the lock.

    :raises OSError:
    """
    descriptor = _locked(path, fcntl.LOCK_EX, create=True)
    assert descriptor is not None
    return descriptor


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Waits for the file's lock and holds it. :raises OSError:"""
    descriptor = lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that lies there."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _locked(path: Path, operation: int, *, create: bool) -> int | None:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        except FileNotFoundError:
            if create:
                raise
            return None
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # deleted between the two steps: whoever comes next would lock another file
