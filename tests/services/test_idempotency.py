"""One key, one attempt: over threads, over processes that die, on disk and in Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from sd_client.errors import JobCancelledError
from sd_client.pool import WebUIPool
from services.generation import GeneratedImage, Generation
from services.idempotency import IdempotencyMismatchError, IdempotencyService, fingerprint
from services.ledger import KEEP_S, Answer, AnsweredImage, FileLedger, Ledger, Record
from services.requests import FileNotes, RequestService
from services.shared_ledger import SharedLedger
from storage import ImageNotFoundError, LocalStorage
from tests.running import DEADLINE_S, ROOT, RedisServer

PNG = b"\x89PNG\r\n\x1a\n not looked at here"


def nothing() -> None:
    pass


@pytest.fixture(params=["disk", "redis"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    on_disk = FileLedger(tmp_path / "ledger")
    if request.param == "disk":
        yield on_disk
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    client = redis.Redis.from_url(server.url)
    yield SharedLedger(client, prefix="test", on_disk=on_disk, host="one")
    client.close()


@pytest.fixture
def requests(tmp_path: Path) -> Iterator[RequestService]:
    pool = WebUIPool(
        ["http://127.0.0.1:1"], slots=1, queue_limit=1, folder=tmp_path / "run", use_gpu=False, cpu_fallback=True
    )
    pool.start()
    yield RequestService(pool=pool, notes=FileNotes(tmp_path / "notes"))
    pool.close()


@pytest.fixture
def service_of(requests: RequestService, tmp_path: Path) -> Callable[[Ledger], IdempotencyService]:
    storage = LocalStorage(tmp_path / "images", fsync=False)
    return lambda ledger: IdempotencyService(ledger=ledger, storage=storage, requests=requests, longest_wait_s=30)


@pytest.fixture
def make_service(ledger: Ledger, service_of) -> Callable[[], IdempotencyService]:
    return lambda: service_of(ledger)


def generation(tmp_path: Path, *, stored: bool = True) -> Generation:
    image = GeneratedImage(image_id=uuid4(), png=PNG, seed=7, width=64, height=64, stored=stored)
    if stored:
        LocalStorage(tmp_path / "images", fsync=False).save(image.image_id, PNG, {})
    return Generation(images=(image,), model="m", processing_time_s=1.5, request_id="first")


def test_the_first_answer_is_given_again(make_service, tmp_path):
    made = generation(tmp_path)
    with make_service().claim("key", "print", request="mine", check=nothing) as claim:
        assert claim.replay is None
        claim.keep(made)
    with make_service().claim("key", "print", request="mine", check=nothing) as again:
        assert again.replay is not None
        assert again.replay.images[0].image_id == made.images[0].image_id
        assert again.replay.images[0].png[:] == PNG
        assert (again.replay.request_id, again.replay.processing_time_s) == ("first", 1.5)


def test_another_request_with_the_same_key_is_refused(make_service, tmp_path):
    with make_service().claim("key", "print", request="mine", check=nothing) as claim:
        with (
            pytest.raises(IdempotencyMismatchError),
            make_service().claim("key", "other", request="mine", check=nothing),
        ):
            pass  # while the first still runs
        claim.keep(generation(tmp_path))
    with pytest.raises(IdempotencyMismatchError), make_service().claim("key", "other", request="mine", check=nothing):
        pass


def test_another_key_is_another_request(make_service, tmp_path):
    with make_service().claim("key", "print", request="mine", check=nothing) as claim:
        claim.keep(generation(tmp_path))
    with make_service().claim("other key", "print", request="mine", check=nothing) as other:
        assert other.replay is None


def test_a_failed_attempt_is_not_kept(make_service):
    with pytest.raises(RuntimeError), make_service().claim("key", "print", request="mine", check=nothing):
        raise RuntimeError("the WebUI failed")
    with make_service().claim("key", "another body after all", request="mine", check=nothing) as claim:
        assert claim.replay is None


def test_a_picture_that_was_not_stored_is_not_kept(make_service, tmp_path):
    with make_service().claim("key", "print", request="mine", check=nothing) as claim:
        claim.keep(generation(tmp_path, stored=False))
    with make_service().claim("key", "print", request="mine", check=nothing) as claim:
        assert claim.replay is None


def test_a_removed_picture_cannot_be_given_again(make_service, tmp_path):
    made = generation(tmp_path)
    with make_service().claim("key", "print", request="mine", check=nothing) as claim:
        claim.keep(made)
    LocalStorage(tmp_path / "images", fsync=False).delete(made.images[0].image_id)
    with pytest.raises(ImageNotFoundError), make_service().claim("key", "print", request="mine", check=nothing):
        pass


def test_concurrent_attempts_make_one_picture(make_service, tmp_path):
    made: list[Generation] = []
    answered: list[bool] = []

    def attempt() -> None:
        with make_service().claim("key", "print", request="mine", check=nothing) as claim:
            answered.append(claim.replay is not None)
            if claim.replay is None:
                time.sleep(0.05)  # long enough for the others to come
                made.append(generation(tmp_path))
                claim.keep(made[-1])

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(answered) == [False] + [True] * 7


def test_whoever_waits_can_leave(make_service):
    def leave() -> None:
        raise KeyboardInterrupt

    with (
        make_service().claim("key", "print", request="mine", check=nothing),
        pytest.raises(KeyboardInterrupt),
        make_service().claim("key", "print", request="mine", check=leave),
    ):
        pass


def test_a_retry_with_its_first_attempts_id_is_cancelled_with_it(make_service, requests):
    waits = threading.Event()
    ended: list[str] = []

    def retry() -> None:
        try:
            with make_service().claim("key", "print", request="mine", check=waits.set):
                ended.append("painted")
        except JobCancelledError:
            ended.append("cancelled")

    thread = threading.Thread(target=retry)
    with make_service().claim("key", "print", request="mine", check=nothing):
        thread.start()
        assert waits.wait(DEADLINE_S)
        with suppress(JobCancelledError), requests.following("mine", longest_s=60):
            raise JobCancelledError
        thread.join(DEADLINE_S)
    assert ended == ["cancelled"]


def test_a_ledger_that_fails_leaves_no_key_locked(service_of, tmp_path):
    on_disk = FileLedger(tmp_path / "ledger")
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "key.json").mkdir()  # no file: it can be locked, and not be read
    with service_of(on_disk).claim("key", "print", request="mine", check=nothing) as claim:
        assert claim.replay is None, "painted without the ledger"
    lock = on_disk.lock("key")
    assert lock is not None
    lock.release()


def test_a_killed_process_leaves_no_key_locked(tmp_path):
    holder = (
        "import sys, time; from pathlib import Path; from services.ledger import FileLedger;"
        "lock = FileLedger(Path(sys.argv[1])).lock('key'); print('locked', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        assert FileLedger(tmp_path).lock("key") is None
    finally:
        process.kill()
        process.communicate()
    lock = FileLedger(tmp_path).lock("key")
    assert lock is not None
    lock.release()


@pytest.mark.parametrize("answer", [{}, {"images": []}, [], "done"])
def test_a_record_that_says_nothing_is_none(request, ledger, make_service, tmp_path, answer):
    """Another program's, or damaged."""
    with make_service().claim("key", "print", request="mine", check=nothing) as claim:
        claim.keep(generation(tmp_path))
    for path in (tmp_path / "ledger").glob("*.json"):
        path.write_text(json.dumps({"fingerprint": "print", "answer": answer}))
    if isinstance(ledger, SharedLedger):
        with redis.Redis.from_url(request.getfixturevalue("redis_server").url) as client:
            client.set("test:key", json.dumps({"fingerprint": "print", "answer": answer}))
    with make_service().claim("key", "print", request="mine", check=nothing) as claim:
        assert claim.replay is None
        claim.keep(generation(tmp_path))
    with make_service().claim("key", "print", request="mine", check=nothing) as claim:
        assert claim.replay is not None


def test_what_is_older_than_a_day_is_swept(tmp_path):
    ledger = FileLedger(tmp_path)
    for key in ("old", "held", "new"):
        lock = ledger.lock(key)
        assert lock is not None
        ledger.write(key, record := Record(fingerprint="p"))
        assert ledger.read(key) == record
        lock.release()
    past = time.time() - KEEP_S - 60
    for name in ("old.json", "old.lock", "held.json", "held.lock"):
        os.utime(tmp_path / name, (past, past))
    held = ledger.lock("held")
    assert held is not None
    assert ledger.read("old") is None
    ledger.sweep()
    held.release()
    assert {path.name for path in tmp_path.iterdir()} >= {"held.json", "held.lock", "new.json", "new.lock"}
    assert not (tmp_path / "old.json").exists()


def test_fingerprints_tell_requests_apart():
    requests = [
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


@pytest.mark.parametrize("ahead_s", [3600, 400 * 86_400])
def test_a_record_of_the_future_ends_in_its_time(tmp_path, ahead_s):
    """The clock was ahead when it was written: it is kept as long as any other from now on, not until then."""
    ledger = FileLedger(tmp_path)
    image = AnsweredImage(image_id=uuid4(), seed=1, width=64, height=64)
    answer = Answer(images=(image,), model="m", processing_time_s=1.0, request_id="r")
    ledger.write("key", record := Record(fingerprint="p", answer=answer))
    file = tmp_path / "key.json"
    for look in (lambda: ledger.read("key"), ledger.sweep, lambda: list(ledger.answered())):
        os.utime(file, (time.time() + ahead_s,) * 2)
        look()
        assert abs(file.stat().st_mtime - time.time()) < 60
    assert ledger.read("key") == record
    ((_, _, left_s),) = ledger.answered()
    assert KEEP_S - 60 < left_s <= KEEP_S
    os.utime(file, (time.time() - KEEP_S - 1,) * 2)
    assert ledger.read("key") is None
    ledger.sweep()
    assert not file.exists()
