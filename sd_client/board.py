"""Where the schedule is: in Redis for all hosts, or, without one and while it is away, in this host's file.

A process knows its own jobs: with every change it puts back those that are missing, and takes out those that ended
while the place could not be told. So a Redis that was restarted or emptied, or a change from one place to the other,
heals within a second; meanwhile nobody is granted anything.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import redis

from sd_client.leases import SharedSchedule
from sd_client.redis_schedule import RedisSchedule
from sd_client.schedule import Job, Schedule, disown, enter, put_back

log = logging.getLogger(__name__)

#: How often a process renews its holder's key (several times within HOLDER_S), and looks whether Redis is back.
TICK_S = 0.25
#: After a change to Redis, or to another schedule in it, all processes of all hosts have put their jobs back by then.
SETTLE_S = 1.0
#: After a change to the file all processes of this host have.
SETTLE_HERE_S = 0.5
#: After the file was cleared away by hand, or in it what another release wrote, the same: rare enough to be patient.
LOST_FILE_S = 2.0
#: What other hosts were running when Redis was last seen is taken to run on for so long: most outages are shorter.
OTHERS_S = 3.0

Change = Callable[[Schedule], Schedule]


@dataclass(kw_only=True)
class _Wish:
    """
    A change that a thread waits for, and what became of it.

    :param enters: the job that comes with it; :param leaves: the ticket of the one that goes.
    """

    change: Change
    enters: Job | None = None
    leaves: str | None = None
    done: bool = False
    after: Schedule = field(default_factory=Schedule)
    error: BaseException | None = None


class Board:
    """
    :param shared: None: this host's file is all there is.
    """

    def __init__(self, local: SharedSchedule, shared: RedisSchedule | None) -> None:
        self._local = local
        self._shared = shared
        self._up = False
        self._left_at = 0.0
        self._settled_at = 0.0
        self._own: dict[str, Job] = {}
        self._others: tuple[Job, ...] = ()
        self._wishes: deque[_Wish] = deque()
        self._writing = threading.Lock()
        self._mutex = threading.Lock()
        if shared is not None:
            self.tick()
        with contextlib.suppress(OSError):  # whoever writes it next tells
            self.update(lambda schedule: schedule)  # from now on it is known which schedule it is
        self._settled_at = 0.0  # a process that begins has nothing to put back

    @property
    def holder(self) -> str:
        return self._local.holder

    def now(self) -> float:
        """Seconds of the clock that all holders of this place share."""
        return self._shared.now() if self._shared and self._up else time.time()

    def lives(self, holder: str) -> bool:
        """Whether a process lives, as far as that can be told: one of this host at once, one of another by Redis."""
        here = self._local.lives(holder)
        if here is None and self._shared and self._up:
            try:
                return self._shared.lives(holder)
            except redis.RedisError as error:
                self._fall_back(error)
        return here is not False

    def settled(self) -> bool:
        """Whether the schedule is known to be whole, so that places may be granted."""
        if self._shared and self._up:
            known_at = self._shared.continuity.lost_at + SETTLE_S
        else:
            known_at = self._local.continuity.lost_at + LOST_FILE_S
        return time.monotonic() >= max(self._settled_at, known_at)

    def has_jobs(self) -> bool:
        """Whether this process has jobs that wait or run."""
        return bool(self._own)

    def look(self) -> Schedule:
        if self._shared and self._up:
            try:
                return self._shared.look()
            except redis.RedisError as error:
                self._fall_back(error)
        return self._local.look()

    def glance(self) -> Schedule:
        """As last seen, without asking Redis: at most as old as the last :meth:`look`. Never fails."""
        if self._shared and self._up:
            return self._shared.seen()
        try:
            return self._local.look()
        except OSError:  # whoever keeps the schedule tells
            return self._local.seen()

    def find(self, ticket: str) -> Job | None:
        """One of this process' jobs. Where it runs is remembered: it must not be put back as one that waits."""
        found = self.look().find(ticket)
        if found is not None and found.webui is not None:
            with self._mutex:
                if ticket in self._own:
                    self._own[ticket] = found
        return found

    def update(self, change: Change) -> Schedule:
        """Applies ``change`` after setting right what the schedule says of this process' own jobs."""
        return self._fulfil(_Wish(change=change))

    def enter(self, job: Job, change: Change) -> Schedule:
        """The job waits; from now on it is put back wherever it is missing. ``change`` follows in the same step."""
        return self._fulfil(_Wish(change=lambda schedule: change(enter(schedule, job)), enters=job))

    def leave(self, ticket: str, change: Change) -> Schedule:
        """The job is gone: ``change`` takes it out."""
        return self._fulfil(_Wish(change=change, leaves=ticket))

    def tick(self) -> None:
        """Renews this process' holder, and goes back to Redis when that is back. To be called every :data:`TICK_S`."""
        with contextlib.suppress(OSError):  # whoever writes the schedule tells
            self._local.renew()
        if self._shared is None:
            return
        try:
            self._shared.renew()
        except redis.RedisError as error:
            self._fall_back(error)
            return
        if not self._up:
            self._move(up=True)

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()
        self._local.close()

    def _fulfil(self, wish: _Wish) -> Schedule:
        """
        Whoever comes to write carries out what all others wait for as well, in their order: when many jobs end or come
        at once the schedule is read and written once for all of them.
        """
        self._wishes.append(wish)
        with self._writing:
            if not wish.done:
                self._carry_out([self._wishes.popleft() for _ in range(len(self._wishes))])
        if wish.error is not None:
            raise wish.error
        return wish.after

    def _carry_out(self, wishes: Sequence[_Wish]) -> None:
        try:
            with self._mutex:
                for wish in wishes:
                    self._own.pop(wish.leaves or "", None)
            after = self._update(partial(self._fulfilled, wishes=wishes))
            found = {job.ticket: job for job in (*after.waiting, *after.running)}
            with self._mutex:
                entered = {wish.enters.ticket: wish.enters for wish in wishes if wish.enters and not wish.error}
                self._own = {ticket: found.get(ticket, job) for ticket, job in {**self._own, **entered}.items()}
        except BaseException as error:  # noqa: BLE001 - it is raised in every thread that waits
            for wish in wishes:
                wish.error = error
        finally:
            for wish in wishes:
                wish.done = True

    def _fulfilled(self, schedule: Schedule, wishes: Sequence[_Wish]) -> Schedule:
        """The schedule set right, and after all wishes but those that cannot be fulfilled."""
        mine = {**self._own, **self._of_others()}
        schedule = put_back(disown(schedule, self.holder, mine.keys()), mine.values())
        for wish in wishes:
            wish.error = None  # it may be the second time: somebody else was faster
            try:
                wish.after = schedule = wish.change(schedule)
            except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
                wish.error = error
        return schedule

    def _update(self, change: Change) -> Schedule:
        if self._shared and self._up:
            try:
                return self._shared.update(change)
            except redis.RedisError as error:
                self._fall_back(error)
        return self._local.update(change)

    def _of_others(self) -> dict[str, Job]:
        """What is kept for them while Redis is away, as this process' own."""
        kept = not self._up and time.monotonic() - self._left_at < OTHERS_S
        return {job.ticket: job for job in self._others} if kept else {}

    def _fall_back(self, error: Exception) -> None:
        if self._up and self._shared is not None:
            self._others = tuple(
                replace(job, ticket=f"{job.ticket}-elsewhere", holder=self.holder, request="")
                for job in self._shared.seen().running
                if not self._local.knows(job.holder)
            )
            log.warning("redis is away (%s): this host queues for itself", type(error).__name__)
            self._move(up=False)

    def _move(self, *, up: bool) -> None:
        now = time.monotonic()
        if not up:
            self._left_at = now
        # Who was away for a moment only has granted nothing meanwhile.
        brief = up and now - self._left_at < SETTLE_HERE_S
        self._settled_at = 0.0 if brief else now + (SETTLE_S if up else SETTLE_HERE_S)
        self._up = up
