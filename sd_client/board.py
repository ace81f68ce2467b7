"""Where the schedule is: in Redis for all hosts, or, without one and while it is away, in this host's file.

A process knows its own jobs and puts them back wherever they are missing. So a Redis that was restarted, or a
change from one place to the other, heals within a second; meanwhile nobody is granted anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import redis

from sd_client.leases import SharedSchedule
from sd_client.redis_schedule import RedisSchedule
from sd_client.schedule import Job, Schedule, enter, put_back

log = logging.getLogger(__name__)

#: How often a process renews its holder's key (several times within HOLDER_S), and looks whether Redis is back.
TICK_S = 1.0
#: After a change of place all processes have put their jobs back by then.
SETTLE_S = 3.0

Change = Callable[[Schedule], Schedule]


class Board:
    """
    :param shared: None: this host's file is all there is.
    """

    def __init__(self, local: SharedSchedule, shared: RedisSchedule | None) -> None:
        self._local = local
        self._shared = shared
        self._up = False
        self._settled_at = 0.0
        self._own: dict[str, Job] = {}
        self._mutex = threading.RLock()
        if shared is not None:
            self.tick()
            self._settled_at = 0.0  # a process that begins has nothing to put back

    @property
    def holder(self) -> str:
        return self._local.holder

    def now(self) -> float:
        """Seconds of the clock that all holders of this place share."""
        return self._shared.now() if self._shared and self._up else time.time()

    def settled(self) -> bool:
        """Whether the schedule is known to be whole, so that places may be granted."""
        return time.monotonic() >= self._settled_at

    def look(self) -> Schedule:
        if self._shared and self._up:
            try:
                return self._shared.look()
            except redis.RedisError as error:
                self._fall_back(error)
        return self._local.look()

    def glance(self) -> Schedule:
        """As last seen, without asking Redis: at most as old as the last :meth:`look`."""
        return self._shared.seen() if self._shared and self._up else self._local.look()

    def update(self, change: Change) -> Schedule:
        """Applies ``change`` after putting back whatever of this process' own jobs is missing."""
        with self._mutex:

            def healed(schedule: Schedule) -> Schedule:
                return change(put_back(schedule, tuple(self._own.values())))

            after = self._update(healed)
            for ticket in self._own:
                self._own[ticket] = after.find(ticket) or self._own[ticket]
            return after

    def enter(self, job: Job, change: Change) -> Schedule:
        """The job waits; from now on it is put back wherever it is missing. ``change`` follows in the same step."""
        with self._mutex:
            after = self.update(lambda schedule: change(enter(schedule, job)))
            self._own[job.ticket] = after.find(job.ticket) or job
            return after

    def leave(self, ticket: str, change: Change) -> Schedule:
        """The job is gone: ``change`` takes it out."""
        with self._mutex:
            self._own.pop(ticket, None)
            return self.update(change)

    def tick(self) -> None:
        """Renews this process' holder, and goes back to Redis when that is back. To be called every second."""
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

    def _update(self, change: Change) -> Schedule:
        if self._shared and self._up:
            try:
                return self._shared.update(change)
            except redis.RedisError as error:
                self._fall_back(error)
        return self._local.update(change)

    def _fall_back(self, error: Exception) -> None:
        if self._up:
            log.warning("redis is away (%s): this host queues for itself", type(error).__name__)
            self._move(up=False)

    def _move(self, *, up: bool) -> None:
        self._up = up
        self._settled_at = time.monotonic() + SETTLE_S
