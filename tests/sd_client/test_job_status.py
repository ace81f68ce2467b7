"""The status of a request's job, from the schedule alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sd_client.job_status import JobStatus, SteadyProgress, status_of
from sd_client.schedule import Job, Schedule, cancel, disclaim
from tests.running import DEADLINE_S


def job(request: str, *, since: float = 0.0, webui: str | None = None) -> Job:
    return Job(
        ticket=f"t-{request}", holder="h", model="m", since=since, webui=webui, request=request, webuis=("a", "b")
    )


RUNNING = Schedule(running=(job("r", since=100.0, webui="a"),), job_seconds=20.0)


def status(request: str, state: Schedule, *, fraction: float | None = None) -> JobStatus | None:
    return status_of(request, state, slots=1, now=104.0, progress=lambda job: fraction)


def test_an_unknown_request_has_none() -> None:
    assert status("x", RUNNING) is None


@pytest.mark.parametrize(
    ("request_id", "behind", "eta_s"), [("one", 0, 10.0 + 20.0), ("two", 1, 20.0 + 20.0), ("three", 2, 30.0 + 20.0)]
)
def test_a_waiting_job_has_those_before_it_and_the_running_ones(request_id: str, behind: int, eta_s: float) -> None:
    """Two WebUIs, both busy: one place is free every ten seconds."""
    waiting = tuple(job(name) for name in ("one", "two", "three"))
    running = (job("r", webui="a"), job("s", webui="b"))
    state = Schedule(waiting=waiting, running=running, job_seconds=20.0)
    assert status(request_id, state) == JobStatus(waiting_behind=behind, progress=0.0, eta_s=eta_s)


def test_before_any_job_has_ended_nothing_is_estimated() -> None:
    state = Schedule(waiting=(job("one"),), running=(job("r", since=100.0, webui="a"),))
    assert status("one", state) == JobStatus(waiting_behind=0, progress=0.0, eta_s=None)
    assert status("r", state) == JobStatus(waiting_behind=None, progress=None, eta_s=None)


@pytest.mark.parametrize(
    ("fraction", "eta_s"),
    [(None, 16.0), (0.0, 16.0), (0.1, 16.0), (0.25, 12.0), (1.0, 0.0)],
)
def test_a_running_job_is_estimated_by_its_progress_once_that_tells_something(
    fraction: float | None, eta_s: float
) -> None:
    assert status("r", RUNNING, fraction=fraction) == JobStatus(waiting_behind=None, progress=fraction, eta_s=eta_s)


def test_a_cancelled_job_is_reported_as_cancelled() -> None:
    found = status("r", cancel(RUNNING, "r"))
    assert found == JobStatus(waiting_behind=None, progress=None, eta_s=None, cancelled=True)


def test_a_job_whose_caller_has_its_answer_is_nobodys() -> None:
    after = disclaim(RUNNING, "t-r")
    assert status("r", after) is None
    assert after.busy("a") == 1, "it has its place until it has ended"
    assert disclaim(RUNNING, "t-x") == RUNNING


def test_how_long_one_takes_that_runs_longer_than_most_is_not_known() -> None:
    late = Schedule(running=(job("r", since=0.0, webui="a"),), job_seconds=20.0)
    assert status("r", late) == JobStatus(waiting_behind=None, progress=None, eta_s=None)


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    early = Schedule(running=(job("r", since=200.0, webui="a"),), job_seconds=20.0)
    assert status("r", early, fraction=0.5) == JobStatus(waiting_behind=None, progress=0.5, eta_s=0.0)


def test_progress_is_asked_for_where_a_job_runs_only() -> None:
    asked: list[Job] = []

    def progress(running: Job) -> float | None:
        asked.append(running)
        return None

    state = Schedule(waiting=(job("w"),), running=(job("r", webui="a"),))
    for request in ("w", "x", "r"):
        status_of(request, state, slots=1, now=0.0, progress=progress)
    assert [running.request for running in asked] == ["r"]


def test_progress_is_never_less_than_before() -> None:
    reported = iter([0.4, 0.0, None, 0.5, 0.1])
    furthest = SteadyProgress(lambda job: next(reported))
    assert [furthest(job("r")) for _ in range(4)] == [0.4, 0.4, None, 0.5]
    assert furthest(job("another")) == 0.1


def test_a_webui_that_does_not_answer_holds_up_one_of_those_who_ask() -> None:
    asked, answered = threading.Event(), threading.Event()
    reported = [0.4]

    def ask(job: Job) -> float:
        if not reported:
            asked.set()
            assert answered.wait(DEADLINE_S)
            return 0.5
        return reported.pop()

    furthest = SteadyProgress(ask)
    assert furthest(job("r")) == 0.4
    with ThreadPoolExecutor() as threads:
        first = threads.submit(furthest, job("r"))
        try:
            assert asked.wait(DEADLINE_S)
            assert furthest(job("r")) == 0.4
        finally:
            answered.set()
        assert first.result() == 0.5


def test_only_the_last_jobs_are_remembered() -> None:
    reported = 1.0
    furthest = SteadyProgress(lambda job: reported)
    furthest(job("first"))
    for number in range(1000):
        furthest(job(str(number)))
    reported = 0.0
    assert (furthest(job("first")), furthest(job("999"))) == (0.0, 1.0)
