"""Counting in Redis, and in this process while Redis fails in any way."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from limits.storage import RedisStorage

from api.limit_storage import PAUSE_S, SharedCounts
from api.moving_windows import Window
from api.process_counts import ProcessCounts
from observability.metrics import Metrics
from state.connection import open_redis
from tests.clock import Clock
from tests.faults.redis_states import FOREIGN, STATES, administrator
from tests.running import RedisServer

LIMIT, HOUR_S = 5, 3600


@pytest.fixture
def clock() -> Clock:
    return Clock()


MakeCounts = Callable[[], SharedCounts]


@pytest.fixture
def make_counts(redis_server: RedisServer, clock: Clock) -> Iterator[MakeCounts]:
    """Those of a worker."""
    clients: list[redis.Redis] = []

    def make() -> SharedCounts:
        clients.append(open_redis(redis_server.url))
        pool = clients[-1].connection_pool
        return SharedCounts(
            "shared-redis://", connection_pool=pool, key_prefix="shop", metrics=Metrics(redis=True), clock=clock
        )

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with administrator(redis_server) as made:
        made.ping()
        yield made


def hit(counts: SharedCounts, key: str = "caller", times: int = 1) -> list[bool]:
    return [counts.acquire_entry(key, LIMIT, HOUR_S) for _ in range(times)]


def counted(counts: SharedCounts, key: str = "caller") -> int:
    return counts.get_moving_window(key, LIMIT, HOUR_S)[1]


def test_two_workers_count_together(make_counts: MakeCounts) -> None:
    one, two = make_counts(), make_counts()
    assert [hit(one, times=2), hit(two, times=2), hit(one, times=2)] == [[True] * 2, [True] * 2, [True, False]]
    assert (counted(one), counted(two)) == (LIMIT, LIMIT)


@pytest.mark.parametrize("name", sorted(STATES))
def test_while_redis_is_of_no_use(
    make_counts: MakeCounts, admin: redis.Redis, clock: Clock, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(logging.WARNING, "api.limit_storage")
    one, two = make_counts(), make_counts()
    assert hit(one, times=4) == [True] * 4
    STATES[name].begin(admin)
    for counts in (one, two):
        assert hit(counts, times=LIMIT + 1) == [True] * LIMIT + [False], "each for itself, from nothing"
        assert counted(counts) == LIMIT
        assert not counts.shared
        clock.now += 2 * PAUSE_S
        assert hit(counts) == [False], "asked again, in vain"
    STATES[name].end(admin)
    assert hit(two) == [False], "not asked again so soon"
    assert not two.shared
    clock.now += 2 * PAUSE_S
    assert hit(one) == [True], "the fifth in Redis"
    assert hit(two) == [False]
    assert (counted(one), counted(two), one.shared, two.shared) == (LIMIT, LIMIT, True, True)
    assert [record.getMessage().startswith("redis fails") for record in caplog.records] == [True, True, False, False]


def test_a_burst_at_the_moment_when_redis_goes(make_counts: MakeCounts, redis_server: RedisServer) -> None:
    """Whoever was under way is counted, too: here, once."""
    counts = make_counts()
    assert hit(counts) == [True]
    redis_server.freeze()
    try:
        with ThreadPoolExecutor(16) as threads:
            passed = list(threads.map(lambda _: counts.acquire_entry("caller", LIMIT, HOUR_S), range(16)))
    finally:
        redis_server.thaw()
    assert passed.count(True) == LIMIT


def test_while_it_is_away_one_request_at_a_time_asks(
    make_counts: MakeCounts, redis_server: RedisServer, clock: Clock
) -> None:
    counts = make_counts()
    redis_server.stop()
    assert hit(counts, times=2) == [True, True]
    redis_server.start()
    with administrator(redis_server) as admin:
        before = admin.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
        assert before == 0, "nobody asked since"
        assert hit(counts, "another", times=2) == [True, True]
        assert "cmdstat_evalsha" not in admin.info("commandstats")
        clock.now += 2 * PAUSE_S
        assert hit(counts, "another") == [True]
        assert counts.shared
        assert counted(counts, "another") == 1


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_what_is_not_ours_is_replaced(make_counts: MakeCounts, admin: redis.Redis, kind: str) -> None:
    counts = make_counts()
    FOREIGN[kind](admin, counts.prefixed_key("caller"))
    FOREIGN[kind](admin, "somebody else's")
    with ThreadPoolExecutor(8) as threads:
        passed = list(threads.map(lambda _: counts.acquire_entry("caller", LIMIT, HOUR_S), range(16)))
    # Of a list it shows late that it holds no times.
    assert LIMIT <= passed.count(True) <= (2 * LIMIT if kind == "list" else LIMIT)
    assert counts.shared
    assert hit(make_counts()) == [False]
    assert admin.exists("somebody else's")
    assert 0 < admin.ttl(counts.prefixed_key("caller")) <= HOUR_S


def test_it_counts_as_a_process_does(make_counts: MakeCounts) -> None:
    """Whatever limits, of whatever windows, are asked for together."""
    shared, own, chance = make_counts(), ProcessCounts(), random.Random(1)
    for _ in range(150):
        limits = chance.sample((0, 1, 3, 40), chance.randint(1, 4))
        windows = [Window(f"key {limit}", limit, HOUR_S, chance.randint(1, 2)) for limit in limits]
        found, expected = shared.acquire_in_order(windows), own.acquire_in_order(windows)
        assert [(count.acquired, count.taken) for count in found] == [
            (count.acquired, count.taken) for count in expected
        ]
        ages = [[count.now - count.start for count in counts] for counts in (found, expected)]
        assert all(abs(age - own_age) < 1 for age, own_age in zip(*ages, strict=True))
    assert shared.shared


@pytest.mark.parametrize("old", range(5))
def test_what_is_too_old_does_not_count(make_counts: MakeCounts, admin: redis.Redis, old: int) -> None:
    counts, now = make_counts(), time.time()
    ages = [HOUR_S / 2 + 0.125] * (4 - old) + [2 * HOUR_S] * old
    admin.rpush(counts.prefixed_key("caller"), *(now - age for age in ages))
    (count,) = counts.acquire_in_order([Window("caller", 4, HOUR_S)])
    assert count.acquired == (old > 0)
    assert count.taken == min(4, 5 - old)
    assert abs(count.start - (now - ages[0] if old < 4 else time.time())) < 1
    assert admin.llen(counts.prefixed_key("caller")) == 4


def redis_time(admin: redis.Redis) -> float:
    seconds, microseconds = admin.time()
    return float(seconds + microseconds / 1e6)


@pytest.mark.parametrize(("future", "past"), [(LIMIT, 0), (3, 2), (2, 3), (1, 0)])
def test_what_is_of_the_future_does_not_count(
    make_counts: MakeCounts, admin: redis.Redis, future: int, past: int
) -> None:
    """Redis' clock was set back an hour: what came before that is the newest of the list."""
    counts, now = make_counts(), redis_time(admin)
    key = counts.prefixed_key("caller")
    admin.rpush(key, *(now + HOUR_S - n for n in range(future)), *(now - 60 - n for n in range(past)))
    (count,) = counts.acquire_in_order([Window("caller", LIMIT, HOUR_S)])
    assert (count.acquired, count.taken) == (True, past + 1)
    assert abs(count.start - (now - 60 - (past - 1) if past else now)) < 5
    assert hit(counts, times=LIMIT) == [True] * (LIMIT - past - 1) + [False] * (past + 1)
    times = [float(time) for time in admin.lrange(key, 0, -1)]
    assert times == sorted(times, reverse=True)
    assert times[0] < now + 60


def test_the_hosts_clocks_do_not_matter(make_counts: MakeCounts, admin: redis.Redis) -> None:
    """Redis' own counts, by which the callers are told as well."""
    (count,) = make_counts().acquire_in_order([Window("caller", LIMIT, HOUR_S)])
    (written,) = admin.lrange(make_counts().prefixed_key("caller"), 0, -1)
    assert abs(float(written) - redis_time(admin)) < 60
    assert float(written) == count.now == count.start


def test_two_services_on_one_database_count_apart(redis_server: RedisServer) -> None:
    client = open_redis(redis_server.url)
    shop, blog = (
        SharedCounts(
            "shared-redis://", connection_pool=client.connection_pool, key_prefix=prefix, metrics=Metrics(redis=True)
        )
        for prefix in ("shop", "blog")
    )
    assert [hit(shop, times=LIMIT + 1), hit(blog)] == [[True] * LIMIT + [False], [True]]
    assert {key.partition(b":")[0] for key in client.keys("*")} == {b"shop", b"blog"}
    client.close()


def test_a_key_that_is_not_ours_costs_the_others_nothing(make_counts: MakeCounts, admin: redis.Redis) -> None:
    counts = make_counts()
    FOREIGN["hash"](admin, counts.prefixed_key("hour"))
    windows = [Window("minute", LIMIT, 60), Window("hour", LIMIT, HOUR_S)]
    assert [count.taken for count in counts.acquire_in_order(windows)] == [1, 1]
    assert [count.taken for count in counts.acquire_in_order(windows)] == [2, 2]


def test_a_worker_of_another_release_counts_together_with_it(make_counts: MakeCounts) -> None:
    """One that hits window after window with limits' own scripts."""
    counts = make_counts()
    pool = counts.get_connection().connection_pool
    other = RedisStorage("redis://", connection_pool=pool, key_prefix="shop")
    assert [other.acquire_entry("caller", LIMIT, HOUR_S), *hit(counts, times=3)] == [True] * 4
    assert other.get_moving_window("caller", LIMIT, HOUR_S)[1] == counted(counts) == 4
    assert [other.acquire_entry("caller", LIMIT, HOUR_S) for _ in range(2)] == [True, False]
    assert hit(counts) == [False]
