"""A Redis that answers and is of no use: nobody notices but the operator, and it heals."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from simulator import Simulator
from tests.faults.redis_states import FOREIGN, STATES, administrator
from tests.pool.callers import wait_for_no_lease, wait_for_redis
from tests.running import RedisServer, Service, running_service, wait_until

BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}
LIMIT, WORKERS = 10, 2
KEYS = [uuid4().hex for _ in range(40)]


@pytest.fixture
def service(shared_simulator: Simulator, redis_server: RedisServer, tmp_path: Path) -> Iterator[Service]:
    settings = {"RATE_LIMIT_GENERATION": f"{LIMIT}/hour", "API_KEYS": ",".join(KEYS), "REDIS_URL": redis_server.url}
    with running_service(tmp_path, shared_simulator.url, workers=WORKERS, **settings) as running:
        running.wait_until_answering()
        yield running


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with administrator(redis_server) as made:
        made.ping()
        yield made


def burst(service: Service, key: str, requests: int = 30) -> Counter[int]:
    """Statuses of so many generations of one caller at once, over both workers."""
    with ThreadPoolExecutor(10) as threads:
        headers = {"X-API-Key": key}
        jobs = [threads.submit(service.post, "/txt2img", BODY, headers=headers) for _ in range(requests)]
        return Counter(job.result().status_code for job in jobs)


def lines(service: Service) -> list[dict[str, object]]:
    return [json.loads(line) for line in service.printed.splitlines() if line.startswith("{")]


def logged(service: Service, words: str) -> int:
    return sum(bool(re.search(words, str(line["message"]))) for line in lines(service))


def assert_nothing_is_lost(service: Service, key: str) -> None:
    """Painted, found again by its id and its key, and followed, with Redis as it is."""
    headers = {"X-API-Key": key, "Idempotency-Key": "once"}
    first = service.post("/txt2img", BODY, headers={**headers, "X-Request-ID": "first"})
    assert first.status_code == 200, first.text
    again = service.post("/txt2img", BODY, headers=headers)
    assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (200, "true"), again.text
    assert again.json()["image_id"] == first.json()["image_id"]
    assert service.get(f"/image/{first.json()['image_id']}").status_code == 200
    followed = service.get("/requests/first", headers=headers)
    assert followed.json()["image_ids"] == [first.json()["image_id"]]


def assert_counted_by_all_again(service: Service, keys: Iterator[str]) -> None:
    wait_until(lambda: logged(service, "redis is back") == WORKERS, "both workers see Redis")
    assert burst(service, next(keys)) == {200: LIMIT, 429: 30 - LIMIT}
    wait_for_redis([service], "up")


def assert_log_is_calm(service: Service) -> None:
    """One line a worker for each part that notices, and not one a request."""
    assert "Traceback" not in service.printed
    wordy = Counter(str(line["message"]) for line in lines(service) if line["level"] in ("WARNING", "ERROR"))
    assert max(wordy.values(), default=0) <= WORKERS, wordy


@pytest.mark.parametrize("name", sorted(STATES))
def test_redis_is(service: Service, admin: redis.Redis, name: str) -> None:
    keys = iter(KEYS)
    assert burst(service, next(keys)) == {200: LIMIT, 429: 30 - LIMIT}
    state = STATES[name]
    state.begin(admin)

    statuses = burst(service, next(keys))
    assert statuses.keys() <= {200, 429}
    assert LIMIT <= statuses[200] <= WORKERS * LIMIT, "counted in each process"
    assert_nothing_is_lost(service, next(keys))
    wait_until(lambda: logged(service, rf"redis is down \(({state.error})\)") == WORKERS, "both workers tell")
    wait_for_redis([service], "down")
    health = service.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")

    wait_for_no_lease(service)

    state.end(admin)
    assert_counted_by_all_again(service, keys)
    assert_nothing_is_lost(service, next(keys))
    assert_log_is_calm(service)


def test_redis_is_loading(service: Service, redis_server: RedisServer) -> None:
    """A Redis with much to read answers LOADING to everything for as long as that takes."""
    keys = iter(KEYS)
    client = redis.Redis.from_url(redis_server.url)
    client.mset({f"somebody else's {number}": "x" for number in range(10_000)})
    client.save()
    redis_server.stop()
    slowly = ("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    redis_server.launch(*slowly)
    wait_until(lambda: _loading(client), "Redis loads")

    statuses = burst(service, next(keys))
    assert statuses.keys() <= {200, 429}
    assert LIMIT <= statuses[200] <= WORKERS * LIMIT
    assert_nothing_is_lost(service, next(keys))
    wait_until(lambda: logged(service, "redis is down") == WORKERS, "both workers tell")
    assert _loading(client), "it takes minutes"
    client.close()
    redis_server.stop()
    redis_server.start()
    assert_counted_by_all_again(service, keys)
    assert_log_is_calm(service)


def _loading(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.BusyLoadingError:
        return True
    except redis.ConnectionError:
        return False
    return False


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_foreign_keys_under_our_names(service: Service, admin: redis.Redis, kind: str) -> None:
    """All that the service ever wrote is replaced by something else; what it needs it writes anew."""
    keys = iter(KEYS)
    mine = next(keys)
    assert burst(service, mine) == {200: LIMIT, 429: 30 - LIMIT}
    assert_nothing_is_lost(service, next(keys))
    parts = ("LIMITER/", "idempotency", "request", "health")
    wait_until(
        lambda: all(any(part.encode() in name for name in admin.keys("*")) for part in parts),
        "each part has keys there",
    )
    names = [name.decode() for name in admin.keys("*")]
    with admin.pipeline() as at_once:  # the service may write in between
        for name in names:
            at_once.delete(name)
            FOREIGN[kind](at_once, name)
        at_once.execute()

    statuses = burst(service, mine)
    assert statuses.keys() == {200, 429}
    # Of a list it shows late that it holds no times.
    assert LIMIT <= statuses[200] <= (2 * LIMIT if kind == "list" else LIMIT), "its count is lost, and begins anew"
    assert_nothing_is_lost(service, next(keys))
    assert service.get("/requests/first", headers={"X-API-Key": KEYS[1]}).status_code in (200, 404)
    wait_for_no_lease(service)
    wait_for_redis([service], "up")
    assert "Traceback" not in service.printed
    assert logged(service, "redis is down") == 0
