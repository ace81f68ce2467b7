"""WebUIs that die, freeze, refuse and answer rubbish, and workers that are killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import requests

from sd_client import failures, schedule
from sd_client.granting import grant
from sd_client.schedule import Job, Schedule
from tests.pool.callers import Callers, health, statuses, wait_for_no_lease, wait_for_queue, wait_for_webuis, when
from tests.pool.conftest import MakeProcesses, MakeWebUIs, StartService
from tests.pool.webuis import all_jobs, assert_never_crowded, assert_no_job_twice, jobs_of
from tests.running import Service

#: Milliseconds are promised; what hangs takes many seconds.
SLOW_HEALTH_S = 2.0


def assert_health_is_fast(service: Service) -> None:
    for _ in range(5):
        began = time.monotonic()
        health(service)
        assert time.monotonic() - began < SLOW_HEALTH_S


def test_a_webui_is_killed_and_comes_back(
    callers: Callers, make_processes: MakeProcesses, start_service: StartService
) -> None:
    webuis = make_processes(2)
    service = start_service(webuis, workers=2)
    jobs = [callers.paint(service, seconds=0.5) for _ in range(6)]
    when(lambda: all(webui.jobs for webui in webuis), "both paint")
    webuis[0].kill()
    outcomes = [job.result() for job in jobs]
    assert statuses(outcomes) == {"200": 5, "webui_error": 1}
    wait_for_webuis(service, 1)
    when(lambda: health(service)["status"] == "degraded", "whichever worker answers")
    assert_health_is_fast(service)
    assert statuses(callers.paint_many([service], 2, seconds=0.1)) == {"200": 2}

    webuis[0].start()
    wait_for_webuis(service, 2)

    def both_paint() -> bool:
        assert statuses(callers.paint_many([service], 2, seconds=0.2)) == {"200": 2}
        return bool(webuis[0].jobs)

    when(both_paint, "the one that was killed paints again")
    assert_never_crowded(webuis)
    assert_no_job_twice(webuis)
    wait_for_no_lease(service)


def test_a_webui_freezes(callers: Callers, make_processes: MakeProcesses, start_service: StartService) -> None:
    webuis = make_processes(2)
    service = start_service(webuis, SD_TIMEOUT="2")
    jobs = [callers.paint(service, seconds=0.3) for _ in range(2)]
    when(lambda: all(webui.jobs for webui in webuis), "both paint")
    webuis[0].freeze()
    assert statuses(job.result() for job in jobs) == {"200": 1, "webui_timeout": 1}
    assert health(service)["webuis"]["busy"] == 1, "busy until its answer has come or as long again has passed"
    assert statuses(callers.paint_many([service], 6, seconds=0.1)) == {"200": 6}
    assert_health_is_fast(service)

    webuis[0].thaw()
    wait_for_webuis(service, 2)
    wait_for_no_lease(service)
    assert statuses(callers.paint_many([service], 8, seconds=0.2)) == {"200": 8}
    assert_never_crowded(webuis)
    assert_no_job_twice(webuis)


def test_rubbish_is_not_asked_for_again_and_again(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    bad, good = make_webuis(2)
    service = start_service([bad, good], workers=2)
    bad.set_fault("garbage")
    outcomes = callers.paint_many([service], 30, seconds=0.1)
    wrong = statuses(outcomes)["webui_error"]
    assert wrong == len(jobs_of(bad))
    assert 0 < wrong <= failures.ANSWERED_ERRORS + 3
    assert statuses(outcomes)["200"] == 30 - wrong
    assert_no_job_twice([bad, good])

    bad.clear_faults()
    bad.forget_requests()

    def paints() -> bool:
        assert statuses(callers.paint_many([service], 3, seconds=0.1)) == {"200": 3}
        return len(jobs_of(bad)) > 0

    when(paints, "it gets jobs again")


def test_whoever_cannot_be_reached_is_passed_over(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    webuis = make_webuis(3)
    service = start_service(webuis)
    for webui in webuis[:2]:
        webui.close()
    outcomes = callers.paint_many([service], 9, seconds=0.1)
    assert statuses(outcomes) == {"200": 9}
    assert len(jobs_of(webuis[2])) == 9

    webuis[2].close()
    (refused,) = callers.paint_many([service], 1)
    assert refused.code == "webui_unavailable"
    assert refused.retry_after_s is not None
    assert refused.retry_after_s >= 1
    wait_for_no_lease(service)


def test_a_lost_answer_is_never_asked_for_again(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    webuis = make_webuis(2)
    service = start_service(webuis)
    for webui in webuis:
        webui.set_fault("reset-after", times=1)
    outcomes = callers.paint_many([service], 2, seconds=0.1)
    assert statuses(outcomes) == {"webui_error": 2}
    assert_no_job_twice(webuis)
    assert len(all_jobs(webuis)) == 2


def test_others_hardly_wait_for_whoever_sends_jobs_that_always_fail() -> None:
    """At another time: one caller sends such jobs at once again, for an hour, then another one comes."""
    state, now = Schedule(), 0.0

    def run(ticket: str, *, fails: bool) -> float:
        """When it started."""
        nonlocal state, now
        state = schedule.enter(state, Job(ticket=ticket, holder="me", webuis=("w",), model="m", since=now))
        while (found := state.find(ticket)) is not None and found.webui is None:
            state = grant(state, slots=1, patience_s=5, now=now)
            now += 0.1
        began = now
        state = schedule.leave(state, ticket)
        state = schedule.failed(state, "w", now=now, answered=True) if fails else schedule.succeeded(state, "w")
        return began

    number = 0
    while now < 3600:
        run(f"bad-{number}", fails=True)
        number += 1
    came = now
    assert run("good", fails=False) - came < failures.LONGEST_OUT_AFTER_ANSWERS_S + 1
    assert state.troubles["w"].until is None


# --- Workers ----------------------------------------------------------------------------------------------------------


def test_one_that_is_out_of_memory_fails_nobody_while_another_can_paint(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    short, good = webuis = make_webuis(2)
    service = start_service(webuis, workers=2)
    short.set_fault("oom")
    assert statuses(callers.paint_many([service], 40, seconds=0.05)) == {"200": 40}
    assert len(jobs_of(short)) <= 8, "it is asked now and then only"
    good.set_fault("oom")
    assert statuses(callers.paint_many([service], 2, seconds=0.1)) == {"gpu_out_of_memory": 2}
    wait_for_no_lease(service)


def test_one_that_takes_no_jobs_fails_nobody_while_another_can_paint(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    taken, _ = webuis = make_webuis(2)
    service = start_service(webuis)
    taken.set_fault("busy")
    assert statuses(callers.paint_many([service], 20, seconds=0.05)) == {"200": 20}


@pytest.mark.parametrize("fault", ["nan:times=2:of=3", "reset-after"])
def test_one_that_fails_at_once_draws_no_jobs_to_itself(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService, fault: str
) -> None:
    bad, good = webuis = make_webuis(2)
    service = start_service(webuis, workers=2)
    bad.set_fault(fault)
    counts = statuses(callers.paint_many([service], 40, seconds=0.05))
    assert counts["200"] >= 32
    assert len(jobs_of(good)) >= 30
    wait_for_no_lease(service)


def worker_pids(service: Service) -> list[int]:
    master = service.process.pid
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def test_a_worker_is_killed(callers: Callers, make_webuis: MakeWebUIs, start_service: StartService) -> None:
    """Its jobs are lost with it, its places are free at once, and all others go on."""
    webuis = make_webuis(2)
    killed, other = (start_service(webuis) for _ in range(2))
    for webui in webuis:
        webui.set_fault("hang-before")
    jobs = {service: [callers.paint(service, seconds=0.2) for _ in range(4)] for service in (killed, other)}
    wait_for_queue(other, 6)
    os.kill(worker_pids(killed)[0], signal.SIGKILL)
    for webui in webuis:
        webui.clear_faults()
    for job in jobs[killed]:
        with pytest.raises(requests.ConnectionError):
            job.result()
    assert [job.result().status for job in jobs[other]] == [200] * 4
    assert_no_job_twice(webuis)
    wait_for_webuis(killed, 2)  # gunicorn has started another worker
    wait_for_no_lease(killed, other)
    assert statuses(callers.paint_many([killed], 4, seconds=0.1)) == {"200": 4}
