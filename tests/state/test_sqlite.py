"""The file of one host: deleted, damaged, on a full disk, written with another clock."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from state.sqlite import SqliteStore
from state.store import StoreError
from tests.running import ROOT
from tests.state.store_process import one_more


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "state.db"


@pytest.mark.parametrize("journal", ["WAL", "TRUNCATE"])
@pytest.mark.parametrize("what", ["folder", "file", "all files"])
def test_a_deleted_file_is_made_anew_by_whoever_comes(path: Path, what: str, journal: str) -> None:
    one, other = (SqliteStore(path, journal=journal) for _ in range(2))
    one.put("key", b"1", ttl_s=60)
    assert other.get("key") == b"1"
    if what == "folder":
        shutil.rmtree(path.parent.rename(path.parent.with_name("deleted")))
    elif what == "file":
        path.unlink()
    else:
        for file in path.parent.iterdir():
            file.unlink()
    assert other.get("key") is None
    other.put("key", b"2", ttl_s=60)
    assert one.update("key", one_more, ttl_s=60) == b"3"
    one.close()
    assert other.get("key") == b"3", "closing what was deleted leaves the new file alone"
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"not a database at all, but long enough for a header" * 200, b"", b"\0" * 8192])
def test_a_damaged_file_is_made_anew(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    store = SqliteStore(path)
    store.put("key", b"1", ttl_s=60)
    assert store.get("key") == b"1"
    assert ["was damaged and has been made anew" in record.getMessage() for record in caplog.records] == (
        [True] if content else []
    )


def test_a_file_that_is_damaged_while_it_is_used_is_made_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, other = SqliteStore(path, journal="TRUNCATE"), SqliteStore(path, journal="TRUNCATE")
    one.put("key", b"1", ttl_s=60)
    assert other.get("key") == b"1"
    with path.open("rb+") as file:
        file.write(b"\xff" * path.stat().st_size)
    for store in (one, other):
        store.put("key", b"2", ttl_s=60)
    assert one.update("key", one_more, ttl_s=60) == b"3"
    assert other.get("key") == b"3"
    assert sum("made anew" in record.getMessage() for record in caplog.records) == 1


def test_another_programs_table_is_replaced(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir(mode=0o700)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE state (something TEXT)")
    connection.close()
    store = SqliteStore(path)
    store.put("key", b"1", ttl_s=60)
    assert store.get("key") == b"1"
    assert "made anew" in caplog.text


def test_a_folder_that_cannot_be_used_is_an_error_that_says_so(path: Path) -> None:
    path.parent.write_text("no folder")
    with pytest.raises(StoreError, match=r"File exists|Not a directory"):
        SqliteStore(path).get("key")


def test_a_folder_that_others_may_write_into_is_not_used(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(StoreError, match="not this user's alone"):
        SqliteStore(path).put("key", b"1", ttl_s=60)


_FULL = """
import logging, sys
from pathlib import Path
from state.sqlite import SqliteStore
from state.store import StoreFullError

folder, begun = Path(sys.argv[1]), sys.argv[2] == "begun"
store = SqliteStore(folder / "state.db")
if begun:
    store.put("key", b"1", ttl_s=60)
with (folder / "filling").open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
try:
    for _ in range(100):
        store.put("large", bytes(100_000), ttl_s=60)
except StoreFullError as error:
    print(error)
if begun:
    assert store.get("key") == b"1"
(folder / "filling").unlink()
store.put("large", bytes(100_000), ttl_s=60)
assert store.get("large") == bytes(100_000)
print("heals")
"""


@pytest.mark.parametrize("when", ["begun", "new"])
def test_a_full_disk_is_an_error_that_says_so(own_mounts: list[str], tmp_path: Path, when: str) -> None:
    mount = ["sh", "-c", 'mount -t tmpfs -o size=2m,mode=700 tmpfs "$0" && exec "$@"', str(tmp_path)]
    command = [*own_mounts, *mount, sys.executable, "-c", _FULL, str(tmp_path), when]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "No space left on device\nheals\n"), found.stderr


@pytest.mark.parametrize("ahead_s", [3600, 400 * 86_400])
def test_a_value_written_before_the_clock_was_set_back_lives_as_long_as_any_other(path: Path, ahead_s: int) -> None:
    SqliteStore(path).put("key", b"1", ttl_s=100)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE state SET written = written + ?1, expires = expires + ?1", (ahead_s,))
    connection.close()
    ((_, value, left_s),) = SqliteStore(path).items("key")
    assert value == b"1"
    assert 30 < left_s < 101


def test_items_are_those_of_a_prefix(path: Path) -> None:
    store = SqliteStore(path)
    for number in range(1200):
        store.put(f"many:{number}", b"%d" % number, ttl_s=60)
    store.put("other:1", b"1", ttl_s=60)
    store.put("many:old", b"1", ttl_s=0.001)
    time.sleep(0.002)
    found = {key: value for key, value, left_s in store.items("many:") if 0 < left_s <= 60}
    assert found == {f"many:{number}": b"%d" % number for number in range(1200)}


def test_it_holds_few_descriptors(path: Path) -> None:
    store = SqliteStore(path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        store.put(str(number), b"1", ttl_s=60)
    assert len(os.listdir("/proc/self/fd")) - before <= 4


def test_what_has_expired_does_not_fill_the_disk(path: Path) -> None:
    store = SqliteStore(path, sweep_s=0)
    for number in range(200):
        store.put(f"old {number}", b"x", ttl_s=0.001)
    time.sleep(0.002)
    store.put("new", b"x", ttl_s=60)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT key FROM state").fetchall() == [("new",)]
    connection.close()
