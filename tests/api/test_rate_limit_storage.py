"""Windows that move: in this process, and in Redis while it can be used."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis

from api.rate_limit_redis import SharedStorage
from api.rate_limit_storage import SWEEP_S, ProcessStorage
from state.connection import open_redis
from state.failover import FailoverStore
from state.redis import RedisStore
from state.sqlite import SqliteStore
from tests.clock import Clock
from tests.faults.redis_states import FOREIGN, STATES, administrator
from tests.running import RedisServer, wait_until

LIMIT, MINUTE_S, HOUR_S = 5, 60, 3600

Storage = ProcessStorage | SharedStorage
MakeShared = Callable[..., SharedStorage]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def process(clock: Clock) -> ProcessStorage:
    made = ProcessStorage(clock=clock)
    made.timer.join()  # the library's own storage starts one when it is made
    return made


@pytest.fixture
def make_shared(redis_server: RedisServer, tmp_path: Path) -> Iterator[MakeShared]:
    """Makes the storage of one worker."""
    with ExitStack() as stack:

        def make(prefix: str = "shop") -> SharedStorage:
            client = stack.enter_context(closing(open_redis(redis_server.url)))
            store = FailoverStore(SqliteStore(tmp_path / "state"), RedisStore(client, prefix=prefix))
            stack.callback(store.close)
            store.start()
            assert store.up
            made = SharedStorage(client=client, prefix=prefix, store=store)
            made.store = store  # type: ignore[attr-defined]  # for the tests
            return made

        yield make


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with administrator(redis_server) as made:
        made.ping()
        yield made


def hit(storage: Storage, key: str = "caller", times: int = 1) -> list[bool]:
    return [storage.acquire_entry(key, LIMIT, HOUR_S) for _ in range(times)]


def counted(storage: Storage, key: str = "caller") -> int:
    return storage.get_moving_window(key, LIMIT, HOUR_S)[1]


def is_up(storage: SharedStorage) -> bool:
    return bool(storage.store.up)  # type: ignore[attr-defined]


# --- In one process -------------------------------------------------------------------------------------------------


def test_a_window_moves(process: ProcessStorage, clock: Clock) -> None:
    assert process.get_moving_window("a", 2, MINUTE_S) == (1000.0, 0)
    assert process.acquire_entry("a", 2, MINUTE_S)
    clock.now = 1030.0
    assert process.acquire_entry("a", 2, MINUTE_S)
    assert not process.acquire_entry("a", 2, MINUTE_S)
    assert process.acquire_entry("b", 2, MINUTE_S), "each caller has its own"
    assert process.get_moving_window("a", 2, MINUTE_S) == (1000.0, 2)
    clock.now = 1060.0
    assert not process.acquire_entry("a", 2, MINUTE_S), "the whole minute counts"
    clock.now = 1060.5
    assert process.get_moving_window("a", 2, MINUTE_S) == (1030.0, 1)
    assert [process.acquire_entry("a", 2, MINUTE_S) for _ in range(2)] == [True, False]


def test_refused_requests_do_not_count(process: ProcessStorage, clock: Clock) -> None:
    assert [process.acquire_entry("a", 1, MINUTE_S) for _ in range(5)] == [True] + [False] * 4
    clock.now += MINUTE_S + 1
    assert process.acquire_entry("a", 1, MINUTE_S)


def test_a_clock_that_is_set_back_closes_no_limit(process: ProcessStorage, clock: Clock) -> None:
    assert hit(process, times=LIMIT + 1) == [True] * LIMIT + [False]
    clock.now -= HOUR_S
    assert hit(process, times=LIMIT + 1) == [True] * LIMIT + [False]
    assert hit(process, "another") == [True]


def test_threads_get_no_more_than_the_limit(process: ProcessStorage) -> None:
    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(lambda _: process.acquire_entry("a", 50, MINUTE_S), range(400)))
    assert sum(passed) == 50


def test_callers_are_forgotten(process: ProcessStorage, clock: Clock) -> None:
    for caller in range(100):
        process.acquire_entry(f"minute {caller}", 5, MINUTE_S)
        process.acquire_entry(f"hour {caller}", 5, HOUR_S)
    clock.now += MINUTE_S + SWEEP_S
    process.acquire_entry("another", 5, MINUTE_S)
    assert len(process) == 101
    assert process.get_moving_window("hour 0", 5, HOUR_S) == (1000.0, 1)


def test_no_thread_is_started(process: ProcessStorage) -> None:
    last = process.timer
    assert all(process.acquire_entry("a", 100, MINUTE_S) for _ in range(100))
    assert process.timer is last


# --- In Redis -------------------------------------------------------------------------------------------------------


def test_two_workers_count_together(make_shared: MakeShared) -> None:
    one, two = make_shared(), make_shared()
    assert [hit(one, times=2), hit(two, times=2), hit(one, times=2)] == [[True] * 2, [True] * 2, [True, False]]
    assert (counted(one), counted(two)) == (LIMIT, LIMIT)


@pytest.mark.parametrize("name", sorted(STATES))
def test_while_redis_cannot_be_used(make_shared: MakeShared, admin: redis.Redis, name: str) -> None:
    one, two = make_shared(), make_shared()
    assert hit(one, times=4) == [True] * 4
    STATES[name].begin(admin)
    for storage in (one, two):
        assert hit(storage, times=LIMIT + 1) == [True] * LIMIT + [False], "each for itself, from nothing"
        assert counted(storage) == LIMIT
        assert not is_up(storage)
    time.sleep(0.6)
    assert not is_up(one)
    assert hit(one) == [False]
    STATES[name].end(admin)
    wait_until(lambda: is_up(one) and is_up(two), "both workers use Redis again")
    assert hit(one) == [True], "the fifth in Redis"
    assert hit(two) == [False]
    assert (counted(one), counted(two)) == (LIMIT, LIMIT)


def test_a_burst_at_the_moment_when_redis_hangs(make_shared: MakeShared, redis_server: RedisServer) -> None:
    """Nobody waits longer than a second, and everybody is counted: here, once."""
    storage = make_shared()
    assert hit(storage) == [True]
    redis_server.freeze()
    try:
        began = time.monotonic()
        with ThreadPoolExecutor(16) as threads:
            passed = list(threads.map(lambda _: storage.acquire_entry("caller", LIMIT, HOUR_S), range(16)))
        assert time.monotonic() - began < 1
    finally:
        redis_server.thaw()
    assert passed.count(True) == LIMIT


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_a_foreign_key_is_replaced(make_shared: MakeShared, admin: redis.Redis, kind: str) -> None:
    storage = make_shared()
    FOREIGN[kind](admin, storage.prefixed_key("caller"))
    FOREIGN[kind](admin, "somebody else's")
    with ThreadPoolExecutor(8) as threads:
        passed = list(threads.map(lambda _: hit(storage) == [True], range(16)))
    # A list turns out late to hold no times.
    assert LIMIT <= passed.count(True) <= (2 * LIMIT if kind == "list" else LIMIT)
    assert is_up(storage)
    assert hit(make_shared()) == [False]
    assert admin.exists("somebody else's")
    assert 0 < admin.ttl(storage.prefixed_key("caller")) <= HOUR_S


def test_it_counts_as_a_process_does(make_shared: MakeShared) -> None:
    shared, own, chance = make_shared(), ProcessStorage(), random.Random(1)
    for _ in range(150):
        limit, amount = chance.choice((0, 1, 3, 40)), chance.randint(1, 2)
        asked = f"key {limit}", limit, HOUR_S, amount
        assert shared.acquire_entry(*asked) == own.acquire_entry(*asked)
        (start, count), (own_start, own_count) = (s.get_moving_window(*asked[:3]) for s in (shared, own))
        assert count == own_count
        assert abs(start - own_start) < 1
    assert is_up(shared)


def redis_time(admin: redis.Redis) -> float:
    seconds, microseconds = admin.time()
    return float(seconds + microseconds / 1e6)


@pytest.mark.parametrize("past", range(LIMIT))
def test_a_clock_of_redis_that_was_set_back_closes_no_limit(
    make_shared: MakeShared, admin: redis.Redis, past: int
) -> None:
    storage, now = make_shared(), redis_time(admin)
    key = storage.prefixed_key("caller")
    admin.rpush(key, *(now + HOUR_S - n for n in range(LIMIT - past)), *(now - 60 - n for n in range(past)))
    assert hit(storage, times=LIMIT + 1) == [True] * LIMIT + [False]
    assert counted(storage) == LIMIT


def test_the_hosts_clocks_do_not_matter(make_shared: MakeShared, admin: redis.Redis) -> None:
    """The times are those of Redis' clock, within what a look at it takes."""
    storage = make_shared()
    assert hit(storage) == [True]
    (written,) = admin.lrange(storage.prefixed_key("caller"), 0, -1)
    assert abs(float(written) - redis_time(admin)) < 60
    assert abs(storage.now() - redis_time(admin)) < 1


def test_two_services_on_one_database_count_apart(make_shared: MakeShared, admin: redis.Redis) -> None:
    shop, blog = make_shared("shop"), make_shared("blog")
    assert [hit(shop, times=LIMIT + 1), hit(blog)] == [[True] * LIMIT + [False], [True]]
    assert {key.partition(b":")[0] for key in admin.keys("*")} == {b"shop", b"blog"}
