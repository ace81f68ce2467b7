"""Many callers at once, and what each was answered."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
import requests

from state.holders import HOLDER_S
from tests.pool.webuis import STEPS_PER_S
from tests.running import DEADLINE_S, Service

_SEEDS = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``code``: of the problem, "" where there was none. Times by ``time.monotonic``."""

    seed: int
    status: int
    code: str
    retry_after_s: int | None
    sent: float
    answered: float

    @property
    def taken_s(self) -> float:
        return self.answered - self.sent


class Callers:
    """Each request from another thread."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def paint(self, service: Service, *, seconds: float = 0.25, **options: Any) -> Future[Outcome]:
        return self._threads.submit(paint, service, seconds=seconds, **options)

    def paint_many(self, services: Sequence[Service], jobs: int, **options: Any) -> list[Outcome]:
        """So many jobs at once, dealt to the services in turn."""
        dealt = itertools.cycle(services)
        return results([self.paint(next(dealt), **options) for _ in range(jobs)])


@contextmanager
def callers(most: int = 64) -> Iterator[Callers]:
    with ThreadPoolExecutor(most) as threads:
        yield Callers(threads)


def results(futures: Iterable[Future[Outcome]]) -> list[Outcome]:
    return [future.result(DEADLINE_S) for future in futures]


def painting(seconds: float = 0.25) -> dict[str, Any]:
    """A small txt2img that takes a WebUI so long, with a seed that no other has."""
    steps = max(1, round(seconds * STEPS_PER_S))
    size = {"width": 64, "height": 64}
    return {"prompt": "a", "steps": steps, "seed": next(_SEEDS), "response_format": "url", **size}


def paint(
    service: Service,
    *,
    seconds: float = 0.25,
    model: str | None = None,
    prompt: str = "a",
    headers: dict[str, str] | None = None,
    seed: int | None = None,
) -> Outcome:
    body = painting(seconds) | {"prompt": prompt} | ({"model": model} if model else {})
    body |= {} if seed is None else {"seed": seed}
    sent = time.monotonic()
    answer = requests.post(f"{service.url}/txt2img", json=body, headers=headers, timeout=DEADLINE_S)
    after = answer.headers.get("Retry-After")
    return Outcome(
        seed=body["seed"],
        status=answer.status_code,
        code="" if answer.ok else answer.json()["code"],
        retry_after_s=None if after is None else int(after),
        sent=sent,
        answered=time.monotonic(),
    )


def health(service: Service) -> dict[str, Any]:
    return dict(service.get("/health").json())


def wait_for_webuis(service: Service, available: int) -> None:
    """Until both workers see so many: several answers in a row, whichever gives them."""

    def seen() -> bool:
        return all(health(service)["webuis"]["available"] == available for _ in range(4))

    when(seen, f"{available} WebUIs are available")


def wait_for_redis(services: Sequence[Service], state: str) -> None:
    """Until all workers see Redis so: several answers in a row, whichever gives them."""

    def seen() -> bool:
        return all(health(service)["redis"] == state for service in services for _ in range(4))

    when(seen, f"Redis is {state}")


def wait_for_holders(client: redis.Redis, processes: int) -> None:
    """Until so many processes queue in Redis: each has renewed its key within the last second."""

    def renewed() -> int:
        left_ms = [client.pttl(key) for key in client.keys("sd-api:pool:holder:*")]
        return sum(one > (HOLDER_S - 1) * 1000 for one in left_ms)

    when(lambda: renewed() == processes, f"{processes} processes queue in Redis")


def wait_for_queue(service: Service, waiting: int) -> None:
    when(lambda: health(service)["queue"]["waiting"] == waiting, f"{waiting} jobs wait")


def wait_for_no_lease(*services: Service) -> None:
    """Nothing waits or runs in what any service knows."""

    def free() -> bool:
        states = [health(service) for service in services for _ in range(4)]
        return all(state["queue"]["waiting"] == state["webuis"]["busy"] == 0 for state in states)

    when(free, "no lease is left")


def statuses(outcomes: Iterable[Outcome]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for one in outcomes:
        key = one.code or str(one.status)
        counted[key] = counted.get(key, 0) + 1
    return counted


def when(condition: Callable[[], object], what: str) -> None:
    """Waits for something that costs a service or a WebUI a request each time it is looked at."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.1)
