"""Who waits, who runs where, and who is next: pure values and pure functions.

Where this state is kept (a file that the workers of one host share) is :mod:`sd_client.leases`' matter.
Times are seconds of one clock that all holders share.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, kw_only=True)
class Job:
    """
    :param ticket: names the job; unique.
    :param holder: the process that answers for it; its jobs end when it dies.
    :param webuis: ids of the WebUIs that can do it.
    :param model: the checkpoint it needs, by its bare name.
    :param since: when it began to wait, or, once running, when it began to run.
    :param webui: where it runs; None while it waits.
    :param request: what its caller can ask for it by; "" where nobody can.
    :param cancelled: its caller wants it no more; its holder ends it.
    """

    ticket: str
    holder: str
    webuis: tuple[str, ...]
    model: str
    since: float
    webui: str | None = None
    request: str = ""
    cancelled: bool = False


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """
    A WebUI that failed jobs, without one that succeeded in between.

    :param until: it gets no job before; after that one at a time, until one succeeds.
    """

    failures: int
    until: float


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """
    :param waiting: first come, first served.
    :param loaded: the model that each WebUI ran last, by the WebUI's id.
    :param troubles: by WebUI.
    :param job_seconds: moving average of how long a job runs; None before the first has ended.
    """

    waiting: tuple[Job, ...] = ()
    running: tuple[Job, ...] = ()
    loaded: Mapping[str, str] = field(default_factory=dict)
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    job_seconds: float | None = None

    def find(self, ticket: str) -> Job | None:
        return next((job for job in (*self.waiting, *self.running) if job.ticket == ticket), None)

    def busy(self, webui: str) -> int:
        """Slots of a WebUI that are taken."""
        return sum(job.webui == webui for job in self.running)


#: A WebUI that lost a job is out for this long, twice as long after each further one, up to the longest.
FIRST_OUT_S = 2.0
LONGEST_OUT_S = 60.0
#: Jobs that a WebUI answered, but with an error, one after another, before it is out: the jobs may be to blame.
ANSWERED_ERRORS = 3

#: Weight of the newest job in the average: about the last ten count.
_NEWEST = 0.2


def enter(schedule: Schedule, job: Job) -> Schedule:
    """The job waits, behind all who came before it."""
    waiting = sorted((*schedule.waiting, job), key=lambda waiting: waiting.since)
    return replace(schedule, waiting=tuple(waiting))


def leave(schedule: Schedule, ticket: str, *, ran_s: float | None = None) -> Schedule:
    """
    The job is gone, waiting or running.

    :param ran_s: how long it ran, where that tells something about the next ones.
    """
    average = schedule.job_seconds
    if ran_s is not None:
        average = ran_s if average is None else average + _NEWEST * (ran_s - average)
    return replace(
        schedule,
        waiting=tuple(job for job in schedule.waiting if job.ticket != ticket),
        running=tuple(job for job in schedule.running if job.ticket != ticket),
        job_seconds=average,
    )


def forget(schedule: Schedule, dead: Collection[str]) -> Schedule:
    """Without the jobs of holders that died."""
    return replace(
        schedule,
        waiting=tuple(job for job in schedule.waiting if job.holder not in dead),
        running=tuple(job for job in schedule.running if job.holder not in dead),
    )


def succeeded(schedule: Schedule, webui: str) -> Schedule:
    """Whatever a WebUI failed at before is forgotten."""
    return replace(schedule, troubles={other: t for other, t in schedule.troubles.items() if other != webui})


def failed(schedule: Schedule, webui: str, *, now: float, answered: bool) -> Schedule:
    """
    A job failed on a WebUI.

    :param answered: with an error of the WebUI's own, which may be the job's fault; else the WebUI was not reachable,
        lost the answer or never gave one.
    """
    before = schedule.troubles.get(webui)
    failures = 1 if before is None else before.failures + 1
    beyond = failures - (ANSWERED_ERRORS if answered else 1)
    out_s = min(FIRST_OUT_S * 2**beyond, LONGEST_OUT_S) if beyond >= 0 else 0.0
    return replace(schedule, troubles={**schedule.troubles, webui: Trouble(failures=failures, until=now + out_s)})


def cancel(schedule: Schedule, request: str) -> Schedule:
    """Marks all jobs of a request."""

    def marked(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
        return tuple(replace(job, cancelled=True) if job.request == request else job for job in jobs)

    return replace(schedule, waiting=marked(schedule.waiting), running=marked(schedule.running))


def retarget(schedule: Schedule, webuis: Mapping[str, tuple[str, ...]]) -> Schedule:
    """Waiting jobs, by ticket, can now be done by other WebUIs than before."""
    if all(job.webuis == webuis.get(job.ticket, job.webuis) for job in schedule.waiting):
        return schedule
    waiting = tuple(replace(job, webuis=webuis.get(job.ticket, job.webuis)) for job in schedule.waiting)
    return replace(schedule, waiting=waiting)


def put_back(schedule: Schedule, jobs: Collection[Job]) -> Schedule:
    """With those of the jobs that are missing, waiting or running as they were."""
    missing = [job for job in jobs if schedule.find(job.ticket) is None]
    running = tuple(job for job in missing if job.webui is not None)
    for job in missing:
        if job.webui is None:
            schedule = enter(schedule, job)
    return replace(schedule, running=(*schedule.running, *running)) if running else schedule


def grant(schedule: Schedule, *, slots: int, patience_s: float, now: float) -> Schedule:
    """
    Free slots go to waiting jobs, oldest first.

    A job takes an idle WebUI that has its model; else it waits up to ``patience_s`` for one that has it and is
    busy; else it takes an idle one that must load it. A younger job may use what an older one leaves.
    """
    for job in schedule.waiting:
        open_webuis = [webui for webui in job.webuis if _trusted(schedule, webui, now)]
        webui = _choice(schedule, job, open_webuis, slots=slots, patient=now - job.since < patience_s)
        if webui is not None:
            started = replace(job, webui=webui, since=now)
            schedule = replace(
                schedule,
                waiting=tuple(other for other in schedule.waiting if other.ticket != job.ticket),
                running=(*schedule.running, started),
                loaded={**schedule.loaded, webui: job.model},
            )
    return schedule


def _trusted(schedule: Schedule, webui: str, now: float) -> bool:
    """Whether a WebUI may be given a job: one that failed gets one on trial when its time out is over."""
    trouble = schedule.troubles.get(webui)
    return trouble is None or (trouble.until <= now and schedule.busy(webui) == 0)


def _choice(schedule: Schedule, job: Job, webuis: list[str], *, slots: int, patient: bool) -> str | None:
    idle = [webui for webui in webuis if schedule.busy(webui) < slots]
    with_model = [webui for webui in webuis if schedule.loaded.get(webui) == job.model]
    ready = [webui for webui in idle if webui in with_model]
    if ready:
        return min(ready, key=schedule.busy)
    if not idle or (with_model and patient):
        return None
    wanted = {other.model for other in schedule.waiting if other.ticket != job.ticket}
    # Rather unload a model that nobody waits for.
    return min(idle, key=lambda webui: (schedule.loaded.get(webui) in wanted, schedule.busy(webui)))


def seconds_until_free(schedule: Schedule, *, slots: int, webuis: int, default_job_s: float) -> float:
    """How long a job that came now would wait, from measured job times and the queue."""
    places = max(1, slots * webuis)
    ahead = len(schedule.waiting) + len(schedule.running) - places + 1
    return max(0, ahead) * (schedule.job_seconds or default_job_s) / places
