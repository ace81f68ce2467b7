"""Decides which waiting job gets which WebUI: pure functions of the schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from sd_client.failures import is_broken
from sd_client.schedule import FUTURE_S, Job, Schedule


def grant(schedule: Schedule, *, slots: int, patience_s: float, now: float) -> Schedule:
    """
    Gives free slots to waiting jobs, oldest first.

    A job takes an idle WebUI that has its model loaded. If such a WebUI is busy, the job leaves other idle ones to
    younger jobs for up to ``patience_s`` seconds. Otherwise it takes an idle one that must load the model. Among
    several it prefers one without failures; a doubted one is taken only if all that can do the job are doubted, and one
    that cannot load the model never.

    :param slots: jobs that may run on one WebUI at a time. :param now: by the schedule's clock.
    """
    schedule = _without_future(schedule, now)
    while (start := _next_start(schedule, slots=slots, patience_s=patience_s, now=now)) is not None:
        job, webui = start
        switches = bool(job.model) and schedule.loaded.get(webui, "") not in ("", job.model)
        painted = schedule.painted.get(webui, "")
        started = replace(
            job,
            webui=webui,
            since=now,
            switches=switches,
            proven=painted == job.model or not job.model or not (switches or webui in schedule.troubles),
            before=painted or schedule.loaded.get(webui, ""),
            sound=painted not in ("", job.model),
        )
        schedule = replace(
            schedule,
            waiting=tuple(other for other in schedule.waiting if other.ticket != job.ticket),
            running=(*schedule.running, started),
            loaded={**schedule.loaded, webui: job.model} if job.model else schedule.loaded,
        )
    return _with_passed(schedule, slots=slots, now=now)


def _without_future(schedule: Schedule, now: float) -> Schedule:
    """
    Replaces times in the future by now. They date from before the clock was set back: otherwise a WebUI would be out,
    and a job behind all that come, for as long as the clock was set back.
    """
    latest = now + FUTURE_S
    if any(job.since > latest or (job.passed or now) > latest for job in (*schedule.waiting, *schedule.running)):
        schedule = replace(
            schedule,
            waiting=tuple(_not_after(job, now) for job in schedule.waiting),
            running=tuple(_not_after(job, now) for job in schedule.running),
        )
    troubles = {webui: trouble.by_clock(now, FUTURE_S) for webui, trouble in schedule.troubles.items()}
    return schedule if troubles == schedule.troubles else replace(schedule, troubles=troubles)


def _not_after(job: Job, now: float) -> Job:
    return replace(job, since=min(job.since, now), passed=None if job.passed is None else min(job.passed, now))


def _next_start(schedule: Schedule, *, slots: int, patience_s: float, now: float) -> tuple[Job, str] | None:
    """The oldest job that may start now, and its WebUI. What one start loads may be what an older job waits for."""
    idle = _idle(schedule, slots=slots, now=now)
    if not idle:
        return None
    seen = set()  # most jobs need the same as the one before them
    for job in schedule.waiting:
        patient = now - (now if job.passed is None else job.passed) < patience_s
        needs = id(job.webuis), job.model, patient
        if needs not in seen and (webui := _choice(schedule, job, idle, patient=patient, now=now)) is not None:
            return job, webui
        seen.add(needs)
    return None


def _idle(schedule: Schedule, *, slots: int, now: float) -> dict[str, int]:
    """
    The WebUIs that may get a job now, and how many each runs already.

    A WebUI that failed gets one job on trial after its time out. One with a job that is to be interrupted gets none,
    since an interrupt hits whatever runs.
    """
    if not schedule.waiting:
        return {}
    busy = Counter(job.webui for job in schedule.running)
    ending = {job.webui for job in schedule.running if job.cancelled}
    # Nearly all jobs share one object, which is looked at once.
    wanted = {id(job.webuis): job.webuis for job in schedule.waiting}
    webuis = dict.fromkeys(webui for webuis in wanted.values() for webui in webuis)
    return {
        webui: busy[webui]
        for webui in webuis
        if busy[webui] < slots and webui not in ending and _trusted(schedule, webui, busy[webui], now)
    }


def _trusted(schedule: Schedule, webui: str, busy: int, now: float) -> bool:
    trouble = schedule.troubles.get(webui)
    return trouble is None or trouble.until is None or (trouble.until <= now and busy == 0)


def _choice(schedule: Schedule, job: Job, idle: Mapping[str, int], *, patient: bool, now: float) -> str | None:
    open_webuis = _open(schedule, job, idle, now)
    if not open_webuis:
        return None
    troubles = schedule.troubles
    ready = [webui for webui in open_webuis if not job.model or schedule.loaded.get(webui) == job.model]
    if ready:
        return min(ready, key=lambda webui: (webui in troubles, idle[webui]))
    if patient and _model_is_busy(schedule, job):
        return None
    wanted = {other.model for other in schedule.waiting if other.ticket != job.ticket}
    # Rather unload a model that nobody waits for.
    return min(open_webuis, key=lambda webui: (webui in troubles, schedule.loaded.get(webui) in wanted, idle[webui]))


def _open(schedule: Schedule, job: Job, idle: Mapping[str, int], now: float) -> list[str]:
    """The idle WebUIs that a job may get: no doubted one, unless all that can do it are doubted."""
    able = _able(schedule, job, now)
    open_webuis = [webui for webui in idle if webui in able]
    if not schedule.troubles or all(_is_doubted(schedule, webui, now) for webui in able):
        return open_webuis
    return [webui for webui in open_webuis if not _is_doubted(schedule, webui, now)]


def _able(schedule: Schedule, job: Job, now: float) -> Collection[str]:
    """The WebUIs that can do a job: a model may have turned out to be broken since the job came."""
    if not schedule.broken:
        return job.webuis
    return [webui for webui in job.webuis if not is_broken(schedule.broken, webui, job.model, now)]


def _is_doubted(schedule: Schedule, webui: str, now: float) -> bool:
    trouble = schedule.troubles.get(webui)
    return trouble is not None and now < trouble.doubted_until


def _model_is_busy(schedule: Schedule, job: Job) -> bool:
    """Whether a WebUI with the job's model is busy and has not failed lately, so that the job can wait for it."""
    has_model = {w for w in job.webuis if schedule.loaded.get(w) == job.model and w not in schedule.troubles}
    return any(running.webui in has_model for running in schedule.running)


def _with_passed(schedule: Schedule, *, slots: int, now: float) -> Schedule:
    """Marks the jobs that wait although they could have an idle WebUI, from now on."""
    idle = _idle(schedule, slots=slots, now=now)
    if not idle:
        return schedule
    waiting = tuple(
        replace(job, passed=now) if job.passed is None and _is_passed(schedule, job, idle, now) else job
        for job in schedule.waiting
    )
    return replace(schedule, waiting=waiting)


def _is_passed(schedule: Schedule, job: Job, idle: Mapping[str, int], now: float) -> bool:
    if schedule.troubles or schedule.broken:
        return bool(_open(schedule, job, idle, now))
    return not idle.keys().isdisjoint(job.webuis)
