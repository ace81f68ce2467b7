"""With Redis the limits are one for all workers; without it, for a while, the service goes on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
import requests

from simulator import Simulator
from tests.running import DEADLINE_S, RedisServer, Service, running_service, wait_until
from tests.scraped import Scraped, scraped

BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}


@pytest.fixture
def service(simulator: Simulator, redis_server: RedisServer, tmp_path: Path) -> Iterator[Service]:
    settings = {"REDIS_URL": redis_server.url, "RATE_LIMIT_GENERATION": "10/minute", "RATE_LIMIT_GLOBAL": "5000/minute"}
    with running_service(tmp_path, simulator.url, **settings) as running:
        running.wait_until_answering()
        yield running


def burst(service: Service, times: int) -> list[int]:
    """Statuses of so many requests at once, each over another connection."""
    with ThreadPoolExecutor(16) as threads:
        jobs = [threads.submit(service.post, "/txt2img", BODY) for _ in range(times)]
        return [job.result().status_code for job in jobs]


def keys(server: RedisServer) -> set[bytes]:
    client = redis.Redis.from_url(server.url)
    try:
        return set(client.keys("*"))
    finally:
        client.close()


def wait_for_redis(service: Service, told: str) -> None:
    """Until each of the two workers has told in the log what it sees: either may answer the next request."""
    wait_until(lambda: service.printed.count(f"redis {told}") == 2, f"both workers tell: redis {told}")


def test_a_burst_over_two_workers_is_counted_exactly(
    service: Service, simulator: Simulator, redis_server: RedisServer
) -> None:
    statuses = burst(service, 40)

    assert (statuses.count(200), statuses.count(429)) == (10, 30)
    assert len(simulator.generations) == 10
    assert service.get("/health").json()["redis"] == "up"
    names = keys(redis_server)
    assert names
    assert all(name.startswith(b"LIMITS:") or b"sd-api" in name for name in names)


def scrape(service: Service) -> Scraped:
    return scraped(requests.get(f"{service.root}/metrics", timeout=DEADLINE_S).text)


def test_redis_goes_and_comes_back(service: Service, redis_server: RedisServer) -> None:
    assert service.get("/models").status_code == 200
    shown = scrape(service)
    assert shown.value("sd_api_redis_up") == 1
    assert shown.total("sd_api_redis_errors_total") == 0
    redis_server.stop()
    statuses = burst(service, 24)
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 10, "counted in each process now"
    wait_for_redis(service, "is down")
    health = service.get("/health")
    assert (health.status_code, health.json()["status"], health.json()["redis"]) == (200, "degraded", "down")
    shown = scrape(service)
    assert shown.value("sd_api_redis_up") == 0
    assert shown.value("sd_api_redis_errors_total", use="store") > 0
    assert {service.get("/models").status_code for _ in range(10)} == {200}

    redis_server.start()
    wait_for_redis(service, "is back")

    def counted_again() -> bool:
        assert service.get("/models").status_code == 200
        return bool(keys(redis_server))

    wait_until(counted_again, "limits are counted in Redis again")
    assert scrape(service).value("sd_api_redis_up") == 1
    assert service.get("/health").json()["status"] == "healthy"


def test_a_redis_that_hangs_holds_nobody_up(service: Service, redis_server: RedisServer) -> None:
    redis_server.freeze()
    try:
        assert {service.get("/models").status_code for _ in range(6)} == {200}
        assert set(burst(service, 8)) <= {200, 429}
        assert service.get("/health").status_code == 200
    finally:
        redis_server.thaw()
