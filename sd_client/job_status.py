"""Queue position, progress and estimated time of a job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from sd_client.client import WebUIClient
from sd_client.errors import WebUIError
from sd_client.models import Capabilities
from sd_client.schedule import Job, Schedule, seconds_until_free

#: Below this a WebUI may still be loading a model: the progress says nothing about the rest.
TELLING_FRACTION = 0.1
#: Jobs whose progress is remembered: those that were asked for last.
_MOST_FOLLOWED = 1000


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """
    :param waiting_behind: how many are before it; None once it runs.
    :param progress: 0 … 1; None if the WebUI does not report it.
    :param eta_s: seconds until its picture is there, from measured times; None before any job has ended.
    :param cancelled: its caller has cancelled it, and will be answered so.
    """

    waiting_behind: int | None
    progress: float | None
    eta_s: float | None
    cancelled: bool = False


class SteadyProgress:
    """
    A job's progress, never less than it was before: KoboldCpp is idle for a moment between two pictures of a batch,
    SD.Next begins anew when it decodes the picture.

    A WebUI that does not answer holds up one of those who ask for a job; the others receive what was known last.

    :param ask: the progress as the WebUI reports it now.
    """

    def __init__(self, ask: Callable[[Job], float | None]) -> None:
        self._ask = ask
        self._furthest: dict[str, float] = {}
        self._being_asked: set[str] = set()
        self._mutex = threading.Lock()

    def __call__(self, job: Job) -> float | None:
        with self._mutex:
            if job.ticket in self._being_asked:
                return self._furthest.get(job.ticket)
            self._being_asked.add(job.ticket)
        try:
            reported = self._ask(job)
        finally:
            with self._mutex:
                self._being_asked.remove(job.ticket)
        return None if reported is None else self._at_least(job.ticket, reported)

    def _at_least(self, ticket: str, reported: float) -> float:
        with self._mutex:
            furthest = max(reported, self._furthest.pop(ticket, 0.0))
            self._furthest[ticket] = furthest
            if len(self._furthest) > _MOST_FOLLOWED:
                del self._furthest[next(iter(self._furthest))]
        return furthest


def status_of(
    request: str, state: Schedule, *, slots: int, now: float, progress: Callable[[Job], float | None]
) -> JobStatus | None:
    """
    None if no job of the request waits or runs.

    :param now: by the schedule's clock.
    :param progress: of a running job, 0 … 1; None if it is unknown.
    """
    jobs = [job for job in (*state.waiting, *state.running) if job.request == request]
    if jobs and all(job.cancelled for job in jobs):
        return JobStatus(waiting_behind=None, progress=None, eta_s=None, cancelled=True)
    for place, job in enumerate(state.waiting):
        if job.request == request:
            return _waiting(state, place, slots)
    running = next((job for job in state.running if job.request == request), None)
    return None if running is None else _running(state, max(0.0, now - running.since), progress(running))


def _waiting(state: Schedule, place: int, slots: int) -> JobStatus:
    before = replace(state, waiting=state.waiting[:place])
    wait_s = seconds_until_free(before, slots=slots, webuis=len(state.waiting[place].webuis))
    eta_s = None if state.job_seconds is None else wait_s + state.job_seconds
    return JobStatus(waiting_behind=place, progress=0.0, eta_s=eta_s)


def _running(state: Schedule, elapsed_s: float, fraction: float | None) -> JobStatus:
    if fraction is not None and fraction > TELLING_FRACTION:
        eta_s: float | None = elapsed_s * (1 - fraction) / fraction
    else:
        left_s = 0.0 if state.job_seconds is None else state.job_seconds - elapsed_s
        # A job that has outlasted the others may end at any time, or wait inside the WebUI for somebody else's.
        eta_s = left_s if left_s > 0 else None
    return JobStatus(waiting_behind=None, progress=fraction, eta_s=eta_s)


def reported_fraction(client: WebUIClient, seen: Capabilities, job: Job, *, crowded: bool) -> float | None:
    """
    How far a running job is, 0 … 1; never somebody else's if the WebUI reports whose job it is.

    :param crowded: the WebUI may have other jobs at the same time.
    :returns: None if the WebUI does not report it.
    """
    try:
        fraction = _of_picture(client, seen, job, crowded=crowded)
    except WebUIError:
        return None
    return None if fraction is None else (job.painted + min(1.0, max(0.0, fraction))) / job.pictures


def _of_picture(client: WebUIClient, seen: Capabilities, job: Job, *, crowded: bool) -> float | None:
    """The fraction of the current picture that is painted."""
    if seen.reports_tasks and job.task:
        task = client.task(job.task)
        return None if task is None or task.state == "unknown" else task.fraction
    if not seen.has_progress or (crowded and not seen.progress_by_genkey):
        return None
    progress = client.progress(genkey=job.ticket if seen.progress_by_genkey else "")
    return None if progress is None else progress.fraction
