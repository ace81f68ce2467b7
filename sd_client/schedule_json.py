"""The schedule as bytes, for the file and for Redis.

Most jobs can be done by the same WebUIs, so each set of them is written once and jobs name it by number: with a
thousand WebUIs that is half a megabyte instead of thirty.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from sd_client.schedule import Entry, Job, Schedule

#: So many bytes at the beginning tell one change from all others.
HEAD_BYTES = len(b'{"change":"') + 32


@dataclass(frozen=True, kw_only=True)
class _WrittenJob(Entry):
    """``webuis``: which of the written sets."""

    webuis: int


@dataclass(frozen=True, kw_only=True)
class _Written:
    """``change``: names these bytes, uniquely; ``rest``: the schedule without its jobs."""

    change: str
    webuis: tuple[tuple[str, ...], ...]
    waiting: tuple[_WrittenJob, ...]
    running: tuple[_WrittenJob, ...]
    rest: Schedule


_WRITTEN = TypeAdapter(_Written)


class ScheduleJson:
    """
    Remembers the last bytes and what they say: whoever changes a schedule again and again mostly reads what it wrote.
    For any number of threads.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, Schedule] = (b"", Schedule())

    def dump(self, schedule: Schedule) -> bytes:
        numbers: dict[tuple[str, ...], int] = {}
        # Nearly all jobs have one object in common: to look at each of its ids again would cost more than all the rest.
        known = {id(job.webuis): job.webuis for job in (*schedule.waiting, *schedule.running)}
        by_id = {known_id: numbers.setdefault(webuis, len(numbers)) for known_id, webuis in known.items()}
        raw = to_json(
            {
                "change": uuid.uuid4().hex,
                "webuis": list(numbers),
                "waiting": _written(schedule.waiting, by_id),
                "running": _written(schedule.running, by_id),
                "rest": replace(schedule, waiting=(), running=()),
            }
        )
        self._last = raw, schedule
        return raw

    def load(self, raw: bytes) -> Schedule:
        """An empty one where another release wrote it: the leases in it are lost, as after a reboot."""
        last, schedule = self._last
        if raw != last:
            schedule = _parsed(raw)
            self._last = raw, schedule
        return schedule

    def seen(self) -> Schedule:
        """What was loaded or dumped last."""
        return self._last[1]

    def last(self, head: bytes) -> Schedule | None:
        """The last one, where what begins with these :data:`HEAD_BYTES` is that; None where it must be read."""
        raw, schedule = self._last
        return schedule if raw[:HEAD_BYTES] == head else None


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
