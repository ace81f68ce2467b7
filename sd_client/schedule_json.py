"""The schedule as the bytes that are stored.

Most jobs can be done by the same WebUIs, so each set of them is written once and jobs refer to it by number: with 64
jobs waiting for 50 WebUIs that halves the bytes, and the jobs that are read share their sets again.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from sd_client.schedule import Entry, Job, Schedule

#: The first bytes identify a change.
HEAD_BYTES = len(b'{"change":"') + 32


@dataclass(frozen=True, kw_only=True)
class _WrittenJob(Entry):
    """:param webuis: the number of the set."""

    webuis: int


@dataclass(frozen=True, kw_only=True)
class _Written:
    """
    :param change: names these bytes, uniquely.
    :param rest: the schedule without its jobs.
    """

    change: str
    webuis: tuple[tuple[str, ...], ...]
    waiting: tuple[_WrittenJob, ...]
    running: tuple[_WrittenJob, ...]
    rest: Schedule


_WRITTEN = TypeAdapter(_Written)


class ScheduleJson:
    """
    Remembers the last bytes and their meaning, since a process that changes the schedule mostly reads what it wrote.
    For any number of threads.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, Schedule] = (b"", Schedule())

    def dump(self, schedule: Schedule) -> bytes:
        numbers: dict[tuple[str, ...], int] = {}
        # Nearly all jobs share one object, so its ids are hashed once and not for every job.
        sets = {id(job.webuis): job.webuis for job in (*schedule.waiting, *schedule.running)}
        by_id = {known_id: numbers.setdefault(webuis, len(numbers)) for known_id, webuis in sets.items()}
        raw = to_json(
            {
                # Workers of an earlier release need it: during a rolling restart they share the queue.
                "change": uuid.uuid4().hex,
                "webuis": list(numbers),
                "waiting": _written(schedule.waiting, by_id),
                "running": _written(schedule.running, by_id),
                "rest": replace(schedule, waiting=(), running=()),
            }
        )
        self._last = raw, schedule
        return raw

    def load(self, raw: bytes | None) -> Schedule:
        """An empty schedule if there are no bytes, or if another release or program wrote them."""
        last, schedule = self._last
        if raw != last:
            schedule = _parsed(raw or b"")
            self._last = raw or b"", schedule
        return schedule

    def last(self, head: bytes) -> Schedule | None:
        """What was read or written last, if it begins with these :data:`HEAD_BYTES`; None if it must be read."""
        raw, schedule = self._last
        return schedule if head and raw[:HEAD_BYTES] == head else None


def _written(jobs: tuple[Job, ...], numbers: dict[int, int]) -> list[dict[str, Any]]:
    return [{**vars(job), "webuis": numbers[id(job.webuis)]} for job in jobs]


def _parsed(raw: bytes) -> Schedule:
    try:
        written = _WRITTEN.validate_json(raw)
        waiting, running = (_jobs(jobs, written.webuis) for jobs in (written.waiting, written.running))
    except (ValidationError, IndexError):
        return Schedule()
    return replace(written.rest, waiting=waiting, running=running)


def _jobs(written: tuple[_WrittenJob, ...], webuis: tuple[tuple[str, ...], ...]) -> tuple[Job, ...]:
    return tuple(Job(**{**vars(job), "webuis": webuis[job.webuis]}) for job in written)
