"""
The schedule alone: what one job costs in it, however many WebUIs and waiting jobs there are, and how many jobs a second
four processes bring through it over Redis.

Nothing is painted and nothing waits: one job after another ends and enters in a schedule in which every WebUI is busy,
as in a pool under full load.
"""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.pool import Pool
from typing import Any
from uuid import uuid4

import redis

from bench.stage import Stage
from sd_client import schedule
from sd_client.granting import grant
from sd_client.schedule import Job, Schedule
from sd_client.shared_schedule import ScheduleJson
from state.redis import RedisStore

WEBUIS = (1, 4, 16, 50, 100, 200, 400, 1000, 2000)
WAITING = (1, 16, 64, 256, 1000, 2000, 5000)
MODEL = "v1-5-pruned-emaonly"
#: Of which the medians are taken.
JOBS = 30
PROCESSES = 4
WINDOW_S = 2.0

_KEY = "schedule"
_TTL_S = 600.0

Row = dict[str, Any]


def rows() -> list[Row]:
    """More and more WebUIs with 64 jobs that wait, and more and more of these before 16 WebUIs."""
    context = multiprocessing.get_context("spawn")
    with Stage() as stage, context.Pool(PROCESSES) as processes:
        _, url = stage.redis()

        def measured(webuis: int, waiting: int) -> Row:
            return {**row(webuis, waiting), "redis_jobs_per_s": _over_redis(url, processes, webuis, waiting)}

        many_webuis = [{"what": "webuis", **measured(webuis, 64)} for webuis in WEBUIS]
        return many_webuis + [{"what": "waiting", **measured(16, waiting)} for waiting in WAITING]


def row(webuis: int, waiting: int) -> Row:
    """:return: CPU of one job's two changes, and of these with their reading where another process wrote each."""
    queue = Queue(webuis)
    return {
        "webuis": webuis,
        "waiting": waiting,
        "document_kb": round(len(ScheduleJson().dump(queue.filled(waiting))) / 1000, 1),
        "alone_ms": _cpu_ms(queue, waiting, processes=1),
        "among_others_ms": _cpu_ms(queue, waiting, processes=2),
    }


class Queue:
    """Changes of a schedule in which every WebUI is busy and some jobs wait."""

    def __init__(self, webuis: int) -> None:
        self._webuis = tuple(f"{number:012x}" for number in range(webuis))

    def filled(self, waiting: int) -> Schedule:
        jobs = tuple(replace(self._job(), webuis=self._webuis) for _ in range(len(self._webuis) + waiting))
        return _granted(Schedule(waiting=jobs, loaded=dict.fromkeys(self._webuis, MODEL), epoch="a"))

    def end(self, state: Schedule) -> Schedule:
        """The job that has run for the longest ends, and the oldest that waits gets its place."""
        job = state.running[0]
        webui = job.webui or ""
        left = schedule.succeeded(schedule.leave(state, job.ticket, ran_s=1.0), webui)
        return _granted(schedule.painted_with(left, webui, MODEL))

    def enter(self, state: Schedule) -> Schedule:
        return _granted(schedule.enter(state, self._job()))

    def _job(self) -> Job:
        """With a separate tuple of WebUIs, as each request has."""
        ticket, webuis = uuid4().hex, (*self._webuis,)
        return Job(ticket=ticket, holder="host-worker", webuis=webuis, model=MODEL, since=time.time(), request=ticket)


def _granted(state: Schedule) -> Schedule:
    return grant(state, slots=1, patience_s=0.0, now=time.time())


def _cpu_ms(queue: Queue, waiting: int, *, processes: int) -> float:
    """:param processes: take turns, so that one of several has to read what another one wrote."""
    turns = itertools.cycle([ScheduleJson() for _ in range(processes)])
    raw = next(turns).dump(queue.filled(waiting))
    took = []
    for _ in range(JOBS):
        began = time.thread_time()
        for change in (queue.end, queue.enter):
            process = next(turns)
            raw = process.dump(change(process.load(raw)))
        took.append(time.thread_time() - began)
    return round(1000 * statistics.median(took), 3)


def _over_redis(url: str, processes: Pool, webuis: int, waiting: int) -> float:
    """Jobs a second of all processes together."""
    _store(url).put(_KEY, ScheduleJson().dump(Queue(webuis).filled(waiting)), ttl_s=_TTL_S)
    return round(sum(processes.starmap(_jobs_per_s, [(url, webuis)] * PROCESSES, chunksize=1)), 1)


def _jobs_per_s(url: str, webuis: int) -> float:
    store, json, queue = _store(url), ScheduleJson(), Queue(webuis)

    def changed(change: Callable[[Schedule], Schedule]) -> None:
        store.update(_KEY, lambda raw: json.dump(change(json.load(raw))), ttl_s=_TTL_S)

    began, jobs = time.monotonic(), 0
    while time.monotonic() < began + WINDOW_S:
        changed(queue.end)
        changed(queue.enter)
        jobs += 1
    return jobs / (time.monotonic() - began)


def _store(url: str) -> RedisStore:
    return RedisStore(redis.Redis.from_url(url))
