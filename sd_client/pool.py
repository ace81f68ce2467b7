"""The WebUIs as one: which of them does a job, when, and what happens when it does not."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, replace
from pathlib import Path

import redis

from sd_client import schedule
from sd_client.board import TICK_S, Board
from sd_client.candidates import GpuPolicy, can_do, candidates, webui_id
from sd_client.client import WebUIClient, loaded_model
from sd_client.errors import (
    DrainingError,
    JobCancelledError,
    QueueFullError,
    QueueTimeoutError,
    WebUIConnectError,
    WebUIError,
    WebUITimeoutError,
)
from sd_client.leases import SharedSchedule
from sd_client.models import Capabilities, Course, GenerationParams, PaintedImage
from sd_client.painting import Ending, Painting
from sd_client.probing import Probing, WebUIState
from sd_client.redis_schedule import RedisSchedule
from sd_client.schedule import Job, Schedule

log = logging.getLogger(__name__)

#: A generation that comes before the first look waits for it this long.
FIRST_LOOK_S = 4.0
#: How often a process looks whether it is a waiting job's turn: the GPU's idle time between jobs of two workers.
TURN_S = 0.01
#: How often the caller is asked whether it still wants the picture.
CHECK_S = 0.5
#: What a job is taken to last before one has been measured, for Retry-After.
DEFAULT_JOB_S = 10.0


@dataclass(frozen=True, kw_only=True)
class PoolView:
    """What health and the catalogue show. ``webuis``: their ids, in the order of ``SD_WEBUI_URL``."""

    states: Mapping[str, WebUIState]
    schedule: Schedule
    webuis: tuple[str, ...]
    draining: bool

    @property
    def total(self) -> int:
        return len(self.webuis)

    def capabilities(self) -> tuple[Capabilities, ...]:
        """Of every WebUI ever seen, also while it is away."""
        return tuple(state.capabilities for state in self.states.values() if state.capabilities)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """
    Where a request's job is.

    :param waiting_behind: how many are before it; None once it runs.
    :param progress: 0 … 1; None where the WebUI does not tell.
    :param eta_s: until its picture is there, from measured times; None before any job has ended.
    """

    waiting_behind: int | None
    progress: float | None
    eta_s: float | None


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """
    A job of this process that waits.

    :param tried: the WebUIs that could not be reached with it.
    :param turn: set when something has become of it.
    """

    params: GenerationParams
    tried: frozenset[str]
    turn: threading.Event


class WebUIPool:
    """
    :param urls: the WebUIs, as in ``SD_WEBUI_URL``.
    :param slots: jobs sent to one WebUI at a time, over all workers and hosts that share a schedule.
    :param queue_limit: jobs that may wait, over the same.
    :param folder: where the workers of this host meet.
    :param redis_client: where all hosts meet; None: this host is alone. ``on_redis_error`` is called when it fails.
    :param patience_s: how long a job waits for a busy WebUI that has its model before it makes an idle one load it.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        slots: int,
        queue_limit: int,
        folder: Path,
        use_gpu: bool,
        cpu_fallback: bool,
        redis_client: redis.Redis | None = None,
        on_redis_error: Callable[[], None] = lambda: None,
        patience_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = {webui_id(url): WebUIClient(url) for url in urls}
        self._places = {webui: place for place, webui in enumerate(self._clients)}
        self._slots = slots
        self._queue_limit = queue_limit
        self._policy = GpuPolicy(use_gpu=use_gpu, cpu_fallback=cpu_fallback)
        self._patience_s = patience_s
        self._clock = clock
        local = SharedSchedule(folder)
        shared = (
            None
            if redis_client is None
            else RedisSchedule(redis_client, name="pool", holder=local.holder, on_error=on_redis_error)
        )
        self._board = Board(local, shared)
        # Whoever serves the same WebUIs looks at them once.
        pool = hashlib.sha256(" ".join(sorted(self._clients)).encode()).hexdigest()[:12]
        (folder / pool).mkdir(exist_ok=True, mode=0o700)
        self._probing = Probing(
            self._clients, folder / pool, is_busy=lambda webui: self._board.look().busy(webui) > 0, clock=clock
        )
        self._waiting: dict[str, _Waiting] = {}
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self._entered = threading.Event()
        self._announcer = threading.Thread(target=self._announce, name="turns", daemon=True)
        self._keeper = threading.Thread(target=self._keep, name="pool", daemon=True)

    def start(self) -> None:
        """Begins to look at the WebUIs; to be called in the process that serves, after any fork."""
        self._probing.start()
        self._keeper.start()
        self._announcer.start()

    def drain(self) -> None:
        """Takes no more jobs and drops those that wait; running ones end. May be called by a signal's handler."""
        self._draining.set()

    def is_idle(self) -> bool:
        """Whether no job of this process waits or runs."""
        return not self._board.has_jobs()

    def close(self) -> None:
        self._stopped.set()
        self._entered.set()
        for thread in (self._keeper, self._announcer):
            if thread.is_alive():
                thread.join()
        self._probing.close()
        self._board.close()

    def view(self) -> PoolView:
        """From memory and two small files: never a call to a WebUI or to Redis."""
        return PoolView(
            states=self._probing.states(),
            schedule=self._board.glance(),
            webuis=tuple(self._clients),
            draining=self._draining.is_set(),
        )

    def ready_view(self) -> PoolView:
        """The same, after waiting for the first look if it has not been taken yet."""
        self._probing.wait_for_first_look(FIRST_LOOK_S)
        return self.view()

    def usable(self, states: Mapping[str, WebUIState]) -> dict[str, WebUIState]:
        """The WebUIs that would serve now: those with a GPU first, those without only where none has one."""
        return self._policy.usable(states)

    def standing(self, request: str) -> Standing | None:
        """Where the job of a request is; None where it neither waits nor runs. May ask a WebUI for its progress."""
        state = self._board.look()
        for place, job in enumerate(state.waiting):
            if job.request == request:
                wait_s = schedule.seconds_until_free(
                    replace(state, waiting=state.waiting[:place]),
                    slots=self._slots,
                    webuis=len(job.webuis),
                    default_job_s=DEFAULT_JOB_S,
                )
                eta_s = None if state.job_seconds is None else wait_s + state.job_seconds
                return Standing(waiting_behind=place, progress=0.0, eta_s=eta_s)
        running = next((job for job in state.running if job.request == request), None)
        return None if running is None else self._running(running, state)

    def cancel(self, request: str) -> bool:
        """Ends the job of a request, waiting or running; False where there is none."""
        before = self._board.look()
        if not any(job.request == request for job in (*before.waiting, *before.running)):
            return False
        self._board.update(lambda state: schedule.cancel(state, request))
        return True

    def run(
        self,
        params: GenerationParams,
        *,
        task_id: str,
        wait_s: float,
        run_s: float,
        check: Callable[[], None],
        total_s: float | None = None,
        request: str = "",
        course: Course | None = None,
    ) -> tuple[PaintedImage, ...]:
        """
        The job's pictures, as soon as a WebUI could paint them.

        :param request: what its caller can ask for it by; see :meth:`standing`.
        :param wait_s: seconds it may wait for a WebUI.
        :param run_s: seconds it may run; then it is interrupted, and its WebUI counts as busy until it has really
            ended, or as long again has passed.
        :param total_s: seconds for both together, where its caller waits for less than the two allow.
        :param check: called twice a second; what it raises drops or interrupts the job and is raised here.
        :param course: where it is noted how the job goes.
        :raises WebUIError:
        """
        ends = self._clock() + (wait_s + run_s if total_s is None else total_s)
        until = min(self._clock() + wait_s, ends)
        since = self._board.now()
        course = course or Course()
        tried: frozenset[str] = frozenset()
        while True:
            job = self._enter(params, tried, since=since, request=request)
            webui, switches = self._turn(job, params, tried, until, check, course)
            capabilities = self._still_able(webui, params)
            if capabilities is None:
                self._leave(job.ticket)
                tried |= {webui}
                continue
            course.webui = self._places[webui]
            course.switches += switches
            try:
                return self._paint(webui, job.ticket, params, capabilities, task_id, run_s, ends, check, course)
            except WebUIConnectError:
                log.warning("a job could not be sent to its webui", extra={"webui": course.webui})
                self._probing.report_failure(webui)
                tried |= {webui}

    def _running(self, job: Job, state: Schedule) -> Standing:
        elapsed_s = max(0.0, self._board.now() - job.since)
        fraction = None
        # With more slots than one the WebUI's progress may be another job's.
        if self._slots == 1 and job.webui in self._clients and self._tells_progress(job.webui):
            try:
                told = self._clients[job.webui].progress()
            except WebUIError:
                told = None
            fraction = None if told is None else min(1.0, max(0.0, told.fraction))
        if fraction is not None and fraction > 0.1:  # before that a WebUI may still be loading a model
            eta_s: float | None = elapsed_s * (1 - fraction) / fraction
        else:
            eta_s = None if state.job_seconds is None else max(0.0, state.job_seconds - elapsed_s)
        return Standing(waiting_behind=None, progress=fraction, eta_s=eta_s)

    def _tells_progress(self, webui: str) -> bool:
        seen = self._probing.states().get(webui)
        return seen is not None and seen.capabilities is not None and seen.capabilities.has_progress

    def _still_able(self, webui: str, params: GenerationParams) -> Capabilities | None:
        """What the WebUI can do, or None where it lost the model, say, while the job waited."""
        state = self._probing.states().get(webui)
        able = state is not None and state.capabilities is not None and can_do(state.capabilities, params)
        return state.capabilities if state and able else None

    def _enter(self, params: GenerationParams, tried: frozenset[str], *, since: float, request: str) -> Job:
        """:raises PoolError: nobody could do it, or too many wait already."""
        self._refuse_while_draining()
        self._probing.wait_for_first_look(FIRST_LOOK_S)
        states = self._probing.states()
        webuis = candidates(params, states, tried, self._policy)
        loaded = {w: loaded_model(s.capabilities) or "" for w, s in states.items() if s.capabilities}
        job = Job(
            ticket=uuid.uuid4().hex,
            holder=self._board.holder,
            webuis=webuis,
            model=params.checkpoint.model_name,
            since=since,
            request=request,
        )

        def change(entered: Schedule) -> Schedule:
            after = self._grant(replace(entered, loaded={**loaded, **entered.loaded}))
            if job in after.waiting and len(after.waiting) > self._queue_limit:
                others = schedule.leave(after, job.ticket)
                raise QueueFullError(
                    f"{len(others.waiting)} jobs wait already", retry_after_s=self._retry_after(others, len(webuis))
                )
            return after

        self._board.enter(job, change)
        return job

    def _turn(
        self,
        job: Job,
        params: GenerationParams,
        tried: frozenset[str],
        until: float,
        check: Callable[[], None],
        course: Course,
    ) -> tuple[str, bool]:
        """
        The WebUI that was granted, and whether it had another model.

        :raises QueueTimeoutError: none was, in time.
        """
        begun = self._clock()
        next_check = begun + CHECK_S
        waiting = self._waiting[job.ticket] = _Waiting(params=params, tried=tried, turn=threading.Event())
        try:
            while True:
                waiting.turn.clear()
                found = self._board.find(job.ticket)
                if found is not None and found.cancelled:
                    raise JobCancelledError("the caller cancelled the job")
                if found is not None and found.webui is not None:
                    return found.webui, found.switches
                self._refuse_while_draining()
                now = self._clock()
                if now >= until:
                    retry_after_s = self._retry_after(self._board.look(), len(self._clients))
                    raise QueueTimeoutError("no WebUI became free in time", retry_after_s=retry_after_s)
                if now >= next_check:
                    check()
                    next_check = now + CHECK_S
                self._entered.set()  # most jobs are granted at once, and need nobody to look for them
                waiting.turn.wait(max(0.0, min(next_check, until) - now))
        except BaseException:
            self._leave(job.ticket)
            raise
        finally:
            del self._waiting[job.ticket]
            course.queue_s = (course.queue_s or 0.0) + self._clock() - begun

    def _announce(self) -> None:
        """Looks at the schedule for all jobs that wait in this process, and wakes those whose turn has come."""
        seen = None
        while not self._stopped.is_set():
            if not self._waiting:
                self._entered.wait(CHECK_S)
                self._entered.clear()
                continue
            try:
                state = self._board.look()
            except OSError:
                state = None  # the keeper tells
            if state is not None and state != seen:
                seen = state
                still = {job.ticket for job in state.waiting if not job.cancelled}
                for ticket, waiting in list(self._waiting.items()):
                    if ticket not in still:
                        waiting.turn.set()
            time.sleep(TURN_S)

    def _paint(
        self,
        webui: str,
        ticket: str,
        params: GenerationParams,
        capabilities: Capabilities,
        task_id: str,
        run_s: float,
        ends: float,
        check: Callable[[], None],
        course: Course,
    ) -> tuple[PaintedImage, ...]:
        """
        The call itself runs in a thread of its own, which holds the lease until the WebUI's answer has come: the
        caller's thread can leave before that, at its deadline or because nobody waits for the picture any more.
        """
        painting = Painting(
            self._clients[webui],
            release=lambda ending: self._ended(ticket, webui, ending),
            alone=lambda: self._slots == 1 or self._board.look().busy(webui) == 1,
        )
        begun = self._clock()
        deadline = min(begun + run_s, ends)
        painting.start(params, capabilities, task_id=task_id, timeout_s=deadline - begun + run_s)
        try:
            while True:
                try:
                    return painting.result.result(timeout=max(0.0, min(CHECK_S, deadline - self._clock())))
                except NotYet:
                    if painting.result.done():
                        continue
                    if self._clock() >= deadline:
                        raise WebUITimeoutError("the job ran longer than allowed") from None
                    self._raise_if_cancelled(ticket)
                    check()
        except BaseException as error:
            if isinstance(error, WebUIError) and not isinstance(error, JobCancelledError):
                course.failures.append(error)
            self._abandon(painting, ticket)
            raise
        finally:
            asked_s = self._clock() - begun if painting.asked_s is None else painting.asked_s
            course.webui_s = (course.webui_s or 0.0) + asked_s

    def _abandon(self, painting: Painting, ticket: str) -> None:
        try:
            if self._slots > 1 and not painting.result.done():
                # Its WebUI gets no other job until it has ended; those that it has end before the interrupt.
                self._board.update(lambda state: schedule.cancel(state, ticket))
        finally:
            painting.abandon()

    def _raise_if_cancelled(self, ticket: str) -> None:
        job = self._board.look().find(ticket)
        if job is not None and job.cancelled:
            raise JobCancelledError("the caller cancelled the job")

    def _refuse_while_draining(self) -> None:
        if self._draining.is_set():
            raise DrainingError("the service is shutting down", retry_after_s=5)

    def _grant(self, state: Schedule) -> Schedule:
        if not self._board.settled():
            return state
        return schedule.grant(state, slots=self._slots, patience_s=self._patience_s, now=self._board.now())

    def _retry_after(self, state: Schedule, webuis: int) -> int:
        wait_s = schedule.seconds_until_free(state, slots=self._slots, webuis=webuis, default_job_s=DEFAULT_JOB_S)
        return max(1, round(wait_s))

    def _leave(self, ticket: str) -> None:
        self._board.leave(ticket, lambda state: self._grant(schedule.leave(state, ticket)))

    def _ended(self, ticket: str, webui: str, ending: Ending) -> None:
        """The WebUI answered, or will not: its place is free, and how it did decides what it gets next."""

        def change(state: Schedule) -> Schedule:
            state = schedule.leave(state, ticket, ran_s=ending.ran_s)
            if ending.ran_s is not None:
                state = schedule.succeeded(state, webui)
            elif ending.webui_to_blame is not None:
                now = self._board.now()
                state = schedule.failed(state, webui, now=now, answered=ending.webui_to_blame == "answered")
            return self._grant(state)

        self._board.leave(ticket, change)

    def _keep(self) -> None:
        """
        This process' holder lives; twice a second the dead are forgotten, and waiting jobs see who came and went. More
        often while it is not known whether the schedule is whole: nobody is granted anything then.
        """
        next_look = 0.0
        while not self._stopped.wait(TICK_S):
            self._board.tick()
            if self._clock() < next_look:
                continue
            next_look = self._clock() + (CHECK_S if self._board.settled() else 0.0)
            try:
                state = self._board.look()
                # A schedule without the jobs that this process has was lost: they are put back.
                if state.waiting or state.running or self._board.has_jobs():
                    self._board.update(self._kept)
            except OSError as error:
                log.error("the schedule cannot be kept: %s", type(error).__name__)

    def _kept(self, state: Schedule) -> Schedule:
        states = self._probing.states()
        webuis: dict[str, tuple[str, ...]] = {}
        for ticket, waiting in list(self._waiting.items()):
            try:
                webuis[ticket] = candidates(waiting.params, states, waiting.tried, self._policy)
            except WebUIError:
                webuis[ticket] = ()  # it waits for one to come back
        return self._grant(schedule.retarget(state, webuis))
