"""The schedule in the store that all processes share, and this process's own jobs in it.

Every process knows its own jobs. With each change it re-adds those that are missing and removes those that have ended
while the store could not be reached. So a store that was restarted, emptied or replaced by another one recovers within
a second; until then nobody is granted a place.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from sd_client.errors import QueueUnavailableError
from sd_client.schedule import Job, Schedule, disown, put_back
from sd_client.schedule_json import HEAD_BYTES, ScheduleJson
from state.failover import FailoverStore
from state.holders import Holders
from state.store import Store, StoreError

#: All processes of all hosts have put their jobs back this long after Redis is reachable again, or the schedule lost.
SETTLE_S = 1.0
#: All processes of this host have, after Redis became unreachable.
SETTLE_HERE_S = 0.5
#: Other hosts are assumed to go on with their running jobs for this long without Redis: most outages are shorter.
OTHER_HOSTS_S = 3.0

_KEY = "pool:schedule"
#: A schedule that nobody has changed for so long belongs to no service any more.
_TTL_S = 86_400.0

Change = Callable[[Schedule], Schedule]


class SharedSchedule:
    """For any number of threads. All methods but :meth:`seen` wait for the store."""

    def __init__(self, store: Store, holders: Holders) -> None:
        self._store = store
        self._holders = holders
        self._json = ScheduleJson()
        self._mutex = threading.Lock()
        self._own: dict[str, Job] = {}
        self._seen = Schedule()
        # Each store keeps a schedule of its own: by whether Redis is in use, the epoch that was seen last.
        self._epochs: dict[bool, str] = {}
        self._failover = store if isinstance(store, FailoverStore) else None
        self._store_since = self._failover.changed_at if self._failover else 0.0
        self._settled_at = 0.0  # a process that begins has nothing to put back
        self._of_other_hosts: tuple[Job, ...] = ()

    def look(self) -> Schedule:
        """
        The schedule as last written. As long as it is the one that was seen last, only a few bytes are read.

        :raises QueueUnavailableError:
        """
        with self._mutex, translating_store_errors():
            known = self._json.last(self._store.head(_KEY, HEAD_BYTES))
            schedule = known or self._json.load(self._store.get(_KEY))
            self._notice_other_store()
            return self._see(schedule)

    def seen(self) -> Schedule:
        """What was read or written last; never waits."""
        return self._seen

    def change(self, change: Change, *, enters: Job | None = None, leaves: str = "") -> Schedule:
        """
        Applies a change to the schedule of this moment, alone among all threads, processes and hosts.

        :param change: may be called several times; whatever it raises is raised here, and nothing is written.
        :param enters: a job of this process that the change adds. :param leaves: the ticket of one that it removes.
        :return: the schedule after it.
        :raises QueueUnavailableError:
        """
        with self._mutex, translating_store_errors():
            self._own.pop(leaves, None)
            up = False

            def step(raw: bytes | None) -> bytes:
                nonlocal up
                self._notice_other_store()
                up = self._is_shared()
                stored = self._json.load(raw)
                after = change(self._set_right(stored, up))
                return raw if raw and after == stored else self._json.dump(after)

            after = self._json.load(self._store.update(_KEY, step, ttl_s=_TTL_S))
            self._epochs[up] = after.epoch
            if enters is not None:
                self._own[enters.ticket] = enters
            return self._see(after)

    def settled(self) -> bool:
        """Whether the schedule is known to be whole, so that places may be granted."""
        return time.monotonic() >= self._settled_at

    def has_jobs(self) -> bool:
        """Whether jobs of this process wait or run."""
        return bool(self._own)

    def _set_right(self, stored: Schedule, up: bool) -> Schedule:
        known = self._epochs.get(up, "")
        if known and stored.epoch != known:
            self._settled_at = time.monotonic() + SETTLE_S
        schedule = stored if stored.epoch else replace(stored, epoch=uuid.uuid4().hex)
        jobs = {**self._own, **self._jobs_of_other_hosts()}
        return put_back(disown(schedule, self._holders.me, jobs.keys()), jobs.values())

    def _see(self, schedule: Schedule) -> Schedule:
        if schedule is not self._seen:
            self._seen = schedule
            found = {job.ticket: job for job in (*schedule.waiting, *schedule.running) if job.ticket in self._own}
            # A job that runs must never be put back as one that waits.
            self._own.update((ticket, job) for ticket, job in found.items() if job.webui or not self._own[ticket].webui)
        return schedule

    def _notice_other_store(self) -> None:
        """Redis became unreachable, or is back: the other processes have jobs that are not in the new store yet."""
        since, before = self._failover.changed_at if self._failover else 0.0, self._store_since
        if since == before:
            return
        self._store_since = since
        if not self._is_shared():
            self._settled_at = since + SETTLE_HERE_S
            self._of_other_hosts = tuple(
                replace(job, ticket=f"{job.ticket}-elsewhere", holder=self._holders.me, request="")
                for job in self._seen.running
                if not self._holders.is_here(job.holder)
            )
        else:
            # A process that was without Redis for a moment has granted nothing meanwhile.
            self._settled_at = 0.0 if since - before < SETTLE_HERE_S else since + SETTLE_S

    def _is_shared(self) -> bool:
        """Whether other hosts see the same schedule."""
        return self._failover is not None and self._failover.up

    def _jobs_of_other_hosts(self) -> dict[str, Job]:
        """What this process keeps for them, as its own."""
        kept = not self._is_shared() and time.monotonic() < self._store_since + OTHER_HOSTS_S
        return {job.ticket: job for job in self._of_other_hosts} if kept else {}


def stored_schedule(store: Store) -> Schedule:
    """
    As a running service wrote it last; empty if there is none.

    :raises StoreError:
    """
    return ScheduleJson().load(store.get(_KEY))


@contextmanager
def translating_store_errors() -> Iterator[None]:
    """:raises QueueUnavailableError: the store fails."""
    try:
        yield
    except StoreError as error:
        raise QueueUnavailableError from error
