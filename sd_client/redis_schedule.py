"""The schedule in Redis, shared by the workers of all hosts.

A holder lives while its key does: it is renewed by its process and expires when that dies, or is cut off. A change
is an optimistic transaction (WATCH, MULTI, EXEC) around the same pure functions that the file's changes are.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import redis
from redis.client import Pipeline

from sd_client.continuity import Continuity
from sd_client.schedule import FUTURE_S, Schedule, forget
from sd_client.schedule_json import HEAD_BYTES, ScheduleJson

#: A holder that was not renewed for so long is dead: its jobs leave the schedule.
HOLDER_S = 10
#: A schedule that nobody touched for so long belongs to no service any more.
_FORGOTTEN_S = 86_400
#: Reads within this time share one answer, however many jobs wait in this process.
_LOOK_S = 0.01
#: Two holders that collided try again after up to this long, so that they do not collide again.
_APART_S = 0.003


class RedisSchedule:
    """
    :param prefix: what its keys begin with; services with one prefix on one Redis share one schedule.
    :param holder: names this process, uniquely.
    :param on_error: called with every command that Redis did not answer.
    :raises redis.RedisError: every method but ``close``, when Redis is away. After one error all fail at once, whoever
        calls, until :meth:`renew` succeeds: a hundred waiting threads must not wait for its timeout one by one.
    """

    def __init__(
        self, client: redis.Redis, *, prefix: str, holder: str, on_error: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._key = f"{self._prefix}:schedule"
        self._json = ScheduleJson()
        self._mutex = threading.Lock()
        self._seen = (0.0, Schedule())
        # Redis' clock before this process' own, which nobody sets; None before the first look.
        self._ahead_s: float | None = None
        self._broken = False
        self._on_error = on_error
        self.continuity = Continuity()
        self.holder = holder

    def now(self) -> float:
        """Seconds by the clock of Redis, which all hosts share."""
        return time.monotonic() + (self._ahead_s or 0.0)

    def renew(self) -> None:
        """To be called well within :data:`HOLDER_S`."""
        with self._breaking():
            self._client.set(self._holder_key(self.holder), 1, ex=HOLDER_S)
            seconds, microseconds = self._client.time()
            ahead_s = seconds + microseconds / 1e6 - time.monotonic()
            if self._ahead_s is None or ahead_s < self._ahead_s - FUTURE_S:
                self._let_the_dead_expire()
        self._ahead_s = ahead_s
        self._broken = False

    def update(self, change: Callable[[Schedule], Schedule]) -> Schedule:
        """Applies ``change`` to the schedule of this moment, alone among all threads, workers and hosts."""
        with self._mutex, self._working(), self._client.pipeline() as pipeline:
            while True:
                try:
                    after = self._try_update(pipeline, change)
                except redis.WatchError:
                    time.sleep(random.uniform(0, _APART_S))
                    continue
                self._seen = (time.monotonic(), after)
                return after

    def look(self) -> Schedule:
        """The schedule, at most some milliseconds old."""
        with self._mutex:
            read, schedule = self._seen
            if time.monotonic() - read >= _LOOK_S:
                with self._working():
                    schedule = self._unchanged() or self._stored(self._client)
                self._seen = (time.monotonic(), schedule)
            return schedule

    def lives(self, holder: str) -> bool:
        """Whether that process lives, of whatever host; one that died does for up to :data:`HOLDER_S`."""
        with self._working():
            return bool(self._client.exists(self._holder_key(holder)))

    def seen(self) -> Schedule:
        """What the last look or change saw."""
        return self._seen[1]

    def close(self) -> None:
        """This holder's jobs end."""
        with contextlib.suppress(redis.RedisError):  # then its key expires by itself
            self._client.delete(self._holder_key(self.holder))

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        if self._broken:
            raise redis.ConnectionError("no answer since the last error")
        with self._breaking():
            yield

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError:
            self._broken = True
            self._on_error()
            raise

    def _try_update(self, pipeline: Pipeline, change: Callable[[Schedule], Schedule]) -> Schedule:
        pipeline.watch(self._key)  # type: ignore[no-untyped-call]
        stored = self._stored(pipeline)
        before = self.continuity.found(stored)
        after = change(forget(before, self._dead(pipeline, before)))
        if after == stored:
            pipeline.unwatch()
        else:
            pipeline.multi()
            pipeline.set(self._key, self._json.dump(after), ex=_FORGOTTEN_S)
            pipeline.execute()
        self.continuity.left(after)
        return after

    def _dead(self, pipeline: Pipeline, schedule: Schedule) -> set[str]:
        holders = sorted({job.holder for job in (*schedule.waiting, *schedule.running)} - {self.holder})
        if not holders:
            return set()
        alive = pipeline.mget([self._holder_key(holder) for holder in holders])
        return {holder for holder, key in zip(holders, alive, strict=True) if key is None}

    def _let_the_dead_expire(self) -> None:
        """Since Redis' clock was set back, what was to expire soon stays for as long: a dead holder, with its jobs."""
        try:
            schedule = self._stored(self._client)
        except redis.ResponseError:  # whoever changes it tells what is wrong
            return
        for holder in {job.holder for job in (*schedule.waiting, *schedule.running)}:
            key = self._holder_key(holder)
            if self._client.pttl(key) > HOLDER_S * 1000:
                self._client.pexpire(key, HOLDER_S * 1000)

    def _holder_key(self, holder: str) -> str:
        return f"{self._prefix}:holder:{holder}"

    def _unchanged(self) -> Schedule | None:
        """What was read or written last, if it is still there: a whole schedule of many WebUIs is large."""
        try:
            head = self._client.getrange(self._key, 0, HEAD_BYTES - 1)
        except redis.ResponseError:  # whoever reads the whole tells what is wrong
            return None
        return self._json.last(head) if isinstance(head, bytes) and head else None

    def _stored(self, client: redis.Redis) -> Schedule:
        try:
            raw = client.get(self._key)
        except redis.ResponseError as error:
            # What another program left under our name is written over, as what another release wrote is.
            if not str(error).startswith("WRONGTYPE"):
                raise
            raw = None
        return self._json.load(raw) if isinstance(raw, bytes) else Schedule()
