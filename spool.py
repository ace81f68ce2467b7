"""A picture's file while it is on its way: on the disk as far as that works, so that memory does not grow with it."""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

#: Who may read it once it has a name; a stricter umask still holds.
_FILE_MODE = 0o640


class Spool:
    """
    A file that has no name until :meth:`give_name`: nobody has to remove it, its space is free as soon as
    nobody holds it any more. Where the disk takes none, or no more, what has come is held in memory.

    Like the ``bytes`` that :meth:`finished` may give in its place it has ``len()`` and ``[start:end]``.

    :param folder: on whose filesystem it is to be; None for memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._memory: io.BytesIO | None = None
        self._size = 0
        try:
            self._hold(_open_nameless(folder))
        except OSError:
            self._memory = io.BytesIO()

    @classmethod
    def of(cls, file: BinaryIO) -> Spool:
        """A stored file, which stays readable when it is closed or removed."""
        spool = cls()
        spool._hold(os.dup(file.fileno()))
        spool._memory, spool._size = None, os.fstat(spool._descriptor).st_size
        return spool

    def _hold(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    def write(self, data: bytes) -> None:
        """Appends."""
        if self._memory is None:
            try:
                _write_at(self._descriptor, data, self._size)
            except OSError:
                self._memory = io.BytesIO(self[:])
                self._memory.seek(self._size)
        if self._memory is not None:
            self._memory.write(data)
        self._size += len(data)

    def filled(self, data: bytes) -> FileData:
        """With all of it written; see :meth:`finished`."""
        self.write(data)
        return self.finished()

    def finished(self) -> FileData:
        """Itself, or the bytes where they are in memory. To be called when all has been written."""
        return self if self._memory is None else self._memory.getvalue()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        """:raises OSError: the disk has lost it."""
        start, end, step = part.indices(self._size)
        if step != 1:
            raise ValueError("only what lies side by side can be had")
        data = os.pread(self._descriptor, max(0, end - start), start)
        if len(data) != max(0, end - start):
            raise OSError("the file is shorter than it was")
        return data

    def give_name(self, path: Path) -> None:
        """:raises OSError: the name is taken, is on another filesystem, or cannot be given afterwards on this one."""
        # Without a folder's descriptor Python asks link(2), which does not follow; the path being absolute, it is not
        # looked at.
        os.link(f"/proc/self/fd/{self._descriptor}", path, src_dir_fd=self._descriptor, follow_symlinks=True)

    def flush(self) -> None:
        """Returns when it has reached the disk. :raises OSError:"""
        os.fsync(self._descriptor)


#: A whole file's bytes: both have ``len()`` and ``[start:end]``.
FileData = bytes | Spool


def pieces(file: FileData, size: int) -> Iterator[bytes]:
    """The whole of it, so many bytes at a time."""
    return (file[start : start + size] for start in range(0, len(file), size))


def _open_nameless(folder: Path | None) -> int:
    """:raises OSError: no folder, or a filesystem (NFS, some FUSE) or system (not Linux) that has no nameless files."""
    nameless = getattr(os, "O_TMPFILE", None)
    if folder is None or nameless is None:
        raise FileNotFoundError
    return os.open(folder, nameless | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE)


def _write_at(descriptor: int, data: bytes, start: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, start)
        left, start = left[written:], start + written
