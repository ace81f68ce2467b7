"""Which jobs of a caller are open: a bounded list, without those of the dead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.open_jobs import MOST_JOBS, OpenJobs
from state.holders import Holders
from state.sqlite import SqliteStore
from state.store import StoreError
from tests.running import DEADLINE_S, ROOT

BEGIN_AND_DIE = """
import os, sys
from pathlib import Path
from services.open_jobs import OpenJobs
from state.holders import Holders
from state.sqlite import SqliteStore

folder = Path(sys.argv[1])
store = SqliteStore(folder / "state.sqlite")
jobs = OpenJobs(store=store, host=store, holders=Holders(folder), longest_s=60)
with jobs.open("me", "lost", kind="txt2img"):
    os._exit(0)
"""


class Failing(SqliteStore):
    """A store that can be used no more."""

    fails = False

    def get(self, key: str) -> bytes | None:
        if self.fails:
            raise StoreError("Redis is down")
        return super().get(key)

    def update(self, key, change, *, ttl_s: float) -> bytes:
        if self.fails:
            raise StoreError("Redis is down")
        return super().update(key, change, ttl_s=ttl_s)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "state.sqlite")
    yield store
    store.close()


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    made = Holders(tmp_path)
    yield made
    made.close()


def open_jobs(store: SqliteStore, host: SqliteStore, holders: Holders, *, longest_s: float = 60) -> OpenJobs:
    return OpenJobs(store=store, host=host, holders=holders, longest_s=longest_s)


def test_a_job_is_listed_until_it_ends(host: SqliteStore, holders: Holders) -> None:
    jobs = open_jobs(host, host, holders)
    with jobs.open("me", "first", kind="txt2img"), jobs.open("me", "second", kind="img2img"):
        assert [(job.request, job.kind) for job in jobs.of("me")] == [("first", "txt2img"), ("second", "img2img")]
        assert jobs.of("you") == ()
    assert jobs.of("me") == ()
    with pytest.raises(RuntimeError, match="it fails"), jobs.open("me", "first", kind="txt2img"):
        raise RuntimeError("it fails")
    assert jobs.of("me") == ()


def test_the_list_is_bounded(host: SqliteStore, holders: Holders) -> None:
    jobs = open_jobs(host, host, holders)
    with ExitStack() as stack:
        for number in range(MOST_JOBS + 5):
            stack.enter_context(jobs.open("me", str(number), kind="txt2img"))
        assert [job.request for job in jobs.of("me")] == [str(number) for number in range(MOST_JOBS)]
    assert jobs.of("me") == ()


def test_jobs_of_dead_processes_vanish_with_the_next(host: SqliteStore, holders: Holders, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BEGIN_AND_DIE, str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=DEADLINE_S)
    jobs = open_jobs(host, host, holders)
    assert [job.request for job in jobs.of("me")] == ["lost"]
    with jobs.open("me", "mine", kind="txt2img"):
        assert [job.request for job in jobs.of("me")] == ["mine"]


def test_a_job_that_takes_longer_than_possible_vanishes(host: SqliteStore, holders: Holders) -> None:
    brief, usual = (open_jobs(host, host, holders, longest_s=longest_s) for longest_s in (1e-9, 60))
    with usual.open("me", "old", kind="txt2img"), brief.open("me", "new", kind="txt2img"):
        assert [job.request for job in usual.of("me")] != ["old", "new"]


def test_the_host_knows_its_own_when_the_shared_store_fails(
    host: SqliteStore, holders: Holders, tmp_path: Path
) -> None:
    shared = Failing(tmp_path / "shared.sqlite")
    jobs = open_jobs(shared, host, holders)
    with jobs.open("me", "first", kind="txt2img"):
        shared.fails = True
        assert [job.request for job in jobs.of("me")] == ["first"]
        with jobs.open("me", "second", kind="txt2img"):
            assert [job.request for job in jobs.of("me")] == ["first", "second"]
    assert jobs.of("me") == ()
    shared.close()


def test_what_another_version_wrote_is_no_list(host: SqliteStore, holders: Holders) -> None:
    jobs = open_jobs(host, host, holders)
    with jobs.open("me", "first", kind="txt2img"):
        ((key, _, _),) = host.items("jobs:")
        host.put(key, b'[{"a": 1}]', ttl_s=60)
        assert jobs.of("me") == ()
        with jobs.open("me", "second", kind="txt2img"):
            assert [job.request for job in jobs.of("me")] == ["second"]
