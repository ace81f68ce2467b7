"""
The schedule alone, by simulated time: what one job costs in it, however many WebUIs and waiting jobs there are.

Nothing is sent and nothing waits: one job after another enters and leaves a schedule in which every WebUI is busy, as
in a pool under full load.
"""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import replace
from typing import Any

from sd_client import schedule
from sd_client.granting import grant
from sd_client.schedule import Job, Schedule
from sd_client.shared_schedule import ScheduleJson

WEBUIS = (1, 4, 16, 50, 100, 200, 400, 1000, 2000)
WAITING = (1, 16, 64, 256, 1000, 2000, 5000)
MODEL = "v1-5-pruned-emaonly"
#: Of which the medians are taken.
JOBS = 30

Row = dict[str, Any]


def rows() -> list[Row]:
    """More and more WebUIs with 64 jobs that wait, and more and more of these before 16 WebUIs."""
    many_webuis = [{"what": "webuis", **row(webuis, 64)} for webuis in WEBUIS]
    return many_webuis + [{"what": "waiting", **row(16, waiting)} for waiting in WAITING]


def row(webuis: int, waiting: int) -> Row:
    """
    :return: CPU of one job's two changes, and of their reading where each was written by another process; with the
        jobs a second that this leaves room for, since changes come one after the other.
    """
    queue, among_others = _Queue(webuis, waiting, processes=1), _Queue(webuis, waiting, processes=2)
    alone_ms, other_ms = (1000 * statistics.median(one.job() for _ in range(JOBS)) for one in (queue, among_others))
    return {
        "webuis": webuis,
        "waiting": waiting,
        "document_kb": round(len(queue.raw) / 1000, 1),
        "alone_ms": round(alone_ms, 3),
        "among_others_ms": round(other_ms, 3),
        "jobs_per_s": round(1000 / other_ms, 1),
    }


class _Queue:
    """
    A schedule in which every WebUI is busy and some jobs wait, by a clock that goes on with each job.

    :param processes: take turns, so that one of several has to read what another one wrote.
    """

    def __init__(self, webuis: int, waiting: int, *, processes: int) -> None:
        self._ids = tuple(f"{number:012x}" for number in range(webuis))
        self._processes = itertools.cycle([ScheduleJson() for _ in range(processes)])
        self._numbers = itertools.count()
        self._now = 1e9
        jobs = [replace(self._job(), webuis=self._ids) for _ in range(webuis + waiting)]
        state = Schedule(waiting=tuple(jobs), loaded=dict.fromkeys(self._ids, MODEL), epoch="a")
        self.raw = next(self._processes).dump(self._granted(state))

    def job(self) -> float:
        """CPU seconds of one job that ends, whose place the oldest that waits gets, and of another one that enters."""
        began = time.thread_time()
        process = next(self._processes)
        state = process.load(self.raw)
        longest = state.running[0]
        webui = longest.webui or ""
        left = schedule.leave(state, longest.ticket, ran_s=1.0)
        self.raw = process.dump(self._granted(schedule.painted_with(schedule.succeeded(left, webui), webui, MODEL)))
        process = next(self._processes)
        state = process.load(self.raw)
        self.raw = process.dump(self._granted(schedule.enter(state, self._job())))
        return time.thread_time() - began

    def _granted(self, state: Schedule) -> Schedule:
        self._now += 0.01
        return grant(state, slots=1, patience_s=0.0, now=self._now)

    def _job(self) -> Job:
        """With a separate tuple of WebUIs, as each request has."""
        ticket, webuis = f"{next(self._numbers):032x}", (*self._ids,)
        return Job(ticket=ticket, holder="host-worker", webuis=webuis, model=MODEL, since=self._now, request=ticket)
