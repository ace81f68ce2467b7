"""A file that one process at a time writes and any may read meanwhile: whole, the old bytes or the new ones."""

from __future__ import annotations

import ctypes
import errno
import os
import zlib

_PIECE_BYTES = 256 * 1024

#: The checksum that the file begins with, in hexadecimal.
_SUM_BYTES = 8

#: A reader is overtaken by two writers only where it is held up between two system calls.
_TRIES = 20

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

# Since glibc 2.28.
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


class SharedFile:
    """
    Written beside and exchanged with what was there: a file that is replaced instead goes to the disk at once on ext4,
    which takes ten times as long. Nothing of it must survive a power cut.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._beside = f"{path}.new"

    def head(self, size: int) -> bytes:
        """The first bytes of what was written last, perhaps mixed with others; empty where there is no file."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(descriptor, size, _SUM_BYTES)
        finally:
            os.close(descriptor)

    def read(self) -> bytes:
        """
        What was written last; empty where that was no :class:`SharedFile`'s.

        :raises FileNotFoundError:
        """
        for _ in range(_TRIES):
            raw = _read(self._path)
            # The file that is exchanged twice while it is read is written over.
            if raw[:_SUM_BYTES] == _checksum(raw[_SUM_BYTES:]):
                return raw[_SUM_BYTES:]
        return b""

    def write(self, data: bytes) -> None:
        """
        Not by two at the same time.

        :raises OSError: what was there is there still.
        """
        # Not emptied first: ext4 brings such a file to the disk as well.
        descriptor = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            left = memoryview(_checksum(data) + data)
            size = len(left)
            while left:
                left = left[os.write(descriptor, left) :]
            os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)
        if not _exchange(self._beside, self._path):
            os.replace(self._beside, self._path)


def _exchange(one: str, other: str) -> bool:
    """False where the system or the file system cannot, or one of them is missing."""
    if _renameat2 is None:
        return False
    if _renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in (errno.ENOENT, errno.EINVAL, errno.ENOSYS, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number))


def _checksum(data: bytes) -> bytes:
    return b"%08x" % zlib.crc32(data)


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, _PIECE_BYTES):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)
