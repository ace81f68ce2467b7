"""One key, one attempt: over threads, processes that die, and hosts with a Redis that comes and goes."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from sd_client.errors import JobCancelledError
from services.generation import GeneratedImage, Generation
from services.idempotency import Claim, IdempotencyMismatchError, IdempotencyService, fingerprint
from services.tracking import RequestService
from state.sqlite import SqliteStore
from state.stores import Stores, open_stores
from storage import ImageNotFoundError, LocalStorage
from tests.pools import pool_of
from tests.running import DEADLINE_S, ROOT, RedisServer, wait_until

PNG = b"\x89PNG\r\n\x1a\n not looked at here"


def nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of the service on some host; all store their images in one place."""

    service: IdempotencyService
    requests: RequestService
    stores: Stores

    def claim(self, print_: str = "print", *, key: str = "key", request: str = "mine", check=nothing):
        return self.service.claim(key, print_, request=request, check=check)


MakeProcess = Callable[..., Process]


@pytest.fixture(params=["alone", "redis"])
def redis_url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("redis_server").url if request.param == "redis" else None


@pytest.fixture
def make_process(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeProcess]:
    """A process of a host, by the host's name; with Redis unless ``redis_url`` says otherwise."""
    names = request.fixturenames
    url = request.getfixturevalue("redis_url") if "redis_url" in names else request.getfixturevalue("redis_server").url
    with ExitStack() as stack:

        def make(host: str = "one") -> Process:
            stores = open_stores(
                tmp_path / host / "run",
                durable_dir=tmp_path / host / "kept",
                durable=("idempotency:",),
                redis_url=url,
                redis_prefix="test",
                on_redis_error=nothing,
            )
            pool = pool_of(stores)
            requests = RequestService(pool=pool, store=stores.shared, host=stores.host, holders=stores.holders)
            service = IdempotencyService(
                store=stores.durable,
                holders=stores.holders,
                storage=LocalStorage(tmp_path / "images", fsync=False),
                requests=requests,
                longest_wait_s=30,
            )
            for part in (stores, pool):
                part.start()
                stack.callback(part.close)
            return Process(service=service, requests=requests, stores=stores)

        yield make


@pytest.fixture
def process(redis_url: str | None, make_process: MakeProcess) -> Process:
    return make_process()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """The test's own, more patient than the service's."""
    with redis.Redis.from_url(redis_server.url) as made:
        yield made


def generation(tmp_path: Path, *, stored: bool = True) -> Generation:
    image = GeneratedImage(image_id=uuid4(), png=PNG, seed=7, width=64, height=64, stored=stored)
    if stored:
        LocalStorage(tmp_path / "images", fsync=False).save(image.image_id, PNG, {})
    return Generation(images=(image,), model="m", processing_time_s=1.5, request_id="first")


def painted(process: Process, tmp_path: Path, *, key: str = "key") -> UUID:
    """The id of the picture that an attempt made."""
    made = generation(tmp_path)
    with process.claim(key=key) as claim:
        assert claim.replay is None
        claim.keep(made)
    return made.images[0].image_id


def replayed(process: Process, *, key: str = "key") -> UUID | None:
    """The id of the picture that a retry gets; None if it has to paint one, which fails."""
    with suppress(LookupError), process.claim(key=key) as claim:
        if claim.replay is not None:
            return claim.replay.images[0].image_id
        raise LookupError
    return None


def test_the_first_answer_is_given_again(process: Process, tmp_path: Path) -> None:
    made = painted(process, tmp_path)
    with process.claim() as again:
        assert again.replay is not None
        assert again.replay.images[0].image_id == made
        assert again.replay.images[0].png == PNG
        assert (again.replay.request_id, again.replay.processing_time_s) == ("first", 1.5)


def test_another_request_with_the_same_key_is_refused(process: Process, tmp_path: Path) -> None:
    with process.claim() as claim:
        with pytest.raises(IdempotencyMismatchError), process.claim("other"):
            pass  # while the first still runs
        claim.keep(generation(tmp_path))
    with pytest.raises(IdempotencyMismatchError), process.claim("other"):
        pass


def test_another_key_is_another_request(process: Process, tmp_path: Path) -> None:
    painted(process, tmp_path)
    assert not process.service.knows("other key")
    assert replayed(process, key="other key") is None


def test_a_failed_attempt_is_not_kept(process: Process) -> None:
    with pytest.raises(RuntimeError), process.claim():
        raise RuntimeError("the WebUI failed")
    with process.claim("another body after all") as claim:
        assert claim.replay is None


def test_a_picture_that_was_not_stored_is_not_kept(process: Process, tmp_path: Path) -> None:
    with process.claim() as claim:
        claim.keep(generation(tmp_path, stored=False))
    assert replayed(process) is None


def test_a_removed_picture_cannot_be_given_again(process: Process, tmp_path: Path) -> None:
    LocalStorage(tmp_path / "images", fsync=False).delete(painted(process, tmp_path))
    with pytest.raises(ImageNotFoundError), process.claim():
        pass


@pytest.mark.parametrize("requests", [["mine"] * 8, [f"mine {number}" for number in range(8)]], ids=["same", "own"])
def test_concurrent_attempts_make_one_picture(
    make_process: MakeProcess, redis_url: str | None, tmp_path: Path, requests: list[str]
) -> None:
    processes = [make_process(), make_process()]
    made: list[Generation] = []
    answered: list[bool] = []

    def attempt(number: int) -> None:
        with processes[number % 2].claim(request=requests[number]) as claim:
            answered.append(claim.replay is not None)
            if claim.replay is None:
                time.sleep(0.05)  # long enough for the others to come
                made.append(generation(tmp_path))
                claim.keep(made[-1])

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert len(made) == 1
    assert sorted(answered) == [False] + [True] * 7


class BothReadFirst(SqliteStore):
    """Two callers have read a key before either of them changes it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._both = threading.Barrier(2)
        self._reads = itertools.count()

    def get(self, key: str) -> bytes | None:
        found = super().get(key)
        if next(self._reads) < 2:
            self._both.wait(DEADLINE_S)
        return found


def test_one_of_two_with_the_same_id_at_the_same_moment_makes_the_picture(process: Process, tmp_path: Path) -> None:
    store = BothReadFirst(tmp_path / "both.sqlite")
    service = IdempotencyService(
        store=store,
        holders=process.stores.holders,
        storage=LocalStorage(tmp_path / "images", fsync=False),
        requests=process.requests,
        longest_wait_s=30,
    )
    replays: list[bool] = []

    def attempt() -> None:
        with service.claim("key", "print", request="mine", check=nothing) as claim:
            replays.append(claim.replay is not None)
            if claim.replay is None:
                time.sleep(0.05)  # long enough for the other to come
                claim.keep(generation(tmp_path))

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    store.close()
    assert replays == [False, True]


def test_whoever_waits_can_leave(process: Process) -> None:
    def leave() -> None:
        raise KeyboardInterrupt

    with process.claim(), pytest.raises(KeyboardInterrupt), process.claim(check=leave):
        pass


def test_a_retry_with_its_first_attempts_id_is_cancelled_with_it(process: Process) -> None:
    waits = threading.Event()
    ended: list[str] = []

    def retry() -> None:
        try:
            with process.claim(check=waits.set):
                ended.append("painted")
        except JobCancelledError:
            ended.append("cancelled")

    thread = threading.Thread(target=retry)
    with process.claim():
        thread.start()
        assert waits.wait(DEADLINE_S)
        with suppress(JobCancelledError), process.requests.following("mine", longest_s=60):
            raise JobCancelledError
        thread.join(DEADLINE_S)
    assert ended == ["cancelled"]


@pytest.mark.parametrize("redis_url", [None])
def test_a_disk_that_fails_costs_no_picture_and_leaves_no_key_held(
    process: Process, redis_url: None, tmp_path: Path
) -> None:
    kept = tmp_path / "one" / "kept"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("no folder")
    with process.claim() as claim:
        assert claim.replay is None, "painted without the store"
    kept.unlink()
    with process.claim() as claim:
        claim.keep(generation(tmp_path))
        kept.rename(tmp_path / "elsewhere")
        kept.write_text("no folder")  # from now on no answer can be kept
    kept.unlink()
    (tmp_path / "elsewhere").rename(kept)
    assert replayed(process) is None, "painted anew, as its attempt has ended"


_HOLDER = """
import sys, time
from pathlib import Path
from services.idempotency import Record, _RECORD
from state.stores import open_stores

host, url = Path(sys.argv[1]), sys.argv[2] or None
stores = open_stores(host / "run", durable_dir=host / "kept", durable=("idempotency:",), redis_url=url,
                     redis_prefix="test", on_redis_error=lambda: None)
record = _RECORD.dump_json(Record(fingerprint="print", request="first", holder=stores.holders.me))
stores.durable.put("idempotency:key", record, ttl_s=600)
print("holds the key", flush=True)
time.sleep(600)
"""


def test_a_killed_process_holds_no_key(process: Process, redis_url: str | None, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path / "one"), redis_url or ""]

    def leave() -> None:
        raise KeyboardInterrupt

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds the key\n"
        with pytest.raises(KeyboardInterrupt), process.claim(check=leave):
            pass
        holder.kill()
    begun = time.monotonic()
    painted(process, tmp_path)
    assert time.monotonic() - begun < 5, "at once, and not only when Redis has forgotten it"


@pytest.mark.parametrize("answer", [{}, {"images": []}, [], "done"])
def test_a_record_that_says_nothing_is_none(process: Process, tmp_path: Path, answer: object) -> None:
    """Another program's, or damaged."""
    raw = json.dumps({"fingerprint": "print", "answer": answer}).encode()
    process.stores.durable.put("idempotency:key", raw, ttl_s=60)
    made = painted(process, tmp_path)
    assert replayed(process) == made


@pytest.mark.parametrize("more", [{}, {"holder": ""}, {"holder": "ab12-cd34", "new": 1}])
def test_an_answer_of_another_version_is_given_again(process: Process, tmp_path: Path, more: dict[str, object]) -> None:
    image_id = generation(tmp_path).images[0].image_id
    answer = {
        "images": [{"image_id": str(image_id), "seed": 1, "width": 8, "height": 8}],
        "model": "m",
        "processing_time_s": 1.0,
        "request_id": "first",
    }
    record = {"fingerprint": "print", "answer": answer, "request": "mine", **more}
    process.stores.durable.put("idempotency:key", json.dumps(record).encode(), ttl_s=60)
    assert replayed(process) == image_id


def test_all_hosts_know_a_key(make_process: MakeProcess, tmp_path: Path, client: redis.Redis) -> None:
    one, two = make_process("one"), make_process("two")
    waits = threading.Event()
    found: list[Claim] = []

    def retry() -> None:
        with two.claim(request="retry", check=waits.set) as claim:
            found.append(claim)

    thread = threading.Thread(target=retry)
    with one.claim() as claim:
        thread.start()
        assert waits.wait(DEADLINE_S), "it waits for the other host's attempt"
        claim.keep(made := generation(tmp_path))
    thread.join(DEADLINE_S)
    assert found[0].replay is not None
    assert found[0].replay.images[0].image_id == made.images[0].image_id
    assert 86_300 < client.ttl("test:idempotency:key") <= 86_400


def test_what_redis_lost_is_given_again(
    make_process: MakeProcess, redis_server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    one, two = make_process("one"), make_process("two")
    made = painted(one, tmp_path)
    wait_until(lambda: len(client.keys("test:idempotency:host:*")) == 2, "both hosts' answers are known to be there")
    with one.claim(key="running"):
        redis_server.empty()
        assert replayed(one) == made, "it was on the first host's own disk all the while"
        wait_until(
            lambda: client.exists("test:idempotency:key", "test:idempotency:running") == 2, "both are there again"
        )
        assert replayed(two) == made
        one.stores.holders.renew()  # as the queue does all the time
        with pytest.raises(IdempotencyMismatchError), two.claim("other", key="running"):
            pass  # the attempt that runs holds its key again


def test_what_was_answered_while_redis_was_down(
    make_process: MakeProcess, redis_server: RedisServer, tmp_path: Path
) -> None:
    one, two = make_process("one"), make_process("two")
    with one.claim(key="begun before") as claim:
        redis_server.freeze()
        made = painted(one, tmp_path)
        assert replayed(one) == made
        claim.keep(before := generation(tmp_path))
    redis_server.thaw()
    for process in (one, two):
        wait_until(lambda: bool(process.stores.failover and process.stores.failover.up), "Redis is used again")  # noqa: B023
    assert replayed(two) == made
    assert replayed(two, key="begun before") == before.images[0].image_id


def test_a_failed_attempt_leaves_what_another_host_wrote_since(make_process: MakeProcess, tmp_path: Path) -> None:
    """Such as one that took this one for dead, while this host was cut off."""
    one, two = make_process("one"), make_process("two")
    with suppress(LookupError), one.claim():
        one.stores.durable.update("idempotency:key", released, ttl_s=60)
        made = painted(two, tmp_path)
        raise LookupError("the WebUI failed after all")
    assert replayed(one) == made


def released(raw: bytes | None) -> bytes:
    return json.dumps({**json.loads(raw or b"{}"), "holder": ""}).encode()


def test_fingerprints_tell_requests_apart() -> None:
    requests: list[tuple[str, dict[str, object]]] = [
        ("txt2img", {"prompt": "a"}),
        ("img2img", {"prompt": "a"}),
        ("txt2img", {"prompt": "a", "steps": 20}),
        ("txt2img", {"prompt": "a", "steps": "20"}),
        ("txt2img", {"prompt": "a", "image": "x"}),
        ("txt2img", {"prompt": "a", "image": b"x"}),
        ("txt2img", {"prompt": "a\nimage"}),
    ]
    assert len({fingerprint(mode, values) for mode, values in requests}) == len(requests)
    assert fingerprint("m", {"a": 1, "b": 2}) == fingerprint("m", {"b": 2, "a": 1})
