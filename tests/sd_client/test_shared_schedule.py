"""One schedule for several processes of a host and of several hosts, with stores that fail and processes that die."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from sd_client import schedule
from sd_client.errors import QueueUnavailableError
from sd_client.granting import grant
from sd_client.schedule import Job, Schedule
from sd_client.shared_schedule import OTHER_HOSTS_S, SETTLE_HERE_S, SharedSchedule
from state.failover import FailoverStore
from state.holders import Holders
from state.redis import RedisStore
from state.sqlite import STATE_FILE, SqliteStore
from state.store import Store
from tests.pools import stored_schedule
from tests.running import DEADLINE_S, ROOT, RedisServer, wait_until

KEY = "pool:schedule"


class Process:
    """
    What one process of the service has: a store, a holder and the schedule.

    :param redis: the way to Redis; None: the host is alone.
    """

    def __init__(self, folder: Path, redis: redis.Redis | None = None) -> None:
        host = SqliteStore(folder / STATE_FILE)
        self.failover = None if redis is None else FailoverStore(host, RedisStore(redis, prefix="shop"))
        self.store: Store = self.failover or host
        self.holders = Holders(folder, self.failover)
        self.shared = SharedSchedule(self.store, self.holders)
        if self.failover is not None:
            self.failover.start()

    def is_connected(self) -> bool:
        return self.failover is not None and self.failover.up

    def enter(self, ticket: str) -> str | None:
        """Where a new job runs; None if it waits."""
        job = Job(ticket=ticket, holder=self.holders.me, webuis=("w",), model="m", since=self.store.now())
        found = self.shared.change(lambda state: self._granted(schedule.enter(state, job)), enters=job).find(ticket)
        return found.webui if found else None

    def leave(self, ticket: str) -> None:
        self.shared.change(lambda state: self._granted(schedule.leave(state, ticket)), leaves=ticket)

    def keep(self) -> Schedule:
        """As every process does twice a second."""
        self.holders.renew()
        seen = self.shared.look()
        dead = {job.holder for job in (*seen.waiting, *seen.running) if not self.holders.lives(job.holder)}
        return self.shared.change(lambda state: self._granted(schedule.forget(state, dead)))

    def close(self) -> None:
        self.holders.close()
        if self.failover is not None:
            self.failover.close()

    def _granted(self, state: Schedule) -> Schedule:
        if not self.shared.settled():
            return state
        return grant(state, slots=1, patience_s=0.0, now=self.store.now())


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two processes with one schedule."""

    one: Process
    other: Process


MakeProcess = Callable[[Path, redis.Redis | None], Process]


@pytest.fixture
def make_process() -> Iterator[MakeProcess]:
    with ExitStack() as stack:

        def make(folder: Path, redis: redis.Redis | None = None) -> Process:
            process = Process(folder, redis)
            stack.callback(process.close)
            return process

        yield make


def way_to(server: RedisServer, path: Path | None = None) -> redis.Redis:
    url = server.url if path is None else f"unix://{path}"
    return redis.Redis.from_url(url, socket_timeout=0.25, socket_connect_timeout=0.25)


@pytest.fixture
def hosts(make_process: MakeProcess, redis_server: RedisServer, tmp_path: Path) -> Pair:
    """Of two hosts, with Redis."""
    one, other = (make_process(tmp_path / name, way_to(redis_server)) for name in ("one", "other"))
    return Pair(one=one, other=other)


@pytest.fixture
def host(make_process: MakeProcess, tmp_path: Path) -> Pair:
    """Of one host, without Redis."""
    one, other = (make_process(tmp_path / "host", None) for _ in range(2))
    return Pair(one=one, other=other)


@pytest.fixture(params=["host", "hosts"])
def pair(request: pytest.FixtureRequest) -> Pair:
    made: Pair = request.getfixturevalue(request.param)
    return made


def tickets(jobs: tuple[Job, ...]) -> list[str]:
    return [job.ticket for job in jobs]


# --- As long as nothing fails -----------------------------------------------------------------------------------------


def test_two_processes_share_one_place(pair: Pair) -> None:
    assert pair.one.enter("first") == "w"
    assert pair.other.enter("second") is None
    assert tickets(pair.one.shared.look().waiting) == ["second"]
    pair.one.leave("first")
    assert tickets(pair.other.shared.look().running) == ["second"]
    assert pair.other.shared.seen() == stored_schedule(pair.one.store)
    assert (pair.one.shared.has_jobs(), pair.other.shared.has_jobs()) == (False, True)


def test_concurrent_changes_of_threads_and_processes_lose_nothing(pair: Pair) -> None:
    def enter_many(name: int) -> None:
        for number in range(20):
            (pair.one if name % 2 else pair.other).enter(f"{name}-{number}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(enter_many, range(4)))
    found = pair.one.shared.look()
    assert (len(found.waiting), len(found.running)) == (79, 1)


def test_a_change_that_raises_changes_nothing(pair: Pair) -> None:
    pair.one.enter("first")
    before = pair.one.shared.look()

    def refuse(state: Schedule) -> Schedule:
        raise LookupError("full")

    job = Job(ticket="second", holder=pair.one.holders.me, webuis=("w",), model="m", since=0.0)
    with pytest.raises(LookupError):
        pair.one.shared.change(refuse, enters=job)
    assert pair.one.keep() == before


# --- Processes that die -----------------------------------------------------------------------------------------------


def test_a_process_that_ends_frees_its_places(pair: Pair) -> None:
    pair.one.enter("first")
    pair.one.enter("second")
    assert pair.other.enter("third") is None
    pair.one.holders.close()
    state = pair.other.keep()
    assert (tickets(state.waiting), tickets(state.running)) == ([], ["third"])


HOLDING = """
import sys, time
from pathlib import Path
from tests.sd_client.test_shared_schedule import Process
process = Process(Path(sys.argv[1]))
print(process.enter("theirs"), process.enter("waiting"), flush=True)
time.sleep(600)
"""


def test_a_killed_process_of_this_host_frees_its_places_at_once(make_process: MakeProcess, tmp_path: Path) -> None:
    process = make_process(tmp_path, None)
    other = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"w None\n"
        assert process.enter("mine") is None
        assert tickets(process.keep().waiting) == ["waiting", "mine"]
    finally:
        other.kill()
        other.communicate(timeout=DEADLINE_S)
    state = process.keep()
    assert (tickets(state.waiting), tickets(state.running)) == ([], ["mine"])


def test_a_process_that_was_taken_for_dead_puts_its_jobs_back(pair: Pair) -> None:
    pair.one.enter("first")
    pair.one.enter("waits")
    pair.other.shared.change(lambda state: schedule.forget(state, {pair.one.holders.me}))
    assert pair.other.enter("second") == "w"
    state = pair.one.keep()
    assert (tickets(state.waiting), sorted(tickets(state.running))) == (["waits"], ["first", "second"])
    pair.other.leave("second")
    assert tickets(pair.one.shared.look().running) == ["first"], "it is still busy"


# --- A schedule that is lost ------------------------------------------------------------------------------------------

LOSSES: dict[str, bytes | None] = {
    "deleted": None,
    "empty": b"",
    "garbage": b"\xff\xfe\x00",
    "another release's": b'{"waiting": [{"ticket": "x"}], "running": [], "a later release": {}}',
}


@pytest.mark.parametrize("value", LOSSES.values(), ids=LOSSES.keys())
def test_after_it_was_lost_nobody_gets_a_place_before_all_have_put_their_jobs_back(
    pair: Pair, value: bytes | None
) -> None:
    pair.one.enter("first")
    pair.other.enter("second")
    if value is None:
        pair.one.store.delete(KEY)
    else:
        pair.one.store.put(KEY, value, ttl_s=60)
    assert pair.other.enter("third") is None
    assert not pair.other.shared.settled()
    assert tickets(pair.one.keep().running) == ["first"]
    wait_until(pair.other.shared.settled, "all have put their jobs back")
    state = pair.other.keep()
    assert (tickets(state.waiting), tickets(state.running)) == (["second", "third"], ["first"])


@pytest.mark.parametrize("value", LOSSES.values(), ids=LOSSES.keys())
def test_after_it_was_lost_a_process_still_sees_its_own_jobs(pair: Pair, value: bytes | None) -> None:
    pair.one.enter("first")
    pair.one.enter("waits")
    if value is None:
        pair.one.store.delete(KEY)
    else:
        pair.one.store.put(KEY, value, ttl_s=60)
    for _ in range(2):
        state = pair.one.shared.look()
        assert (tickets(state.waiting), tickets(state.running)) == (["waits"], ["first"])
    pair.one.leave("first")
    assert "first" not in tickets(pair.one.shared.look().running)


def test_after_it_was_lost_a_process_that_had_no_jobs_grants_none_either(pair: Pair) -> None:
    assert pair.one.enter("first") == "w"
    pair.other.shared.look()
    pair.other.store.delete(KEY)
    assert pair.other.enter("second") is None
    pair.one.keep()
    assert tickets(pair.other.shared.look().running) == ["first"]


def test_runtime_dir_is_deleted(host: Pair, tmp_path: Path) -> None:
    host.one.enter("first")
    host.other.enter("second")
    shutil.rmtree(tmp_path / "host")
    host.one.holders.renew()
    host.other.keep()
    state = host.one.keep()
    assert (tickets(state.waiting), tickets(state.running)) == (["second"], ["first"])
    assert host.other.keep() == state, "both are alive in the eyes of each other"
    assert (tmp_path / "host").stat().st_mode & 0o077 == 0


def test_a_store_that_cannot_be_used(host: Pair, tmp_path: Path) -> None:
    host.one.enter("first")
    shutil.rmtree(tmp_path / "host")
    (tmp_path / "host").write_text("a file")
    with pytest.raises(QueueUnavailableError):
        host.one.enter("second")
    with pytest.raises(QueueUnavailableError):
        host.one.shared.look()
    with pytest.raises(QueueUnavailableError):
        host.one.leave("first")
    assert not host.one.shared.has_jobs()
    (tmp_path / "host").unlink()
    state = host.one.keep()
    assert (state.waiting, state.running) == ((), ())


# --- Redis that fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_without_redis_each_host_goes_on(hosts: Pair, redis_server: RedisServer, how: str) -> None:
    hosts.one.enter("first")
    redis_server.stop() if how == "stopped" else redis_server.freeze()
    try:
        state = hosts.one.keep()
        assert not hosts.one.shared.settled()  # other workers of this host may have jobs that are not in its store yet
        assert [(job.ticket, job.webui) for job in state.running] == [("first", "w")]
        assert hosts.one.enter("second") is None
        wait_until(hosts.one.shared.settled, "the host's processes have put their jobs back")
        hosts.one.leave("first")
        assert tickets(hosts.one.shared.look().running) == ["second"]
    finally:
        if how == "frozen":
            redis_server.thaw()


def test_what_another_host_runs_is_left_to_it_for_a_while(hosts: Pair, redis_server: RedisServer) -> None:
    hosts.one.enter("first")
    assert hosts.other.enter("second") is None
    redis_server.stop()
    hosts.other.keep()
    began = time.monotonic()
    wait_until(hosts.other.shared.settled, "it has settled")
    assert tickets(hosts.other.keep().waiting) == ["second"]
    wait_until(lambda: not hosts.other.keep().waiting, "after a while it takes the place")
    assert time.monotonic() - began > OTHER_HOSTS_S - 1
    assert tickets(hosts.other.shared.look().running) == ["second"]

    redis_server.start()
    wait_until(lambda: hosts.one.is_connected() and hosts.other.is_connected(), "it is back")
    hosts.one.holders.renew()
    hosts.other.keep()
    state = hosts.one.keep()
    assert sorted(tickets(state.running)) == ["first", "second"]


def test_what_another_process_of_the_host_runs_it_puts_back_itself(
    make_process: MakeProcess, redis_server: RedisServer, tmp_path: Path
) -> None:
    one, other = (make_process(tmp_path, way_to(redis_server)) for _ in range(2))
    one.enter("first")
    other.enter("second")
    redis_server.stop()
    assert tickets(other.keep().running) == []
    state = one.keep()
    assert (tickets(state.waiting), tickets(state.running)) == (["second"], ["first"])


def test_when_redis_is_back_all_share_it_again(hosts: Pair, redis_server: RedisServer) -> None:
    hosts.one.enter("first")
    redis_server.stop()
    hosts.one.keep()
    time.sleep(SETTLE_HERE_S)
    redis_server.start()
    wait_until(lambda: hosts.one.is_connected() and hosts.other.is_connected(), "it is back")
    assert hosts.other.enter("second") is None
    hosts.one.keep()
    wait_until(lambda: hosts.one.shared.settled() and hosts.other.shared.settled(), "both have settled")
    state = hosts.other.keep()
    assert (tickets(state.waiting), tickets(state.running)) == (["second"], ["first"])


def test_a_redis_that_is_down_at_the_start_costs_nothing(
    make_process: MakeProcess, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.stop()
    assert make_process(tmp_path, way_to(redis_server)).enter("first") == "w"


def test_a_host_that_is_cut_off_and_comes_back(
    make_process: MakeProcess, redis_server: RedisServer, tmp_path: Path
) -> None:
    """The other host takes its places once it counts as dead; back again, it has what it runs."""
    cable = tmp_path / "cable"
    cable.symlink_to(redis_server.url.removeprefix("unix://"))
    way = way_to(redis_server, cable)
    cut_off, other = make_process(tmp_path / "cut-off", way), make_process(tmp_path / "other", way_to(redis_server))
    cut_off.enter("first")
    assert other.enter("second") is None
    cable.unlink()
    way.connection_pool.disconnect()
    assert tickets(cut_off.keep().running) == ["first"]
    assert tickets(other.keep().waiting) == ["second"], "it may be alive"
    other.store.delete(f"pool:holder:{cut_off.holders.me}")  # as it does after ten seconds by itself
    assert tickets(other.keep().running) == ["second"]

    cable.symlink_to(redis_server.url.removeprefix("unix://"))
    wait_until(cut_off.is_connected, "it is back")
    cut_off.keep()
    assert sorted(tickets(other.keep().running)) == ["first", "second"]
    for process, ticket in ((cut_off, "first"), (other, "second")):
        process.leave(ticket)
    state = other.shared.look()
    assert (state.waiting, state.running) == ((), ())
