"""What became of a request, in the stores of hosts whose Redis comes and goes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sd_client.errors import JobCancelledError, QueueUnavailableError
from services.tracking import RequestNotFoundError, RequestService, RequestStatus
from state.stores import Stores, open_stores
from tests.pools import pool_of
from tests.running import RedisServer, wait_until

DONE = RequestStatus(status="done", progress=1.0, image_ids=("a", "b"))


def opened(folder: Path, redis_url: str | None = None) -> Stores:
    return open_stores(
        folder,
        durable_dir=folder / "durable",
        durable=("idempotency:",),
        redis_url=redis_url,
        redis_prefix="test",
        on_redis_error=lambda: None,
    )


def service_of(stores: Stores) -> RequestService:
    """Without any job."""
    return RequestService(pool=pool_of(stores), store=stores.shared, host=stores.host, holders=stores.holders)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = opened(tmp_path / "run")
    yield made
    made.close()


@pytest.fixture
def requests(stores: Stores) -> RequestService:
    return service_of(stores)


def test_a_request_is_done_once_its_images_are_there(requests: RequestService) -> None:
    with pytest.raises(RequestNotFoundError):
        requests.status("key")
    with requests.following("key", longest_s=60) as image_ids:
        assert requests.status("key").status == "running"
        image_ids += DONE.image_ids
    assert requests.status("key") == DONE
    with pytest.raises(RequestNotFoundError):
        requests.status("another key")


@pytest.mark.parametrize(
    ("error", "status"), [(JobCancelledError("by its caller"), "cancelled"), (OSError(), "failed")]
)
def test_how_it_failed_is_tracked(requests: RequestService, error: Exception, status: str) -> None:
    with pytest.raises(type(error)), requests.following("key", longest_s=60):
        raise error
    assert requests.status("key").status == status


def test_a_request_that_takes_longer_than_possible_was_lost(requests: RequestService) -> None:
    with requests.following("key", longest_s=-1):
        assert requests.status("key").status == "failed"


def test_the_request_of_a_dead_process_has_failed(requests: RequestService, tmp_path: Path) -> None:
    other = opened(tmp_path / "run")
    with service_of(other).following("key", longest_s=60):
        assert requests.status("key").status == "running"
        other.holders.close()
        assert requests.status("key").status == "failed"


def test_a_request_that_waits_for_another_ones_answer_has_its_status(requests: RequestService) -> None:
    with requests.following("first", longest_s=60), requests.behind("second", "first", longest_s=60) as check:
        check()
        assert requests.status("second").status == "running"
        requests.cancel("second")
        assert requests.status("second").status == "cancelled"
        with pytest.raises(JobCancelledError):
            check()
        with pytest.raises(RequestNotFoundError):
            requests.cancel("second")


@pytest.mark.parametrize("raw", [b"", b"null", b'{"status":"gone"}', b"\xff"])
def test_what_says_nothing_is_no_request(requests: RequestService, stores: Stores, raw: bytes) -> None:
    stores.host.put("request:key", raw, ttl_s=60)
    with pytest.raises(RequestNotFoundError):
        requests.status("key")


def test_a_store_that_fails_costs_no_picture_and_is_logged_once(
    requests: RequestService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "services.tracking")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "run").write_text("no folder")
    for _ in range(3):
        requests.done("key", ["a"])
    assert [record.getMessage() for record in caplog.records] == ["requests cannot be followed: File exists"]
    with pytest.raises(QueueUnavailableError):
        requests.status("key")
    (tmp_path / "run").unlink()
    requests.done("key", DONE.image_ids)
    assert requests.status("key") == DONE


def test_what_was_done_while_redis_was_down_is_done(tmp_path: Path, redis_server: RedisServer) -> None:
    here, elsewhere = opened(tmp_path / "here", redis_server.url), opened(tmp_path / "elsewhere", redis_server.url)
    for stores in (here, elsewhere):
        stores.start()
    requests = service_of(here)
    with requests.following("key", longest_s=60) as image_ids:
        assert service_of(elsewhere).status("key").status == "running"
        redis_server.freeze()
        image_ids += DONE.image_ids
    assert requests.status("key") == DONE
    redis_server.thaw()
    wait_until(lambda: bool(here.failover and here.failover.up), "Redis is used again")
    assert requests.status("key") == DONE
    for stores in (here, elsewhere):
        stores.close()
