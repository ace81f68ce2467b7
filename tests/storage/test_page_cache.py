"""What of the images stays in the system's page cache."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from storage.page_cache import Newest

SIZE = 128 * 1024


def cached_pages(path: Path) -> int:
    """As mincore(2) tells."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), SIZE) as mapped:
        found = (ctypes.c_ubyte * (SIZE // mmap.PAGESIZE))()
        held = ctypes.c_char.from_buffer(mapped)
        status = libc.mincore(ctypes.c_void_p(ctypes.addressof(held)), ctypes.c_size_t(SIZE), found)
        del held
    assert status == 0, os.strerror(ctypes.get_errno())
    return sum(page & 1 for page in found)


def written(path: Path) -> Path:
    with path.open("wb") as file:
        file.write(b"x" * SIZE)
        file.flush()
        os.fsync(file.fileno())
    return path


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [written(tmp_path / f"{number}.png") for number in range(5)]
    descriptor = os.open(found[0], os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    if cached_pages(found[0]):
        pytest.skip("this filesystem is itself in memory")
    return [written(path) for path in found]


def test_only_the_newest_stay(paths: list[Path]) -> None:
    newest = Newest(most_bytes=2 * SIZE)
    for path in paths:
        newest.make_room()
        newest.add(path, SIZE)
    assert [cached_pages(path) > 0 for path in paths] == [False, False, True, True, True], "until the next one comes"
    newest.make_room()
    assert [cached_pages(path) > 0 for path in paths] == [False, False, False, True, True]
    assert paths[0].read_bytes() == b"x" * SIZE


def test_removed_ones_are_no_matter(paths: list[Path]) -> None:
    newest = Newest(most_bytes=SIZE)
    for path in paths:
        newest.add(path, SIZE)
        path.unlink()
    newest.make_room()


def test_one_larger_than_all_that_may_stay(paths: list[Path]) -> None:
    newest = Newest(most_bytes=SIZE - 1)
    newest.add(paths[0], SIZE)
    newest.make_room()
    assert cached_pages(paths[0]) == 0
