"""Two hosts and a real Redis that is stopped, frozen, full, read-only or emptied, and comes back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from state.failover import FailoverStore
from state.redis import RedisStore
from state.sqlite import SqliteStore
from state.store import StoreError
from tests.faults.redis_states import FOREIGN, STATES, administrator
from tests.running import DEADLINE_S, RedisServer, wait_until
from tests.state.store_process import one_more

MakeHost = Callable[..., FailoverStore]


def client(server: RedisServer) -> redis.Redis:
    """More patient than the service's, for machines that do much else."""
    return redis.Redis.from_url(server.url, socket_timeout=3, retry=Retry(NoBackoff(), 0))


@pytest.fixture
def make_host(redis_server: RedisServer, tmp_path: Path) -> Iterator[MakeHost]:
    """The store of a host, by the host's name: two of one name share its files."""
    made: list[FailoverStore] = []

    def make(name: str, *, on_error: Callable[[], None] = lambda: None) -> FailoverStore:
        store = FailoverStore(
            SqliteStore(tmp_path / name / "state.db"),
            RedisStore(client(redis_server)),
            durable=("kept:", "choice:"),
            kept=SqliteStore(tmp_path / name / "kept.db", journal="TRUNCATE"),
            on_error=on_error,
        )
        store.start()
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with administrator(redis_server) as made:
        made.ping()
        yield made


def seconds(call: Callable[[], object]) -> float:
    begun = time.monotonic()
    call()
    return time.monotonic() - begun


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "state.failover"]


def test_hosts_share_their_values(make_host: MakeHost) -> None:
    one, two = make_host("one"), make_host("two")
    assert one.up
    for key in ("key", "kept:key", "choice:key"):
        one.put(key, b"1", ttl_s=60)
        assert two.get(key) == b"1"
        assert two.update(key, one_more, ttl_s=60) == b"2"
        assert one.head(key, 10) == b"2"
        two.delete(key)
        assert two.get(key) is None
    assert one.changed_at == 0.0


def test_its_time_is_that_of_redis(make_host: MakeHost, admin: redis.Redis) -> None:
    seconds, _ = admin.time()
    assert abs(make_host("one").now() - seconds) < 30


@pytest.mark.parametrize("name", ["stopped", "frozen", *sorted(STATES)])
def test_a_host_goes_on_by_itself_while_redis_is(
    make_host: MakeHost, redis_server: RedisServer, admin: redis.Redis, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "state.failover")
    failed = threading.Event()
    one, two = make_host("one", on_error=failed.set), make_host("two")
    one.put("kept:before", b"1", ttl_s=60)
    begin: dict[str, Callable[[], object]] = {"stopped": redis_server.stop, "frozen": redis_server.freeze}
    end: dict[str, Callable[[], object]] = {"stopped": redis_server.start, "frozen": redis_server.thaw}
    begin.get(name, lambda: STATES[name].begin(admin))()

    assert seconds(lambda: one.put("key", b"1", ttl_s=60)) < 10
    wait_until(lambda: not one.up, "the first host sees it")
    assert failed.is_set()
    assert one.get("key") == b"1"
    assert one.update("key", one_more, ttl_s=60) == b"2"
    assert one.update("kept:before", one_more, ttl_s=60) == b"2", "durable keys are on the host's disk as well"
    one.put("kept:meanwhile", b"1", ttl_s=60)
    one.update("choice:meanwhile", one_more, ttl_s=60)
    assert seconds(lambda: [one.get("key") for _ in range(100)]) < 1, "nobody asks Redis meanwhile"
    wait_until(lambda: not two.up, "the second host sees it")
    assert two.get("key") is None

    end.get(name, lambda: STATES[name].end(admin))()
    wait_until(lambda: one.up and two.up, "both use it again")
    assert one.changed_at > 0
    missed = ("kept:before", "kept:meanwhile", "choice:meanwhile")
    wait_until(lambda: [two.get(key) for key in missed] == [b"2", b"1", b"1"], "what it missed is there")
    assert [text.partition(" (")[0] for text in messages(caplog)] == ["redis is down"] * 2 + ["redis is back"] * 2


def test_a_redis_that_is_down_at_the_start_is_found_later(make_host: MakeHost, redis_server: RedisServer) -> None:
    redis_server.stop()
    one = make_host("one")
    assert not one.up
    one.put("kept:key", b"1", ttl_s=60)
    redis_server.start()
    wait_until(lambda: one.up, "Redis is used")
    wait_until(lambda: make_host("two").get("kept:key") == b"1", "what was written before is there")


def test_what_was_deleted_while_redis_was_down_stays_deleted(make_host: MakeHost, redis_server: RedisServer) -> None:
    one = make_host("one")
    one.put("kept:key", b"1", ttl_s=60)
    redis_server.freeze()
    wait_until(lambda: not one.up, "it is frozen")
    one.delete("kept:key")
    assert one.get("kept:key") is None
    redis_server.thaw()
    wait_until(lambda: one.up, "it is back")
    assert one.get("kept:key") is None
    assert make_host("two").get("kept:key") is None


def test_what_an_emptied_redis_has_lost_is_put_back(
    make_host: MakeHost, redis_server: RedisServer, admin: redis.Redis
) -> None:
    """No connection breaks, so that nothing but a look shows it."""
    one, two = make_host("one"), make_host("two")
    for number in range(1000):
        one.put(f"kept:{number}", b"1", ttl_s=60)
    two.put("kept:two", b"1", ttl_s=60)
    wait_until(lambda: len(admin.keys("sd-api:kept:host:*")) == 2, "both hosts have left their marks")
    redis_server.empty()
    assert one.get("kept:7") == b"1", "on the host's own disk all the while"
    assert one.update("kept:8", one_more, ttl_s=60) == b"2", "which a change begins with"
    wait_until(lambda: two.get("kept:999") == b"1" and one.get("kept:two") == b"1", "all is there again")
    assert two.get("kept:8") == b"2", "what has changed since is not written over"
    assert one.up
    assert one.changed_at == 0.0


def test_what_could_not_be_read_when_redis_was_emptied_is_put_back_later(
    make_host: MakeHost, redis_server: RedisServer, tmp_path: Path
) -> None:
    one = make_host("one")
    one.put("kept:key", b"1", ttl_s=60)
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    (tmp_path / "one").write_text("no folder")
    redis_server.empty()
    time.sleep(1)  # some looks
    (tmp_path / "one").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "one")
    two = make_host("two")
    wait_until(lambda: two.get("kept:key") == b"1", "it is there again")


def test_what_a_stopped_process_wrote_is_pushed_by_the_next(make_host: MakeHost, redis_server: RedisServer) -> None:
    one = make_host("one")
    redis_server.freeze()
    wait_until(lambda: not one.up, "it is frozen")
    one.put("kept:key", b"1", ttl_s=60)
    one.close()
    redis_server.thaw()
    make_host("one")
    wait_until(lambda: make_host("two").get("kept:key") == b"1", "it is there")


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_a_foreign_value_is_written_over(make_host: MakeHost, admin: redis.Redis, kind: str) -> None:
    one = make_host("one")
    mark = wait_for_mark(admin)
    for name in ("sd-api:key", "sd-api:kept:key", "sd-api:health", mark):
        with admin.pipeline() as at_once:
            at_once.delete(name)
            FOREIGN[kind](at_once, name)
            at_once.execute()
    for key in ("key", "kept:key"):
        one.update(key, lambda before: b"ours", ttl_s=60)
        assert one.get(key) == b"ours"
    assert one.up
    assert one.changed_at == 0.0


def wait_for_mark(admin: redis.Redis) -> str:
    found: list[bytes] = []
    wait_until(lambda: bool(found.extend(admin.keys("sd-api:kept:host:*")) or found), "the host has left its mark")
    return found[0].decode()


def test_a_disk_that_fails_is_no_reason_to_do_without_redis(make_host: MakeHost, tmp_path: Path) -> None:
    one = make_host("one")
    one.put("kept:before", b"1", ttl_s=60)
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    (tmp_path / "one").write_text("no folder")
    one.put("kept:key", b"1", ttl_s=60)
    assert one.get("kept:key") == b"1"
    assert one.update("kept:before", one_more, ttl_s=60) == b"2"
    assert one.get("kept:unknown") is None
    one.delete("kept:key")
    time.sleep(1)  # some looks
    assert one.up
    assert make_host("two").get("kept:before") == b"2"


def test_where_both_fail_it_is_an_error(make_host: MakeHost, redis_server: RedisServer, tmp_path: Path) -> None:
    one = make_host("one")
    redis_server.stop()
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    (tmp_path / "one").write_text("no folder")
    for key in ("key", "kept:key"):
        with pytest.raises(StoreError):
            one.put(key, b"1", ttl_s=60)
        with pytest.raises(StoreError):
            one.update(key, one_more, ttl_s=60)
        with pytest.raises(StoreError):
            one.get(key)


def test_what_a_change_raises_is_no_fault_of_redis(make_host: MakeHost) -> None:
    def refuse(before: bytes | None) -> bytes:
        raise LookupError

    one = make_host("one")
    for key in ("key", "kept:key"):
        with pytest.raises(LookupError):
            one.update(key, refuse, ttl_s=60)
    assert one.up


def test_processes_of_both_hosts_lose_no_change(make_host: MakeHost) -> None:
    stores = [make_host(name) for name in ("one", "one", "two", "two")]

    def add(store: FailoverStore) -> None:
        for _ in range(25):
            store.update("counter", one_more, ttl_s=60)

    threads = [threading.Thread(target=add, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert stores[0].get("counter") == b"100"
