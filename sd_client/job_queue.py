"""The jobs of this process in the schedule: how they enter it, wait for their turn, and leave it."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from sd_client import schedule
from sd_client.board import TICK_S, Board, Change
from sd_client.candidates import GpuPolicy, candidates
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
from sd_client.matching import loaded_model
from sd_client.model_look import Found
from sd_client.models import GenerationParams
from sd_client.orders import CHECK_S, Order
from sd_client.painting import Ending
from sd_client.probing import Probing
from sd_client.schedule import Job, Schedule
from sd_client.turns import Turns

log = logging.getLogger(__name__)

#: A generation that comes before the first look waits for it this long.
FIRST_LOOK_S = 4.0
#: How often the dead are forgotten, and waiting jobs see which WebUIs came and went.
KEEP_S = 0.5


@contextmanager
def schedule_errors_told() -> Iterator[None]:
    """:raises QueueUnavailableError: the schedule's file can be read, or written, no more."""
    try:
        yield
    except OSError as error:
        log.error("the schedule in RUNTIME_DIR cannot be used: %s", error.strerror)
        raise QueueUnavailableError from error


@dataclass(frozen=True, kw_only=True)
class Lease:
    """
    A job's place on a WebUI, its own until it leaves.

    :param switches: the WebUI had another model.
    :param proven: it has painted with the job's model just before, or has failed nothing lately.
    :param before: the model that it painted with before; "" where that is not known.
    :param sound: it has just painted with another model.
    """

    ticket: str
    webui: str
    switches: bool
    model: str
    proven: bool
    before: str
    sound: bool


@dataclass(kw_only=True)
class _Waiting:
    """
    :param tried: the WebUIs that could not be reached with the job.
    :param refusal: set once other jobs have shown that no WebUI can paint it.
    """

    params: GenerationParams
    tried: frozenset[str]
    refusal: LimitError | BrokenModelError | None = None


class JobQueue:
    """
    :param webuis: how many there are.
    :param limit: jobs that may wait, over all processes that share the schedule.
    """

    def __init__(
        self,
        board: Board,
        probing: Probing,
        *,
        policy: GpuPolicy,
        webuis: int,
        slots: int,
        limit: int,
        patience_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._board = board
        self._probing = probing
        self._policy = policy
        self._webuis = webuis
        self._slots = slots
        self._limit = limit
        self._patience_s = patience_s
        self._clock = clock
        self._turns = Turns(board)
        self._waiting: dict[str, _Waiting] = {}
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="pool", daemon=True)

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    def start(self) -> None:
        """To be called in the process that serves, after any fork."""
        self._keeper.start()
        self._turns.start()

    def drain(self) -> None:
        """Refuses jobs that come and drops those that wait. May be called by a signal's handler."""
        self._draining.set()

    def close(self) -> None:
        self._stopped.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._turns.close()

    def acquire(self, order: Order, tried: frozenset[str]) -> Lease:
        """
        A place on a WebUI, as soon as it is the job's turn.

        :param tried: WebUIs that could not be reached with it.
        :raises LimitError: nobody can paint it, as has been learned since it was prepared.
        :raises PoolError: nobody could do it, too many wait already, or it had no turn in time.
        """
        with schedule_errors_told():
            return self._acquired(order, tried)

    def _acquired(self, order: Order, tried: frozenset[str]) -> Lease:
        job = self._enter(order, tried)
        begun = self._clock()
        self._waiting[job.ticket] = _Waiting(params=order.params, tried=tried)
        try:
            with self._turns.expected(job.ticket) as turn:
                return self._wait(job, order, turn)
        except BaseException:
            with suppress(OSError):  # it is no job of this process any more: whoever writes next takes it out
                self.leave(job.ticket)
            raise
        finally:
            del self._waiting[job.ticket]
            order.course.queue_s = (order.course.queue_s or 0.0) + self._clock() - begun

    def leave(self, ticket: str) -> None:
        """The job is gone, and tells nothing about a WebUI."""
        self._board.leave(ticket, lambda state: self._grant(schedule.leave(state, ticket)))

    def release(self, lease: Lease, ending: Ending) -> None:
        """The WebUI answered, or will not: its place is free, and how it did decides what it gets next."""

        def change(state: Schedule) -> Schedule:
            state = schedule.leave(state, lease.ticket, ran_s=ending.ran_s)
            if ending.ran_s is not None:
                state = schedule.painted_with(schedule.succeeded(state, lease.webui), lease.webui, lease.model)
            elif ending.webui_to_blame == "memory":
                state = schedule.doubt(state, lease.webui, now=self._board.now())
            elif ending.webui_to_blame is not None:
                now = self._board.now()
                state = schedule.failed(state, lease.webui, now=now, answered=ending.webui_to_blame == "answered")
            if ending.ran_s is None and ending.webui_to_blame is not None:
                state = schedule.painted_with(state, lease.webui, None)
            if ending.found is not None:
                state = self._with_found(state, lease, ending.found)
            return self._grant(state)

        self._board.leave(lease.ticket, change)

    def _with_found(self, state: Schedule, lease: Lease, found: Found) -> Schedule:
        # What failed on a WebUI that is not known to have been sound may be healed by now: its next job will show.
        if found.broken and (found.sure or found.painted is None):
            state = schedule.broke(state, lease.webui, found.broken, now=self._board.now(), sure=found.sure)
        return schedule.painted_with(state, lease.webui, found.painted)

    def broken(self, state: Schedule) -> dict[str, frozenset[str]]:
        """``model_name`` of what a WebUI cannot load, by WebUI."""
        return broken_now(state.broken, self._board.now()) if state.broken else {}

    def mended(self, webui: str) -> None:
        """It was started anew, or lists other files."""
        seen = self._board.glance()
        if webui not in seen.broken and webui not in seen.painted:
            return
        try:
            self._board.update(lambda state: schedule.mended(state, webui))
        except OSError as error:  # then it is found out a while later
            log.error("that a webui is another one now cannot be written: %s", type(error).__name__)

    def pardon(self, webuis: Collection[str]) -> None:
        """The job that they had too little memory for was too large."""
        if not webuis:
            return
        try:
            self._board.update(lambda state: schedule.pardon(state, webuis))
        except OSError as error:  # then they are doubted for some seconds
            log.error("what a job was too large for cannot be written: %s", type(error).__name__)

    def check_room(self, params: GenerationParams) -> None:
        """
        From the schedule as it was last written: waits for nobody. :meth:`acquire` may find no room all the same.

        :raises PoolError: the job would be refused at once.
        """
        with schedule_errors_told():
            seen = self._board.look()
        if len(seen.waiting) >= self._limit:
            try:
                job, change = self._entry(params, frozenset(), since=self._board.now(), request="", task="")
            except LimitError:
                return  # its caller makes another job of it
            change(schedule.enter(seen, job))

    def _enter(self, order: Order, tried: frozenset[str]) -> Job:
        job, change = self._entry(order.params, tried, since=order.since, request=order.request, task=order.task_id)
        self._board.enter(job, change)
        return job

    def _entry(
        self, params: GenerationParams, tried: frozenset[str], *, since: float, request: str, task: str
    ) -> tuple[Job, Change]:
        """The job, and what becomes of a schedule that it has entered."""
        self._refuse_while_draining()
        self._probing.wait_for_first_look(FIRST_LOOK_S)
        states = self._probing.states()
        webuis = candidates(params, states, tried, self._policy, self.broken(self._board.glance()))
        loaded = {w: loaded_model(s.capabilities) or "" for w, s in states.items() if s.capabilities}
        job = Job(
            ticket=uuid.uuid4().hex,
            holder=self._board.holder,
            webuis=webuis,
            model=params.checkpoint.model_name,
            since=since,
            request=request,
            task=task,
        )

        def change(entered: Schedule) -> Schedule:
            after = self._grant(replace(entered, loaded={**loaded, **entered.loaded}))
            if job in after.waiting and len(after.waiting) > self._limit:
                others = schedule.leave(after, job.ticket)
                raise QueueFullError(
                    f"{len(others.waiting)} jobs wait already", retry_after_s=self._retry_after(others, len(webuis))
                )
            return after

        return job, change

    def _wait(self, job: Job, order: Order, turn: threading.Event) -> Lease:
        next_check = self._clock() + CHECK_S
        while True:
            turn.clear()
            found = self._board.find(job.ticket)
            if found is not None and found.cancelled:
                raise JobCancelledError("the caller cancelled the job")
            if found is not None and found.webui is not None:
                return _lease(found, found.webui)
            self._refuse_while_draining()
            if (refusal := self._waiting[job.ticket].refusal) is not None:
                raise refusal
            now = self._clock()
            if now >= order.wait_until:
                retry_after_s = self._retry_after(self._board.look(), self._webuis)
                raise QueueTimeoutError("no WebUI became free in time", retry_after_s=retry_after_s)
            if now >= next_check:
                order.check()
                next_check = now + CHECK_S
            self._turns.look_out()
            turn.wait(max(0.0, min(next_check, order.wait_until) - now))

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise DrainingError("the service is shutting down", retry_after_s=5)

    def _grant(self, state: Schedule) -> Schedule:
        if not self._board.settled():
            return state
        return grant(state, slots=self._slots, patience_s=self._patience_s, now=self._board.now())

    def _retry_after(self, state: Schedule, webuis: int) -> int:
        return max(1, round(schedule.seconds_until_free(state, slots=self._slots, webuis=webuis)))

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
            next_look = self._clock() + (KEEP_S if self._board.settled() else 0.0)
            try:
                state = self._board.look()
                # A schedule without the jobs that this process has was lost: they are put back.
                if state.waiting or state.running or self._board.has_jobs():
                    self._board.update(self._kept)
            except OSError as error:
                log.error("the schedule in RUNTIME_DIR cannot be kept: %s", error.strerror)

    def _kept(self, state: Schedule) -> Schedule:
        states = self._probing.states()
        broken = self.broken(state)
        webuis: dict[str, tuple[str, ...]] = {}
        for ticket, waiting in list(self._waiting.items()):
            try:
                webuis[ticket] = candidates(waiting.params, states, waiting.tried, self._policy, broken)
            except (LimitError, BrokenModelError) as error:
                webuis[ticket] = ()
                waiting.refusal = error
            except WebUIError:
                webuis[ticket] = ()  # it waits for one to come back
        return self._grant(schedule.retarget(state, webuis))


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
