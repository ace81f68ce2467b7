"""A picture's file while it is on its way."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path

import pytest

from spool import Spool

DATA = bytes(range(256)) * 100


def filled(spool: Spool) -> Spool:
    for start in range(0, len(DATA), 1000):
        spool.write(DATA[start : start + 1000])
    return spool


def spools(folder: Path) -> list[Spool]:
    stored = folder / "stored"
    stored.write_bytes(DATA)
    with stored.open("rb") as file:
        return [filled(Spool(folder)), Spool.of(file)]


def open_below(folder: Path) -> list[str]:
    """The files in a folder that this process holds open; what its other threads open elsewhere is none of them."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed by another thread, or the listing's own
            names.append(str(descriptor.readlink()))
    return [name for name in names if name.startswith(f"{folder}/")]


def test_reads_as_bytes_do(tmp_path: Path) -> None:
    for spool in spools(tmp_path):
        file = spool.finished()
        assert len(file) == len(DATA)
        for part in (slice(None), slice(0, 16), slice(-12, None), slice(500, 300), slice(25_000, 99_999), slice(7, 7)):
            assert file[part] == DATA[part]


def test_in_memory_it_is_bytes() -> None:
    spool = filled(Spool())
    assert spool.finished() == DATA


def test_it_has_no_name_until_it_is_given_one(tmp_path: Path) -> None:
    spool = filled(Spool(tmp_path))
    assert os.listdir(tmp_path) == []
    spool.give_name(tmp_path / "a.png")
    spool.flush()
    assert (tmp_path / "a.png").read_bytes() == DATA
    os.unlink(tmp_path / "a.png")
    assert spool[:] == DATA


def test_a_name_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"another")
    with pytest.raises(FileExistsError):
        filled(Spool(tmp_path)).give_name(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"another"


def test_nothing_is_left_of_one_that_nobody_holds(tmp_path: Path) -> None:
    held = spools(tmp_path)
    assert len(open_below(tmp_path)) == len(held)
    del held
    gc.collect()
    assert open_below(tmp_path) == []


@pytest.mark.parametrize("folder", ["missing", "a file", "/proc/self"])
def test_where_no_file_can_be_it_is_held_in_memory(tmp_path: Path, folder: str) -> None:
    (tmp_path / "a file").touch()
    assert filled(Spool(tmp_path / folder)).finished() == DATA


def test_only_what_lies_side_by_side(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="side by side"):
        filled(Spool(tmp_path))[::2]


def test_a_file_that_was_cut_is_told(tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        spool = Spool.of(file)
    os.truncate(path, 10)
    with pytest.raises(OSError, match="shorter"):
        spool[:]
