"""What every store promises, held against SQLite and Redis alike."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from state.store import Store
from tests.running import DEADLINE_S, ROOT, RedisServer, wait_until
from tests.state.store_process import one_more, open_store


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "run" / "state.db")
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
def store(address: str) -> Store:
    return open_store(address)


def test_a_value_is_what_was_put_last(store: Store) -> None:
    assert store.get("key") is None
    store.put("key", b"one", ttl_s=60)
    store.put("key", bytes(range(256)), ttl_s=60)
    assert store.get("key") == bytes(range(256))
    assert store.get("another key") is None


def test_the_head_of_a_value(store: Store) -> None:
    assert store.head("key", 4) == b""
    store.put("key", b"\x00one two", ttl_s=60)
    assert store.head("key", 4) == b"\x00one"
    assert store.head("key", 400) == b"\x00one two"
    store.put("key", b"", ttl_s=60)
    assert store.head("key", 4) == b""


def test_a_deleted_value_is_gone(store: Store) -> None:
    store.put("key", b"", ttl_s=60)
    assert store.get("key") == b""
    store.delete("key")
    store.delete("key")
    assert store.get("key") is None


def test_other_processes_see_it_at_once(store: Store, address: str) -> None:
    other = open_store(address)
    store.put("key", b"one", ttl_s=60)
    assert other.get("key") == b"one"
    other.update("key", lambda before: (before or b"") + b" two", ttl_s=60)
    assert store.get("key") == b"one two"


def test_a_value_expires(store: Store) -> None:
    store.put("put", b"1", ttl_s=0.05)
    store.update("updated", one_more, ttl_s=0.05)
    store.put("kept", b"1", ttl_s=60)
    wait_until(lambda: store.get("put") is None and store.get("updated") is None, "both have expired")
    assert store.get("kept") == b"1"
    assert store.update("put", one_more, ttl_s=60) == b"1", "an expired value is none"


def test_an_unchanged_value_expires_when_it_would_have(store: Store) -> None:
    store.put("key", b"1", ttl_s=1)
    assert store.update("key", lambda before: before or b"gone", ttl_s=600) in (b"1", b"gone")
    wait_until(lambda: store.get("key") != b"1", "it has expired")


def test_what_a_change_raises_is_raised_and_nothing_is_written(store: Store) -> None:
    def refuse(before: bytes | None) -> bytes:
        raise LookupError(before)

    store.put("key", b"1", ttl_s=60)
    with pytest.raises(LookupError):
        store.update("key", refuse, ttl_s=60)
    assert store.update("key", one_more, ttl_s=60) == b"2"


def test_a_change_may_read_other_keys(store: Store) -> None:
    store.put("other", b"seen", ttl_s=60)
    assert store.update("key", lambda before: store.get("other") or b"", ttl_s=60) == b"seen"


def test_its_clock_is_that_of_the_machine_it_is_on(store: Store) -> None:
    assert abs(store.now() - time.time()) < 60


def command(address: str, *words: str) -> list[str]:
    return [sys.executable, "-m", "tests.state.store_process", address, *words]


def test_no_change_of_four_processes_is_lost(store: Store, address: str) -> None:
    processes = [subprocess.Popen(command(address, "count", "150"), cwd=ROOT) for _ in range(4)]
    assert [process.wait(DEADLINE_S) for process in processes] == [0] * 4
    assert store.get("counter") == b"600"


def test_no_change_of_many_threads_is_lost(store: Store) -> None:
    threads = [
        threading.Thread(target=store.update, args=("counter", one_more), kwargs={"ttl_s": 60}) for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert store.get("counter") == b"40"


def test_a_process_killed_within_a_change_has_changed_nothing_and_holds_nothing_up(store: Store, address: str) -> None:
    store.put("counter", b"7", ttl_s=60)
    with subprocess.Popen(command(address, "hang"), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "within the change\n"
        assert store.get("counter") == b"7", "whoever reads waits for nobody"
        process.kill()
    assert store.update("counter", one_more, ttl_s=60) == b"8"
