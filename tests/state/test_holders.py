"""Who is alive: on this host by a lock that the kernel frees, elsewhere by a key that is renewed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from state.files import lock, make_own_folder
from state.holders import HOLDER_S, Holders
from state.sqlite import SqliteStore
from tests.running import DEADLINE_S, ROOT

#: A store that two hosts share: for holders it does not matter which.
_HOLDER = """
import sys, time
from pathlib import Path
from state.holders import Holders
from state.sqlite import SqliteStore

holders = Holders(Path(sys.argv[1]), SqliteStore(Path(sys.argv[2])))
print(holders.me, flush=True)
time.sleep(3600)
"""


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "shared" / "state.db")


@contextmanager
def process(tmp_path: Path, host: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process of a host, by its holder's name."""
    command = [sys.executable, "-c", _HOLDER, str(tmp_path / host), str(tmp_path / "shared" / "state.db")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running.stdout.readline().strip(), running
        finally:
            running.kill()


def test_a_killed_process_of_this_host_is_dead_at_once_for_all_hosts(tmp_path: Path, store: SqliteStore) -> None:
    here, elsewhere = Holders(tmp_path / "one", store), Holders(tmp_path / "two", store)
    with process(tmp_path, "one") as (name, running):
        assert here.lives(name)
        assert elsewhere.lives(name)
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert not here.lives(name)
    assert not here.lives(name), "also when its file has been removed"
    assert not elsewhere.lives(name)
    here.close()
    elsewhere.close()


def test_a_process_of_another_host_lives_while_it_renews_its_key(tmp_path: Path, store: SqliteStore) -> None:
    one, two = Holders(tmp_path / "one", store), Holders(tmp_path / "two", store)
    assert one.lives(two.me)
    assert one.lives(one.me)
    store.delete(f"pool:holder:{two.me}")  # as its expiry does
    assert not one.lives(two.me)
    two.renew()
    assert one.lives(two.me)
    two.close()
    assert not one.lives(two.me)
    one.close()


def test_a_host_alone_needs_no_store(tmp_path: Path) -> None:
    one, two = Holders(tmp_path), Holders(tmp_path)
    one.renew()
    assert one.lives(two.me)
    two.close()
    two.close()
    assert not one.lives(two.me)
    assert not one.lives("0123-abcd")
    one.close()


def test_a_deleted_folder_is_made_anew(tmp_path: Path) -> None:
    one, two = Holders(tmp_path / "run"), Holders(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    for holders in (one, two):
        holders.renew()
    assert one.lives(two.me)
    assert two.lives(one.me)
    two.close()
    assert not one.lives(two.me)
    one.close()


def test_a_process_lives_on_though_another_removes_its_new_file(tmp_path: Path) -> None:
    """Whoever looks at the file before its lock is taken takes it for a dead process's."""
    one = Holders(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    file = tmp_path / "run" / "holders" / one.me
    make_own_folder(file.parent)
    seen = lock(file)
    with ThreadPoolExecutor(1) as thread:
        renewed = thread.submit(one.renew)
        with pytest.raises(TimeoutError):
            renewed.result(0.2)
        file.unlink()
        os.close(seen)
        renewed.result(DEADLINE_S)
    two = Holders(tmp_path / "run")
    assert two.lives(one.me)
    two.close()
    one.close()


def test_the_dead_expire_where_the_clock_was_set_back(tmp_path: Path, store: SqliteStore) -> None:
    """What was to expire in ten seconds is then kept for an hour and ten seconds, over a restart of everything."""
    one = Holders(tmp_path, store)
    store.put("pool:holder:dead", b"%.3f" % (time.time() + 3600), ttl_s=3610)
    assert one.lives("dead"), "it may be alive"
    ((_, _, left_s),) = store.items("pool:holder:dead")
    assert left_s <= HOLDER_S
    one.close()


@pytest.mark.parametrize("name", ["", ".", "..", "../victim", "/etc/passwd"])
def test_a_name_that_leads_elsewhere_is_nobody(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "run" / "victim"
    one = Holders(tmp_path / "run")
    victim.write_text("mine")
    assert not one.lives(name)
    assert victim.read_text() == "mine"
    one.close()


@pytest.mark.parametrize("value", [b"1", b"not a number"])
def test_another_versions_key_counts(tmp_path: Path, store: SqliteStore, value: bytes) -> None:
    store.put("pool:holder:ab12-cd34", value, ttl_s=10)
    one = Holders(tmp_path, store)
    assert one.lives("ab12-cd34")
    one.close()
