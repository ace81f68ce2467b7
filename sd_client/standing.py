"""Where a request's job is, and how long it will take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from sd_client.schedule import Job, Schedule, seconds_until_free

#: Before that a WebUI may still be loading a model: what it tells says nothing about the rest.
TELLING_FRACTION = 0.1
#: Jobs whose progress is remembered: those that were asked for last.
_MOST_FOLLOWED = 1000


@dataclass(frozen=True, kw_only=True)
class Standing:
    """
    :param waiting_behind: how many are before it; None once it runs.
    :param progress: 0 … 1; None where the WebUI does not tell.
    :param eta_s: until its picture is there, from measured times; None before any job has ended.
    :param cancelled: its caller has cancelled it, and will be answered so.
    """

    waiting_behind: int | None
    progress: float | None
    eta_s: float | None
    cancelled: bool = False


class Furthest:
    """
    A job's progress, never told as less than before: KoboldCpp is idle for a moment between two pictures of a batch,
    SD.Next begins anew when it decodes the picture.

    :param tell: the progress as the WebUI reports it now.
    """

    def __init__(self, tell: Callable[[Job], float | None]) -> None:
        self._tell = tell
        self._furthest: dict[str, float] = {}
        self._mutex = threading.Lock()

    def __call__(self, job: Job) -> float | None:
        told = self._tell(job)
        if told is None:
            return None
        with self._mutex:
            furthest = max(told, self._furthest.pop(job.ticket, 0.0))
            self._furthest[job.ticket] = furthest
            if len(self._furthest) > _MOST_FOLLOWED:
                del self._furthest[next(iter(self._furthest))]
        return furthest


def standing_of(
    request: str, state: Schedule, *, slots: int, now: float, progress: Callable[[Job], float | None]
) -> Standing | None:
    """
    None where the request has no job that waits or runs.

    :param now: by the schedule's clock.
    :param progress: how far a running job is, 0 … 1; None where that cannot be told.
    """
    jobs = [job for job in (*state.waiting, *state.running) if job.request == request]
    if jobs and all(job.cancelled for job in jobs):
        return Standing(waiting_behind=None, progress=None, eta_s=None, cancelled=True)
    for place, job in enumerate(state.waiting):
        if job.request == request:
            return _waiting(state, place, slots)
    running = next((job for job in state.running if job.request == request), None)
    return None if running is None else _running(state, max(0.0, now - running.since), progress(running))


def _waiting(state: Schedule, place: int, slots: int) -> Standing:
    before = replace(state, waiting=state.waiting[:place])
    wait_s = seconds_until_free(before, slots=slots, webuis=len(state.waiting[place].webuis))
    eta_s = None if state.job_seconds is None else wait_s + state.job_seconds
    return Standing(waiting_behind=place, progress=0.0, eta_s=eta_s)


def _running(state: Schedule, elapsed_s: float, fraction: float | None) -> Standing:
    if fraction is not None and fraction > TELLING_FRACTION:
        eta_s: float | None = elapsed_s * (1 - fraction) / fraction
    else:
        left_s = 0.0 if state.job_seconds is None else state.job_seconds - elapsed_s
        # A job that has outlasted the others may end at any time, or wait inside the WebUI for somebody else's.
        eta_s = left_s if left_s > 0 else None
    return Standing(waiting_behind=None, progress=fraction, eta_s=eta_s)
