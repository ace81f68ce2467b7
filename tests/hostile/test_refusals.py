"""A refusal reaches its caller, whatever the size of the body that nobody read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config import BODIES_AT_A_TIME
from simulator import Simulator
from tests.deploy.nginx_server import Nginx, needs_nginx, running_nginx
from tests.hostile.innocent import assert_nothing_noticed, innocent_callers
from tests.hostile.wire import HEALTH, head, many, send_all_then_read
from tests.running import PREFIX, Service, running_service, wait_until

JSON = "Content-Type: application/json"
KEY = "a-key-of-the-tests"
WITH_KEY = f"X-API-Key: {KEY}"
MEGABYTE = 1024 * 1024

#: status -> (path, fields of the head)
REFUSALS = {
    401: (f"{PREFIX}/txt2img", [JSON]),
    404: ("/nothing", [WITH_KEY]),
    405: (HEALTH, []),
    415: (f"{PREFIX}/txt2img", [WITH_KEY, "Content-Type: text/plain"]),
}


@pytest.fixture(scope="module")
def locked(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that asks for a key."""
    folder = tmp_path_factory.mktemp("locked")
    with running_service(folder, shared_simulator.url, API_KEYS=KEY) as service:
        service.wait_until_answering()
        yield service


def refused(port: int, status: int, size: int, *more: str) -> bytes:
    path, fields = REFUSALS[status]
    return send_all_then_read(port, head("POST", path, f"Content-Length: {size}", *fields, *more) + b"x" * size)


@pytest.mark.parametrize("size", [200_000, 2 * MEGABYTE, 30 * MEGABYTE])
@pytest.mark.parametrize("status", REFUSALS)
def test_of_any_size(locked: Service, status: int, size: int) -> None:
    answer = refused(locked.port, status, size)
    assert answer[9:12] == b"%d" % status
    assert b"\r\nConnection: close\r\n" in answer
    assert b"application/problem+json" in answer


def test_in_chunks(locked: Service) -> None:
    chunk = b"%x\r\n%b\r\n" % (MEGABYTE, b"x" * MEGABYTE)
    sent = head("POST", f"{PREFIX}/txt2img", JSON, "Transfer-Encoding: chunked") + chunk * 8 + b"0\r\n\r\n"
    assert send_all_then_read(locked.port, sent)[9:12] == b"401"


def test_what_is_larger_than_is_ever_taken(locked: Service) -> None:
    size = 100 * MEGABYTE
    sent = head("POST", f"{PREFIX}/txt2img", JSON, WITH_KEY, f"Content-Length: {size}") + b" " * size
    assert send_all_then_read(locked.port, sent)[9:12] == b"413"


@pytest.fixture
def one_worker(simulator: Simulator, tmp_path: Path) -> Iterator[Service]:
    """Which takes 300 requests an hour."""
    with running_service(tmp_path, simulator.url, workers=1, RATE_LIMIT_GLOBAL="300/hour") as service:
        service.wait_until_answering()
        yield service


def test_too_many_bodies_and_too_many_requests(one_worker: Service) -> None:
    size = 4 * MEGABYTE
    start = head("POST", f"{PREFIX}/txt2img", JSON, f"Content-Length: {size}")
    with many(one_worker.port, BODIES_AT_A_TIME, start):
        large = start + b" " * size

        def all_are_taken() -> bool:
            time.sleep(0.2)  # the other heads arrive meanwhile, and few of the requests that are allowed are needed
            return b'"queue_full"' in send_all_then_read(one_worker.port, large)

        wait_until(all_are_taken, "all places are taken")
    wait_until(lambda: one_worker.get("/models").status_code == 429, "it has had enough")
    limited = send_all_then_read(one_worker.port, large)
    assert limited[9:12] == b"429"
    assert b"\r\nRetry-After: 3" in limited, "most of an hour"


def test_a_small_body_that_nobody_read_ends_no_connection(locked: Service) -> None:
    one = head("POST", HEALTH, "Content-Length: 2") + b"{}"
    last = head("GET", HEALTH, "Connection: close")
    answers = send_all_then_read(locked.port, one * 3 + last).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"405"] * 3 + [b"200"]


@pytest.fixture(scope="module")
def nginx(locked: Service, shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """In front of two replicas."""
    folder = tmp_path_factory.mktemp("replicas")
    with (
        running_service(folder / "second", shared_simulator.url, API_KEYS=KEY) as second,
        running_nginx(folder / "nginx", locked.port, second.port) as running,
    ):
        second.wait_until_answering()
        yield running


@needs_nginx
def test_through_nginx_they_arrive_and_shut_nobody_out(nginx: Nginx) -> None:
    """Half of these were 502, after which each replica was left out for ten seconds, for everybody."""
    with ThreadPoolExecutor(4) as threads, innocent_callers(nginx.root) as (health, _):
        jobs = [
            threads.submit(refused, nginx.port, status, 2 * MEGABYTE, "Connection: close") for status in [*REFUSALS] * 8
        ]
        answers = [job.result() for job in jobs]
    assert [int(answer[9:12]) for answer in answers] == [*REFUSALS] * 8
    assert not [answer for answer in answers if b"Retry-After" in answer]
    assert_nothing_noticed(health)
    assert "no live upstreams" not in (nginx.folder / "error.log").read_text()
