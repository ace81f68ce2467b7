"""Jobs that wait for the one WebUI: in order, not for ever, and not too many."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from simulator import Simulator
from tests.api.answers import Answer, problem_of
from tests.conftest import MakeApp
from tests.running import PREFIX, wait_until

SMALL = {"width": 64, "height": 64, "steps": 1}


class Callers:
    """Requests from other threads."""

    def __init__(self, app: Flask, pool: ThreadPoolExecutor) -> None:
        self._app = app
        self._pool = pool

    def paint(self, prompt: str, *, prefer: str | None = None) -> Future[Answer]:
        headers = {"Prefer": prefer} if prefer else {}
        body = {"prompt": prompt, **SMALL}
        return self._pool.submit(self._app.test_client().post, f"{PREFIX}/txt2img", json=body, headers=headers)

    def health(self) -> dict[str, Any]:
        return dict(self._app.test_client().get(f"{PREFIX}/health").get_json())

    def status_of(self, request_id: str) -> int:
        return self._app.test_client().get(f"{PREFIX}/requests/{request_id}").status_code

    def wait_for_queue(self, waiting: int) -> None:
        wait_until(lambda: self.health()["queue"]["waiting"] == waiting, f"{waiting} jobs wait")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture
def callers(make_app: MakeApp, simulator: Simulator, threads: ThreadPoolExecutor) -> Iterator[Callers]:
    """At most two jobs wait; the WebUI hangs until its faults are cleared."""
    app = make_app(simulator.url, SD_QUEUE_LIMIT="2", SD_TIMEOUT="60")
    made = Callers(app, threads)
    wait_until(lambda: made.health()["status"] == "healthy", "the WebUI was seen")
    simulator.set_fault("hang-before")
    yield made
    simulator.clear_faults()


def painting(simulator: Simulator, jobs: int) -> None:
    wait_until(lambda: len(simulator.generations) == jobs, f"{jobs} jobs reached the WebUI")


def test_first_come_first_served_and_the_third_who_would_wait_is_refused(
    callers: Callers, simulator: Simulator
) -> None:
    jobs = [callers.paint("first")]
    painting(simulator, 1)
    for number, name in enumerate(("second", "third"), start=1):
        jobs.append(callers.paint(name))
        callers.wait_for_queue(number)

    refused = callers.paint("fourth").result()
    problem = problem_of(refused)
    assert (problem["status"], problem["code"], problem["retryable"]) == (503, "queue_full", True)
    assert int(refused.headers["Retry-After"]) >= 1
    assert callers.status_of(refused.headers["X-Request-ID"]) == 404, "nothing was written for it"
    health = callers.health()
    assert (health["queue"], health["webuis"]["busy"]) == ({"waiting": 2, "limit": 2}, 1)
    assert health["status"] == "healthy"

    simulator.clear_faults()
    assert [job.result().status_code for job in jobs] == [200] * 3
    assert [json.loads(one.body)["prompt"] for one in simulator.generations] == ["first", "second", "third"]
    assert simulator.most_concurrent == 1


def test_a_job_that_cannot_start_in_time_is_never_started(callers: Callers, simulator: Simulator) -> None:
    first = callers.paint("first")
    painting(simulator, 1)
    answer = callers.paint("second", prefer="wait=1").result()

    problem = problem_of(answer)
    assert (problem["status"], problem["code"], problem["retryable"]) == (503, "queue_timeout", True)
    assert int(answer.headers["Retry-After"]) >= 1
    callers.wait_for_queue(0)
    simulator.clear_faults()
    assert first.result().status_code == 200
    assert len(simulator.generations) == 1


def test_a_job_that_runs_longer_than_its_caller_waits(callers: Callers, simulator: Simulator) -> None:
    problem = problem_of(callers.paint("first", prefer="wait=1").result())
    assert (problem["status"], problem["code"]) == (504, "webui_timeout")
    wait_until(lambda: any(one.route == "interrupt" for one in simulator.requests), "the job is interrupted")

    # It hangs on all the same, and the WebUI counts as busy: the next must wait.
    second = callers.paint("second")
    callers.wait_for_queue(1)
    assert len(simulator.generations) == 1
    simulator.clear_faults()
    assert second.result().status_code == 200


def test_no_waiting_at_all(make_app: MakeApp, simulator: Simulator, threads: ThreadPoolExecutor) -> None:
    callers = Callers(make_app(simulator.url, SD_QUEUE_LIMIT="0"), threads)
    simulator.set_fault("hang-before")
    first = callers.paint("first")
    painting(simulator, 1)
    assert problem_of(callers.paint("second").result())["code"] == "queue_full"
    simulator.clear_faults()
    assert first.result().status_code == 200
    assert callers.paint("third").result().status_code == 200


def test_two_slots(make_app: MakeApp, simulator: Simulator, threads: ThreadPoolExecutor) -> None:
    callers = Callers(make_app(simulator.url, SD_WEBUI_SLOTS="2"), threads)
    simulator.set_fault("hang-before")
    jobs = [callers.paint(str(number)) for number in range(3)]
    painting(simulator, 2)
    callers.wait_for_queue(1)
    simulator.clear_faults()
    assert [job.result().status_code for job in jobs] == [200] * 3
