"""Who waits and who runs where: one value, and the pure functions that change it.

Where this state is stored is the business of :mod:`sd_client.shared_schedule`.
Times are seconds of one clock that all holders share.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sd_client.failures import Broken, Trouble, after_doubt, after_failure, with_broken


@dataclass(frozen=True, kw_only=True)
class Entry:
    """
    What is known about a job, except the WebUIs that can do it.

    :param ticket: a unique name of the job.
    :param holder: the process that is responsible for it; its jobs end when it dies.
    :param model: the checkpoint it needs, by its ``model_name``; "" if it needs none.
    :param since: when it began to wait, or, once running, when it began to run.
    :param webui: where it runs; None while it waits.
    :param request: the id by which its caller can ask about it; "" if nobody can.
    :param cancelled: its caller no longer wants it; its holder ends it.
    :param passed: since when it has left idle WebUIs to others because one that has its model is busy.
    :param switches: it runs on a WebUI that had another model.
    :param proven: it runs on one that has painted with its model just before, or has failed nothing lately.
    :param before: the model that its WebUI painted with before, or has loaded; "" if unknown.
    :param sound: its WebUI has just painted with another model: if it fails to load this one, the model is to blame.
    :param painted: how many of its ``pictures`` are finished, if they are painted one by one.
    :param task: its id at the WebUI.
    """

    ticket: str
    holder: str
    model: str
    since: float
    webui: str | None = None
    request: str = ""
    cancelled: bool = False
    passed: float | None = None
    switches: bool = False
    proven: bool = False
    before: str = ""
    sound: bool = False
    pictures: int = 1
    painted: int = 0
    task: str = ""


@dataclass(frozen=True, kw_only=True)
class Job(Entry):
    """:param webuis: ids of the WebUIs that can do it."""

    webuis: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """
    :param waiting: in the order in which they came.
    :param loaded: the model that each WebUI ran last, by the WebUI's id.
    :param painted: the model that each WebUI painted with last, if nothing has failed there since.
    :param troubles: what failed lately, by WebUI.
    :param broken: the models that a WebUI cannot load, and until when they are not sent to it.
    :param job_seconds: moving average of how long a job runs; None before the first has ended.
    :param epoch: names this schedule; another name shows that the one before was lost. "" before it is stored.
    """

    waiting: tuple[Job, ...] = ()
    running: tuple[Job, ...] = ()
    loaded: Mapping[str, str] = field(default_factory=dict)
    painted: Mapping[str, str] = field(default_factory=dict)
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    broken: Broken = field(default_factory=dict)
    job_seconds: float | None = None
    epoch: str = ""

    def find(self, ticket: str) -> Job | None:
        return self._by_ticket.get(ticket)

    def busy(self, webui: str) -> int:
        """How many jobs run on a WebUI."""
        return sum(job.webui == webui for job in self.running)

    @cached_property
    def _by_ticket(self) -> Mapping[str, Job]:
        """Each of perhaps thousands of callers that wait looks for its own job again and again."""
        return {job.ticket: job for job in (*self.waiting, *self.running)}


#: Seconds by which the processes' clocks may differ. Later times date from before a clock was set back.
FUTURE_S = 1.0
#: How long a job is assumed to run before one has been measured.
DEFAULT_JOB_S = 10.0
#: Weight of the newest job in the average: about the last ten count.
_NEWEST = 0.2


def enter(schedule: Schedule, job: Job) -> Schedule:
    """
    The job waits, behind all that came before it.

    It refers to the same tuple of WebUIs as another job that has the same ones. Most jobs have, and what is done for
    each tuple is then done once: otherwise a change would cost as much as there are jobs times WebUIs.
    """
    others = (*schedule.waiting, *schedule.running)
    webuis = next((other.webuis for other in others if other.webuis == job.webuis), job.webuis)
    waiting = sorted((*schedule.waiting, replace(job, webuis=webuis)), key=lambda waiting: waiting.since)
    return replace(schedule, waiting=tuple(waiting))


def count(schedule: Schedule, ticket: str, *, painted: int, pictures: int) -> Schedule:
    """Records how many of a running job's pictures are finished."""
    running = (
        replace(job, painted=painted, pictures=pictures) if job.ticket == ticket else job for job in schedule.running
    )
    return replace(schedule, running=tuple(running))


def leave(schedule: Schedule, ticket: str, *, ran_s: float | None = None) -> Schedule:
    """
    The job is gone, waiting or running.

    :param ran_s: how long it ran, in seconds; None if that says nothing about the next jobs.
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
    """A job succeeded: the WebUI is neither out nor doubted any more. Each success removes one of its failures."""
    trouble = schedule.troubles.get(webui)
    return schedule if trouble is None else _with_trouble(schedule, webui, trouble.after_success())


def failed(schedule: Schedule, webui: str, *, now: float, answered: bool) -> Schedule:
    """
    A job failed on a WebUI.

    :param answered: the WebUI answered with an error, which may be the job's fault; otherwise it was unreachable, lost
        the answer or never gave one.
    """
    trouble = after_failure(schedule.troubles.get(webui), now=now, answered=answered)
    return _with_trouble(schedule, webui, trouble)


def painted_with(schedule: Schedule, webui: str, model: str | None) -> Schedule:
    """The model that a WebUI has painted with; None: it has failed since."""
    others = {other: name for other, name in schedule.painted.items() if other != webui}
    if model is None:
        return replace(schedule, painted=others)
    return replace(schedule, painted={**others, webui: model}, loaded={**schedule.loaded, webui: model})


def broke(schedule: Schedule, webui: str, models: Sequence[str], *, now: float, sure: bool) -> Schedule:
    """A WebUI cannot load these models; see :func:`sd_client.failures.with_broken`."""
    return replace(schedule, broken=with_broken(schedule.broken, webui, models, now=now, sure=sure))


def mended(schedule: Schedule, webui: str) -> Schedule:
    """A WebUI was restarted, or has other files: what it could not load before is irrelevant now."""
    if webui not in schedule.broken and webui not in schedule.painted:
        return schedule
    broken = {other: models for other, models in schedule.broken.items() if other != webui}
    return painted_with(replace(schedule, broken=broken), webui, None)


def doubt(schedule: Schedule, webui: str, *, now: float) -> Schedule:
    """A WebUI had too little memory for a job that another one may be able to do."""
    return _with_trouble(schedule, webui, after_doubt(schedule.troubles.get(webui), now=now))


def pardon(schedule: Schedule, webuis: Collection[str]) -> Schedule:
    """The job was to blame for what these WebUIs were doubted for."""
    for webui in webuis:
        trouble = schedule.troubles.get(webui)
        if trouble is not None:
            schedule = _with_trouble(schedule, webui, trouble.after_pardon())
    return schedule


def _with_trouble(schedule: Schedule, webui: str, trouble: Trouble | None) -> Schedule:
    others = {other: known for other, known in schedule.troubles.items() if other != webui}
    return replace(schedule, troubles=others if trouble is None else {**others, webui: trouble})


def cancel(schedule: Schedule, name: str) -> Schedule:
    """Marks all jobs of a request, or the job of a ticket."""

    def marked(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
        return tuple(replace(job, cancelled=True) if name in (job.request, job.ticket) else job for job in jobs)

    return replace(schedule, waiting=marked(schedule.waiting), running=marked(schedule.running))


def disclaim(schedule: Schedule, ticket: str) -> Schedule:
    """The caller of a running job has its answer: nobody can ask about the job any more, but it keeps its place."""
    running = tuple(replace(job, request="") if job.ticket == ticket else job for job in schedule.running)
    return replace(schedule, running=running)


def retarget(schedule: Schedule, webuis: Mapping[str, tuple[str, ...]]) -> Schedule:
    """Sets which WebUIs can do each waiting job.

    :param webuis: by ticket.
    """
    if all(job.webuis == webuis.get(job.ticket, job.webuis) for job in schedule.waiting):
        return schedule
    waiting = tuple(replace(job, webuis=webuis.get(job.ticket, job.webuis)) for job in schedule.waiting)
    return replace(schedule, waiting=waiting)


def put_back(schedule: Schedule, jobs: Collection[Job]) -> Schedule:
    """Re-adds those jobs that are missing, as they were. A job that runs never becomes one that waits."""
    lost = [job for job in jobs if _is_lost(schedule.find(job.ticket), job)]
    if not lost:
        return schedule
    tickets = {job.ticket for job in lost}
    schedule = replace(
        schedule,
        waiting=tuple(job for job in schedule.waiting if job.ticket not in tickets),
        running=(
            *(job for job in schedule.running if job.ticket not in tickets),
            *(job for job in lost if job.webui is not None),
        ),
    )
    for job in lost:
        if job.webui is None:
            schedule = enter(schedule, job)
    return schedule


def _is_lost(found: Job | None, job: Job) -> bool:
    return found is None or (job.webui is not None and found.webui != job.webui)


def disown(schedule: Schedule, holder: str, tickets: Collection[str]) -> Schedule:
    """Removes the holder's jobs except those it still has: the others ended while the store could not be reached."""

    def kept(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
        return tuple(job for job in jobs if job.holder != holder or job.ticket in tickets)

    return replace(schedule, waiting=kept(schedule.waiting), running=kept(schedule.running))


def seconds_until_free(schedule: Schedule, *, slots: int, webuis: int) -> float:
    """How long a job that came now would wait, estimated from measured times and the jobs ahead of it."""
    places = max(1, slots * webuis)
    ahead = len(schedule.waiting) + len(schedule.running) - places + 1
    return max(0, ahead) * (schedule.job_seconds or DEFAULT_JOB_S) / places
