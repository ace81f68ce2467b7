"""The schedule in the store that all processes share, and this process's own jobs in it.

Every process knows its own jobs. With each change it re-adds those that are missing and removes those that have ended
while the store could not be reached. So a store that was restarted, emptied or replaced by another one recovers within
a second; until then nobody is granted a place.

Most jobs can be done by the same WebUIs, so in the stored bytes each set of them is written once and jobs refer to it
by number: with 64 jobs waiting for 50 WebUIs that halves the bytes, and the jobs that are read share their sets again.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from sd_client.errors import QueueUnavailableError
from sd_client.schedule import Entry, Job, Schedule, disown, put_back
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

#: The first bytes identify a change.
HEAD_BYTES = len(b'{"change":"') + 32

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
        # Each store keeps its own schedule: by whether Redis is in use, the epoch that was seen last.
        self._epochs: dict[bool, str] = {}
        self._failover = store if isinstance(store, FailoverStore) else None
        self._store_since = self._failover.changed_at if self._failover else 0.0
        self._settled_at = 0.0  # a process that begins has nothing to put back
        self._of_other_hosts: tuple[Job, ...] = ()

    def look(self) -> Schedule:
        """
        The schedule as last written. As long as it is the one that was seen last, only a few bytes are read.
        This process's jobs are in it, also before they have been put back into a store that has lost them.

        :raises QueueUnavailableError:
        """
        with self._mutex, translating_store_errors():
            known = self._json.last(self._store.head(_KEY, HEAD_BYTES))
            schedule = known or self._json.load(self._store.get(_KEY))
            self._notice_other_store()
            # Also of a process without jobs: it must not be the first to grant a place in a schedule that was lost.
            if schedule.epoch:
                self._epochs.setdefault(self._is_shared(), schedule.epoch)
            return self._see(schedule if schedule is self._seen else put_back(schedule, self._own.values()))

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
            for ticket, known in self._own.items():
                job = schedule.find(ticket)
                # A job that runs must never be put back as one that waits.
                if job is not None and (job.webui or not known.webui):
                    self._own[ticket] = job
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


@contextmanager
def translating_store_errors() -> Iterator[None]:
    """:raises QueueUnavailableError: the store fails."""
    try:
        yield
    except StoreError as error:
        raise QueueUnavailableError from error


@dataclass(frozen=True, kw_only=True)
class _WrittenJob(Entry):
    """:param webuis: the number of the set."""

    webuis: int


_Sets = tuple[tuple[str, ...], ...]


class _Written(msgspec.Struct):
    """
    :param change: names these bytes, uniquely.
    :param rest: the schedule without its jobs.
    """

    change: str
    webuis: _Sets
    waiting: tuple[msgspec.Raw, ...]
    running: tuple[msgspec.Raw, ...]
    rest: msgspec.Raw


_WRITTEN = msgspec.json.Decoder(_Written)
_JOB = TypeAdapter(_WrittenJob)
_REST = TypeAdapter(Schedule)
#: What reading the bytes of another release or program may raise.
_UNREADABLE = (msgspec.MsgspecError, ValidationError, LookupError, UnicodeError, RecursionError)


class ScheduleJson:
    """
    Remembers the last bytes and their meaning, since a process that changes the schedule mostly reads what it wrote,
    and of each job as well, since a change is about one of perhaps thousands. To be used by one thread at a time.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, Schedule] = (b"", Schedule())
        # The jobs of the last schedule by what is written of them, and the reverse by their id(); both hold for these
        # sets only.
        self._sets: _Sets = ()
        self._jobs: dict[bytes, Job] = {}
        self._texts: dict[int, bytes] = {}

    def dump(self, schedule: Schedule) -> bytes:
        # Nearly all jobs share one object, so its ids are hashed once and not for every job.
        sets = {id(job.webuis): job.webuis for job in (*schedule.waiting, *schedule.running)}
        # In an order that stays while jobs come and go, or what is written of the others would have to change.
        order = tuple(sorted(set(sets.values())))
        numbers = {known_id: order.index(webuis) for known_id, webuis in sets.items()}
        known = self._texts if order == self._sets else {}
        waiting, running = (
            [known.get(id(job)) or to_json({**vars(job), "webuis": numbers[id(job.webuis)]}) for job in jobs]
            for jobs in (schedule.waiting, schedule.running)
        )
        raw = b'{"change":"%s","webuis":%s,"waiting":[%s],"running":[%s],"rest":%s}' % (
            # Workers of an earlier release need it: during a rolling restart they share the queue.
            uuid.uuid4().hex.encode(),
            to_json(order),
            b",".join(waiting),
            b",".join(running),
            to_json(replace(schedule, waiting=(), running=())),
        )
        self._remember(raw, schedule, order, [*waiting, *running])
        return raw

    def load(self, raw: bytes | None) -> Schedule:
        """An empty schedule if there are no bytes, or if another release or program wrote them."""
        last, schedule = self._last
        if raw == last:
            return schedule
        try:
            return self._parsed(raw or b"")
        except _UNREADABLE:
            schedule = Schedule()
            self._remember(raw or b"", schedule, (), [])
            return schedule

    def last(self, head: bytes) -> Schedule | None:
        """What was read or written last, if it begins with these :data:`HEAD_BYTES`; None if it must be read."""
        raw, schedule = self._last
        return schedule if head and raw[:HEAD_BYTES] == head else None

    def _parsed(self, raw: bytes) -> Schedule:
        """:raises Exception: one of :data:`_UNREADABLE`."""
        written = _WRITTEN.decode(raw)
        # Equal sets stay one object for all jobs that have them: what is done for each is then done once.
        known, sets = (self._jobs, self._sets) if written.webuis == self._sets else ({}, written.webuis)
        texts = [bytes(job) for job in (*written.waiting, *written.running)]
        jobs = tuple(known.get(text) or _job(text, sets) for text in texts)
        waits = len(written.waiting)
        schedule = replace(_REST.validate_json(bytes(written.rest)), waiting=jobs[:waits], running=jobs[waits:])
        self._remember(raw, schedule, sets, texts)
        return schedule

    def _remember(self, raw: bytes, schedule: Schedule, sets: _Sets, texts: Sequence[bytes]) -> None:
        """:param texts: what is written of its jobs, in their order."""
        jobs = (*schedule.waiting, *schedule.running)
        self._last = raw, schedule
        self._sets = sets
        self._jobs = dict(zip(texts, jobs, strict=True))
        self._texts = {id(job): text for job, text in zip(jobs, texts, strict=True)}


def _job(text: bytes, sets: _Sets) -> Job:
    """:raises ValidationError: :raises LookupError:"""
    written = _JOB.validate_json(text)
    return Job(**{**vars(written), "webuis": sets[written.webuis]})
