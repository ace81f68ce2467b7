"""The system's page cache, which keeps every file that was written until it needs the memory for something else."""

import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

#: Of images that were just made and are often fetched at once: some six of 1024 x 1024, in each process.
_MOST_BYTES = 16 * 1024 * 1024
#: What a small one counts as, so that not too many are remembered.
_LEAST_BYTES = 64 * 1024


class Newest:
    """
    Keeps the newest images there and gives the others' memory back, for the next ones to lie in.

    New memory costs several times what it costs to write to it, on virtual machines above all, whose hosts take what is
    free; and images that nobody asks for drive out of the cache what somebody does. One that is asked for later is read
    from the disk, and stays as any other file.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: deque[tuple[Path, int]] = deque()
        self._bytes = 0
        self._mutex = threading.Lock()

    def add(self, path: Path, size: int) -> None:
        """A file that has just been written, and has reached the disk: what has not is not given back."""
        counted = max(size, _LEAST_BYTES)
        with self._mutex:
            self._kept.append((path, counted))
            self._bytes += counted

    def make_room(self) -> None:
        """To be called right before the next one is written: a host takes back within seconds what is not used."""
        older = []
        with self._mutex:
            while self._bytes > self._most_bytes:
                older.append(self._kept.popleft())
                self._bytes -= older[-1][1]
        for old, _ in older:
            _give_back(old)


def _give_back(path: Path) -> None:
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    with suppress(OSError):  # removed since
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)
