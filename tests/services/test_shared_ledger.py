"""Idempotency keys of several hosts on a Redis that comes, goes and loses everything."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import redis

from services.failing_fast import FailingFastRedis
from services.ledger import Answer, AnsweredImage, FileLedger, Record, read_record, write_record
from services.shared_ledger import SharedLedger
from state.connection import open_redis
from storage import StorageUnavailableError
from tests.running import RedisServer, wait_until

ANSWER = Answer(
    images=(AnsweredImage(image_id=UUID(int=7), seed=1, width=8, height=8),),
    model="m",
    processing_time_s=1.0,
    request_id="first",
)
DONE = Record(fingerprint="print", answer=ANSWER, request="mine")

MakeHost = Callable[[str], SharedLedger]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """The test's own, more patient than the service's."""
    with redis.Redis.from_url(redis_server.url) as made:
        yield made


@pytest.fixture
def make_host(redis_server: RedisServer, tmp_path: Path) -> Iterator[MakeHost]:
    """The ledger of a host with a disk of its own, kept by its thread."""
    with ExitStack() as stack:
        connection = stack.enter_context(open_redis(redis_server.url))

        def make(name: str) -> SharedLedger:
            made = SharedLedger(connection, prefix="test", on_disk=FileLedger(tmp_path / name), host=name)
            made.start()
            stack.callback(made.close)
            return made

        yield make


def answered(ledger: SharedLedger, key: str = "key") -> Record:
    lock = ledger.lock(key)
    assert lock is not None
    ledger.write(key, DONE)
    lock.release()
    return DONE


def test_all_hosts_read_what_one_wrote(make_host: MakeHost) -> None:
    assert make_host("two").read("key") is None
    assert make_host("one").read("key") is None
    answered(make_host("one"))
    assert make_host("two").read("key") == DONE


def test_one_attempt_on_all_hosts(make_host: MakeHost) -> None:
    one, two = make_host("one"), make_host("two")
    lock = one.lock("key")
    assert lock is not None
    assert two.lock("key") is None
    assert one.lock("key") is None
    lock.release()
    taken = two.lock("key")
    assert taken is not None
    taken.release()


@pytest.mark.parametrize("fate", ["empty", "restart"])
def test_what_redis_lost_is_put_back(
    make_host: MakeHost, redis_server: RedisServer, client: redis.Redis, fate: str
) -> None:
    one, two = make_host("one"), make_host("two")
    answered(one)
    lock = one.lock("running")
    assert lock is not None
    wait_until(lambda: bool(client.exists("test:host:one")), "the host's answers are known to be there")
    if fate == "empty":
        redis_server.empty()
    else:
        redis_server.stop()
        redis_server.start()
    assert one.read("key") == DONE, "on the first host's own disk all the while"
    wait_until(lambda: two.read("key") == DONE, "the answer is there for the other host")
    wait_until(lambda: bool(client.exists("test:running:lock")), "the running attempt holds its key again")
    assert two.lock("running") is None
    lock.release()
    assert not client.exists("test:running:lock")


def test_what_was_answered_while_redis_was_away(make_host: MakeHost, redis_server: RedisServer) -> None:
    one, two = make_host("one"), make_host("two")
    redis_server.stop()
    answered(one)
    lock = one.lock("running")
    assert lock is not None
    assert one.lock("running") is None, "held on this host's disk"
    redis_server.start()
    wait_until(lambda: two.read("key") == DONE, "the answer is there for the other host")
    wait_until(lambda: _busy(two, "running"), "the attempt that began without Redis holds its key there")
    lock.release()


def test_a_dead_attempt_holds_its_key_no_longer_where_the_clock_of_redis_was_set_back(
    make_host: MakeHost, client: redis.Redis
) -> None:
    client.set("test:key:lock", "of a host that died", px=3_615_000)
    assert make_host("one").lock("key") is None
    assert 0 < client.pttl("test:key:lock") <= 15_000


class WatchedLedger(FileLedger):
    """One that notes of which keys the answers are asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[Collection[str] | None] = []

    def answered(self, keys: Collection[str] | None = None) -> Iterator[tuple[str, Record, int]]:
        self.asked.append(keys)
        return super().answered(keys)


@pytest.mark.parametrize("most", [5, 4])
def test_however_many_are_answered_while_redis_is_away_none_is_forgotten(
    client: redis.Redis, tmp_path: Path, redis_server: RedisServer, most: int
) -> None:
    """As many as are known by name are looked for; where there are more, all that are on the disk."""
    on_disk, keys = WatchedLedger(tmp_path), {f"key{number}" for number in range(5)}
    on_disk.write("old", DONE)
    with open_redis(redis_server.url, FailingFastRedis) as connection:
        one = SharedLedger(connection, prefix="test", on_disk=on_disk, host="one", most_unshared=most)
        one.start()
        wait_until(lambda: bool(client.exists("test:host:one")), "what is there is known to be there")
        redis_server.freeze()
        on_disk.asked.clear()
        for key in keys:
            # An attempt that began, and has not ended, is none that another host could give again.
            one.write(f"begun-{key}", Record(fingerprint="print"))
            one.write(key, DONE)
        redis_server.thaw()
        wait_until(lambda: client.exists(*(f"test:{key}" for key in keys)) == 5, "all are there")
        wait_until(lambda: on_disk.asked[-1:] == [set()], "and nothing is left to be done")
        one.close()
    known = keys if most >= len(keys) else None
    asked = [one for one in on_disk.asked if one != set()]
    assert asked == [known] * len(asked), "more than once only where Redis was slow to come back"
    assert asked


def _busy(ledger: SharedLedger, key: str) -> bool:
    lock = ledger.lock(key)
    if lock is not None:
        lock.release()
    return lock is None


def test_a_host_that_comes_to_an_empty_redis_brings_its_answers(
    make_host: MakeHost, tmp_path: Path, client: redis.Redis
) -> None:
    FileLedger(tmp_path / "one").write("key", DONE)
    FileLedger(tmp_path / "one").write("failed", Record(fingerprint="print"))
    make_host("one")
    wait_until(lambda: bool(client.exists("test:host:one")), "all are there")
    assert make_host("two").read("key") == DONE
    assert 86_300 < client.ttl("test:key") <= 86_400
    assert make_host("two").read("failed") is None


def test_an_answer_in_redis_is_not_written_over_by_an_older_one(
    make_host: MakeHost, tmp_path: Path, client: redis.Redis
) -> None:
    newer = Record(fingerprint="print", answer=replace(ANSWER, request_id="second"))
    make_host("two").write("key", newer)
    FileLedger(tmp_path / "one").write("key", DONE)
    make_host("one")
    wait_until(lambda: bool(client.exists("test:host:one")), "all are there")
    assert make_host("two").read("key") == newer


def test_an_answer_that_redis_was_not_told_replaces_what_it_knew_of_the_attempt(
    make_host: MakeHost, redis_server: RedisServer
) -> None:
    one, two = make_host("one"), make_host("two")
    lock = one.lock("key")
    assert lock is not None
    one.write("key", Record(fingerprint="print", request="mine"))
    redis_server.freeze()
    one.write("key", DONE)
    redis_server.thaw()
    wait_until(lambda: two.read("key") == DONE, "the answer is there for the other host")
    lock.release()


@pytest.mark.parametrize("kind", ["list", "hash", "text", "binary", "another record"])
def test_what_another_program_left_under_our_name(make_host: MakeHost, client: redis.Redis, kind: str) -> None:
    for name in ("test:key", "test:key:lock"):
        _leave(client, name, kind)
    one = make_host("one")
    assert one.read("key") is None
    wait_until(lambda: not _busy(one, "key"), "a lock that never expires is none")
    answered(one)
    assert make_host("two").read("key") == DONE


def _leave(client: redis.Redis, name: str, kind: str) -> None:
    if kind == "list":
        client.rpush(name, "a")
    elif kind == "hash":
        client.hset(name, "a", "b")
    else:
        client.set(name, {"text": b"[", "binary": b"\xff\0"}.get(kind, json.dumps({"answer": 1})))


def test_a_lock_that_another_program_wrote_over_lets_no_other_expire(make_host: MakeHost, client: redis.Redis) -> None:
    one = make_host("one")
    locks = [one.lock(f"key{number}") for number in range(8)]
    for number in range(8):
        client.delete(f"test:key{number}:lock")
    client.rpush("test:key0:lock", "a")
    for number in range(1, 8):
        wait_until(lambda name=f"test:key{number}:lock": bool(client.exists(name)), "it is held again")
    for lock in locks:
        assert lock is not None
        lock.release()


def test_a_file_that_cannot_be_looked_at_ends_no_keeping(
    make_host: MakeHost, tmp_path: Path, client: redis.Redis
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "loop.json").symlink_to("loop.json")
    with pytest.raises(StorageUnavailableError):
        list(FileLedger(tmp_path / "one").answered())
    one = make_host("one")
    lock = one.lock("key")
    assert lock is not None
    for _ in range(2):  # the second time after the file has been met
        client.delete("test:key:lock")
        wait_until(lambda: bool(client.exists("test:key:lock")), "it is held again")
    lock.release()


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"\xff", b'{"fingerprint": 1}', b"null"),
        b'{"fingerprint": "print", "answer": {}}',
        write_record(replace(DONE, answer=replace(ANSWER, images=()))),
        write_record(DONE).replace(b'"seed":1,', b""),
        write_record(DONE).replace(b"00000000-", b"no-uuid-"),
    ],
)
def test_half_a_record_on_the_disk_is_none(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "key.json").write_bytes(raw)
    ledger = FileLedger(tmp_path)
    assert ledger.read("key") is None
    assert list(ledger.answered()) == []


def test_a_record_as_it_is_kept() -> None:
    """Beside it there may be what a newer version keeps as well."""
    kept = (
        b'{"fingerprint":"print","answer":{"images":[{"image_id":"00000000-0000-0000-0000-000000000007","seed":1,'
        b'"width":8,"height":8}],"model":"m","processing_time_s":1.0,"request_id":"first"},"request":"mine"}'
    )
    assert write_record(DONE) == kept
    assert read_record(kept.replace(b'"seed"', b'"new":2,"seed"')) == DONE


def test_what_is_too_old_is_not_brought_back(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    ledger.write("key", DONE)
    past = time.time() - 86_401
    os.utime(tmp_path / "key.json", (past, past))
    assert ledger.read("key") is None
    assert list(ledger.answered()) == []


def test_a_disk_that_fails_beside_redis_costs_nothing(make_host: MakeHost, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("no folder")
    one = make_host("one")
    assert one.read("key") is None
    answered(one)
    assert one.read("key") == DONE
    assert not _busy(one, "key")


def test_where_both_fail_it_is_told(make_host: MakeHost, tmp_path: Path, redis_server: RedisServer) -> None:
    (tmp_path / "one").write_text("no folder")
    one = make_host("one")
    redis_server.stop()
    for call in (lambda: one.lock("key"), lambda: one.read("key"), lambda: one.write("key", DONE)):
        with pytest.raises(StorageUnavailableError):
            call()
