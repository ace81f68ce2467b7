"""The jobs of this process in the shared schedule: how they enter it, wait for a place on a WebUI, and leave it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sd_client import schedule
from sd_client.deadlines import until_beat
from sd_client.errors import (
    BrokenModelError,
    DrainingError,
    JobCancelledError,
    LimitError,
    QueueFullError,
    QueueTimeoutError,
    QueueUnavailableError,
    WebUIError,
)
from sd_client.failures import broken_now
from sd_client.granting import grant
from sd_client.job import CHECK_S, Ending, JobRequest, Lease, ModelCheck
from sd_client.matching import loaded_model
from sd_client.probing import Probing
from sd_client.routing import GpuPolicy, States, candidates
from sd_client.schedule import Job, Schedule
from sd_client.shared_schedule import Change, SharedSchedule
from state.holders import Holders
from state.store import StoreError

log = logging.getLogger(__name__)

#: A generation that comes before the first look at the WebUIs waits for it this long.
FIRST_LOOK_S = 4.0
#: How often a process looks whether its waiting jobs have got a place: the GPU's idle time between jobs of two workers.
LOOK_S = 0.01
#: How often this process renews its holder and reads the schedule if none of its jobs wait.
TICK_S = 0.25
#: The same while there are no jobs at all.
IDLE_TICK_S = 1.0
#: How often it removes jobs of dead processes and finds out which WebUIs its waiting jobs may now be sent to.
KEEP_S = 0.5


@dataclass(kw_only=True)
class _Waiting:
    """
    :param tried: the WebUIs that could not be reached with the job.
    :param woken: set when the job may have a place, or has been cancelled or refused.
    :param refusal: set once other jobs have shown that no WebUI can paint it.
    """

    request: JobRequest
    tried: frozenset[str]
    woken: threading.Event = field(default_factory=threading.Event)
    refusal: LimitError | BrokenModelError | None = None


class JobQueue:
    """
    :param webuis: how many there are. :param slots: jobs that may run on each at a time.
    :param limit: jobs that may wait, over all processes that share the schedule.
    :param patience_s: see :func:`sd_client.granting.grant`.
    """

    def __init__(
        self,
        shared: SharedSchedule,
        holders: Holders,
        probing: Probing,
        *,
        policy: GpuPolicy,
        webuis: int,
        slots: int,
        limit: int,
        patience_s: float,
        now: Callable[[], float],
    ) -> None:
        self._shared = shared
        self._holders = holders
        self._probing = probing
        self._policy = policy
        self._webuis = webuis
        self._slots = slots
        self._limit = limit
        self._patience_s = patience_s
        self._now = now
        self._waiting: dict[str, _Waiting] = {}
        self._woken_by: Schedule | None = None
        # What the WebUIs were seen to be, and which of them can do each waiting job.
        self._judged: tuple[object, dict[str, tuple[str, ...]]] = (None, {})
        self._anybody_waits = threading.Event()
        self._any_job = threading.Event()
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, name="queue", daemon=True),
            threading.Thread(target=self._look_out, name="queue-look", daemon=True),
        ]

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    def start(self) -> None:
        """To be called in the process that serves, after any fork."""
        for thread in self._threads:
            thread.start()

    def drain(self) -> None:
        """Refuses new jobs and drops those that wait. May be called by a signal's handler."""
        self._draining.set()

    def close(self) -> None:
        self._stopped.set()
        self._anybody_waits.set()
        self._any_job.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    # --- Entering and waiting -----------------------------------------------------------------------------------------

    def check_room(self, request: JobRequest) -> None:
        """
        Judges by the schedule as it was last written. :meth:`acquire` may find no room all the same.

        :raises PoolError: the job would be refused at once.
        """
        if len(self._shared.seen().waiting) < self._limit:
            return
        try:
            job = self._job(request, frozenset())
        except LimitError:
            return  # its caller makes another job of it
        self._entering(job)(self._shared.look())

    def acquire(self, request: JobRequest, tried: frozenset[str]) -> Lease:
        """
        Waits for a place on a WebUI.

        :param tried: WebUIs that could not be reached with the job.
        :raises LimitError: nobody can paint it, as has been learned since it was prepared.
        :raises PoolError: nobody could do it, too many wait already, or it got no place in time.
        """
        job = self._job(request, tried)
        self._change(self._entering(job), enters=job)
        self._any_job.set()
        begun = time.monotonic()
        waiting = self._waiting[job.ticket] = _Waiting(request=request, tried=tried)
        try:
            return self._wait(job.ticket, waiting, request)
        except BaseException:
            with suppress(QueueUnavailableError):  # then the next change of this process removes it
                self.leave(job.ticket)
            raise
        finally:
            del self._waiting[job.ticket]
            request.report.queue_s = (request.report.queue_s or 0.0) + time.monotonic() - begun

    def _job(self, request: JobRequest, tried: frozenset[str]) -> Job:
        self._refuse_while_draining()
        self._probing.wait_for_first_look(FIRST_LOOK_S)
        return Job(
            ticket=uuid.uuid4().hex,
            holder=self._holders.me,
            webuis=candidates(request, self._probing.states(), tried, self._policy, self.broken()),
            model=request.model,
            since=request.since,
            request=request.request,
            task=request.task_id,
        )

    def _entering(self, job: Job) -> Change:
        """
        The change by which a job enters, and gets a place if one is free.

        It raises QueueFullError if the job would have to wait, and as many wait as may.
        """
        states = self._probing.states()
        loaded = {w: loaded_model(s.capabilities) or "" for w, s in states.items() if s.capabilities}

        def change(state: Schedule) -> Schedule:
            entered = schedule.enter(state, job)
            after = self._granted(replace(entered, loaded={**loaded, **entered.loaded}))
            if job in after.waiting and len(after.waiting) > self._limit:
                others = schedule.leave(after, job.ticket)
                retry_after_s = self._retry_after_s(others, len(job.webuis))
                raise QueueFullError(f"{len(others.waiting)} jobs are already waiting", retry_after_s=retry_after_s)
            return after

        return change

    def _wait(self, ticket: str, waiting: _Waiting, request: JobRequest) -> Lease:
        next_check = time.monotonic() + CHECK_S
        while True:
            waiting.woken.clear()
            found = self._shared.seen().find(ticket)
            if found is not None and found.cancelled:
                raise JobCancelledError("the caller cancelled the job")
            if found is not None and found.webui is not None:
                return _lease(found, found.webui)
            self._refuse_while_draining()
            if waiting.refusal is not None:
                raise waiting.refusal
            now = time.monotonic()
            if now >= request.wait_until:
                retry_after_s = self._retry_after_s(self._shared.seen(), self._webuis)
                raise QueueTimeoutError("no WebUI became free in time", retry_after_s=retry_after_s)
            if now >= next_check:
                request.check()
                next_check = now + CHECK_S
            self._anybody_waits.set()
            waiting.woken.wait(max(0.0, min(next_check, request.wait_until) - now))

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise DrainingError("the service is shutting down", retry_after_s=5)

    def _retry_after_s(self, state: Schedule, webuis: int) -> int:
        return max(1, round(schedule.seconds_until_free(state, slots=self._slots, webuis=webuis)))

    # --- Leaving ------------------------------------------------------------------------------------------------------

    def leave(self, ticket: str) -> None:
        """
        The job is gone, and says nothing about a WebUI.

        :raises QueueUnavailableError: its place becomes free with the next change of this process.
        """
        self._change(lambda state: self._granted(schedule.leave(state, ticket)), leaves=ticket)

    def release(self, lease: Lease, ending: Ending) -> None:
        """
        The WebUI answered, or never will: its place is free, and how it did decides what it gets next.

        :raises QueueUnavailableError: as for :meth:`leave`.
        """

        def change(state: Schedule) -> Schedule:
            left = schedule.leave(state, lease.ticket, ran_s=ending.ran_s)
            return self._granted(_after(left, lease, ending, now=self._now()))

        self._change(change, leaves=lease.ticket)

    # --- What is known of WebUIs --------------------------------------------------------------------------------------

    def broken(self) -> dict[str, frozenset[str]]:
        """``model_name`` of what a WebUI cannot load, by WebUI; as last seen."""
        broken = self._shared.seen().broken
        return broken_now(broken, self._now()) if broken else {}

    def mended(self, webui: str) -> None:
        """The WebUI was restarted, or lists other files."""
        seen = self._shared.seen()
        if webui in seen.broken or webui in seen.painted:
            with suppress(QueueUnavailableError):  # then that is found out a while later
                self._shared.change(lambda state: schedule.mended(state, webui))

    def pardon(self, webuis: Collection[str]) -> None:
        """The job that they had too little memory for was too large."""
        if webuis:
            with suppress(QueueUnavailableError):  # then they are doubted for some seconds
                self._shared.change(lambda state: schedule.pardon(state, webuis))

    # --- The schedule -------------------------------------------------------------------------------------------------

    def _change(self, change: Change, *, enters: Job | None = None, leaves: str = "") -> None:
        self._wake(self._shared.change(change, enters=enters, leaves=leaves))

    def _granted(self, state: Schedule) -> Schedule:
        if not self._shared.settled():
            return state
        return grant(state, slots=self._slots, patience_s=self._patience_s, now=self._now())

    def _wake(self, state: Schedule) -> None:
        """Wakes the threads of all jobs that may have a place, or have been cancelled; once for each schedule."""
        if state is self._woken_by:
            return
        self._woken_by = state
        for ticket, waiting in list(self._waiting.items()):
            job = state.find(ticket)
            if job is None or job.webui is not None or job.cancelled:
                waiting.woken.set()

    def _look_out(self) -> None:
        """One thread looks for all that wait; it does nothing while nobody does, as most jobs get a place at once."""
        while not self._stopped.is_set():
            if not self._waiting:
                self._anybody_waits.wait()
                self._anybody_waits.clear()
                continue
            with suppress(QueueUnavailableError):  # the log has it
                self._wake(self._shared.look())
            self._stopped.wait(LOOK_S)

    def _keep(self) -> None:
        """Shows the others that this process lives, and keeps the schedule up to date while it has jobs."""
        next_change = 0.0
        idle = False
        while not self._stops_before_tick(idle=idle):
            idle = False
            try:
                self._holders.renew()
                state = self._shared.look()
                # A schedule without the jobs that this process has was lost: they are put back.
                if not (state.waiting or state.running or self._shared.has_jobs()):
                    idle = True
                    continue
                # More often while the schedule may not be whole: nobody gets a place then.
                if time.monotonic() >= next_change or not self._shared.settled():
                    next_change = time.monotonic() + KEEP_S
                    self._bring_up_to_date(state)
            except (StoreError, QueueUnavailableError) as error:
                log.error("the schedule cannot be kept: %s", error)

    def _stops_before_tick(self, *, idle: bool) -> bool:
        """A job that this process receives ends the longer wait."""
        if idle:
            self._any_job.wait(until_beat(IDLE_TICK_S))
        else:
            self._stopped.wait(TICK_S)
        self._any_job.clear()
        return self._stopped.is_set()

    def _bring_up_to_date(self, seen: Schedule) -> None:
        dead = self._dead(seen)
        webuis = self._webuis_of_waiting()

        def change(state: Schedule) -> Schedule:
            return self._granted(schedule.retarget(schedule.forget(state, dead), webuis))

        self._change(change)

    def _dead(self, state: Schedule) -> set[str]:
        holders = {job.holder for job in (*state.waiting, *state.running)}
        return {holder for holder in holders if not self._holders.lives(holder)}

    def _webuis_of_waiting(self) -> dict[str, tuple[str, ...]]:
        """
        By ticket. A job is judged anew only if a WebUI has changed, but all jobs are named each time: what was named
        before may never have been written, or a store has come back in which other WebUIs are named.
        """
        states, broken = self._probing.states(), self.broken()
        seen = {webui: (state.available, state.capabilities) for webui, state in states.items()}, broken
        before, known = self._judged
        if seen != before:
            known = {}
        sets: dict[tuple[str, ...], tuple[str, ...]] = {}  # as in schedule.enter, equal ones are one object
        webuis: dict[str, tuple[str, ...]] = {}
        for ticket, waiting in list(self._waiting.items()):
            found = known[ticket] if ticket in known else self._judge(waiting, states, broken)
            webuis[ticket] = sets.setdefault(found, found)
        self._judged = seen, webuis
        return webuis

    def _judge(self, waiting: _Waiting, states: States, broken: Mapping[str, Collection[str]]) -> tuple[str, ...]:
        """Whoever nobody can do a job for now waits for a WebUI to come back, unless it is refused."""
        try:
            return candidates(waiting.request, states, waiting.tried, self._policy, broken)
        except WebUIError as error:
            if isinstance(error, LimitError | BrokenModelError):
                waiting.refusal = error
                waiting.woken.set()
            return ()


def _after(state: Schedule, lease: Lease, ending: Ending, *, now: float) -> Schedule:
    """With what a job's end says about its WebUI."""
    webui, blame = lease.webui, ending.webui_to_blame
    if ending.ran_s is not None:
        state = schedule.succeeded(state, webui)
        state = schedule.painted_with(state, webui, lease.model) if lease.model else state
    elif blame is not None:
        if blame == "memory":
            state = schedule.doubt(state, webui, now=now)
        else:
            state = schedule.failed(state, webui, now=now, answered=blame == "answered")
        state = schedule.painted_with(state, webui, None)
    return state if ending.found is None else _with_found(state, webui, ending.found, now=now)


def _with_found(state: Schedule, webui: str, found: ModelCheck, *, now: float) -> Schedule:
    # What failed on a WebUI that is not known to have been sound may be healed by now: its next job will show.
    if found.broken and (found.sure or found.painted is None):
        state = schedule.broke(state, webui, found.broken, now=now, sure=found.sure)
    return schedule.painted_with(state, webui, found.painted)


def _lease(job: Job, webui: str) -> Lease:
    return Lease(
        ticket=job.ticket,
        webui=webui,
        switches=job.switches,
        model=job.model,
        proven=job.proven,
        before=job.before,
        sound=job.sound,
    )
