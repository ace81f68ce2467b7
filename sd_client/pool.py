"""The WebUIs as one: which of them does a job, when, and what happens when it does not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from sd_client import schedule
from sd_client.attempt import Attempt
from sd_client.candidates import GpuPolicy, can_do, webui_id
from sd_client.client import JobCall, WebUIClient
from sd_client.errors import (
    LimitError,
    NoWebUIError,
    OutOfMemoryError,
    QueueUnavailableError,
    WebUIBusyError,
    WebUIConnectError,
    WebUIError,
)
from sd_client.limits import Limits, after_painting, png_size
from sd_client.model_look import ModelLook
from sd_client.models import Capabilities, Course, GenerationParams, PaintedImage
from sd_client.orders import Order
from sd_client.painting import Painting
from sd_client.probing import Probing, WebUIState
from sd_client.queue import FIRST_LOOK_S, JobQueue, Lease
from sd_client.schedule import Job, Schedule
from sd_client.shared_schedule import SharedSchedule
from sd_client.standing import Furthest, Standing, standing_of
from state.holders import Holders
from state.store import Store, StoreError

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PoolView:
    """
    What health and the catalogue show.

    :param webuis: their ids, in the order of ``SD_WEBUI_URL``.
    :param broken: ``model_name`` of what a WebUI cannot load, by WebUI.
    """

    states: Mapping[str, WebUIState]
    schedule: Schedule
    webuis: tuple[str, ...]
    draining: bool
    broken: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return len(self.webuis)

    def capabilities(self) -> tuple[Capabilities, ...]:
        """Of every WebUI ever seen, also while it is down, in the order of ``SD_WEBUI_URL``."""
        states = (self.states.get(webui) for webui in self.webuis)
        return tuple(state.capabilities for state in states if state and state.capabilities)


class WebUIPool:
    """
    :param urls: the WebUIs, as in ``SD_WEBUI_URL``.
    :param ca_bundle: path of the certificates that those behind https must go back to; None: well-known authorities.
    :param slots: jobs sent to one WebUI at a time, over all workers and hosts that share a schedule.
    :param queue_limit: jobs that may wait, over the same.
    :param store: keeps the schedule. :param holders: the processes that share it.
    :param host: this host's own store, for what its processes see of the WebUIs.
    :param patience_s: how long a job waits for a busy WebUI that has its model before it makes an idle one load it.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        store: Store,
        host: Store,
        holders: Holders,
        slots: int,
        queue_limit: int,
        use_gpu: bool,
        cpu_fallback: bool,
        ca_bundle: str | None = None,
        patience_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = {webui_id(url): WebUIClient(url, ca_bundle=ca_bundle) for url in urls}
        self._places = {webui: place for place, webui in enumerate(self._clients)}
        self._slots = slots
        self._policy = GpuPolicy(use_gpu=use_gpu, cpu_fallback=cpu_fallback)
        self._clock = clock
        self._furthest = Furthest(self._progress)
        self._store = store
        self._holders = holders
        self._shared = SharedSchedule(store, holders)
        self._probing = Probing(
            self._clients,
            host,
            holders,
            is_busy=lambda webui: self._shared.seen().busy(webui) > 0,
            on_return=lambda webui: self._queue.mended(webui),
            clock=clock,
        )
        self._queue = JobQueue(
            self._shared,
            holders,
            self._probing,
            policy=self._policy,
            webuis=len(self._clients),
            slots=slots,
            limit=queue_limit,
            patience_s=patience_s,
            now=store.now,
            clock=clock,
        )

    def start(self) -> None:
        """Begins to look at the WebUIs; to be called in the process that serves, after any fork."""
        self._probing.start()
        self._queue.start()

    def drain(self) -> None:
        """Takes no more jobs and drops those that wait; running ones end. May be called by a signal's handler."""
        self._queue.drain()

    def is_idle(self) -> bool:
        """Whether no job of this process waits or runs."""
        return not self._shared.has_jobs()

    def close(self) -> None:
        self._queue.close()
        self._probing.close()

    def view(self) -> PoolView:
        """From memory: never a call to a WebUI, or to the store."""
        return PoolView(
            states=self._probing.states(),
            schedule=self._shared.seen(),
            webuis=tuple(self._clients),
            draining=self._queue.draining,
            broken=self._queue.broken(),
        )

    def has_looked(self) -> bool:
        """Whether every WebUI has been looked at; until then none counts as available."""
        return self._probing.wait_for_first_look(0)

    def ready_view(self) -> PoolView:
        """The same, after waiting for the first look if it has not been taken yet."""
        self._probing.wait_for_first_look(FIRST_LOOK_S)
        return self.view()

    def usable(self, states: Mapping[str, WebUIState]) -> dict[str, WebUIState]:
        """The WebUIs that would serve now: those with a GPU first, those without only where none has one."""
        return self._policy.usable(states)

    def now(self) -> float:
        """Seconds since 1970 by the clock that all who share the schedule have in common: with Redis, its own."""
        return self._store.now()

    @property
    def holder(self) -> str:
        """Names this process among all that share the schedule."""
        return self._holders.me

    def lives(self, holder: str) -> bool:
        """False if that process is known to have ended."""
        try:
            return self._holders.lives(holder)
        except (StoreError, OSError):
            return True

    def standing(self, request: str) -> Standing | None:
        """Where the job of a request is; None where it neither waits nor runs. May ask a WebUI for its progress."""
        state = self._alive(request)
        return standing_of(request, state, slots=self._slots, now=self._store.now(), progress=self._furthest)

    def _alive(self, request: str) -> Schedule:
        """The schedule without the jobs of a request whose process has died; they may hold places a while longer."""
        state = self._shared.look()
        holders = {job.holder for job in (*state.waiting, *state.running) if job.request == request}
        dead = {holder for holder in holders if not self.lives(holder)}
        return schedule.forget(state, dead) if dead else state

    def cancel(self, request: str) -> bool:
        """Ends the job of a request, waiting or running; False where there is none."""
        before = self._alive(request)
        if not any(job.request == request for job in (*before.waiting, *before.running)):
            return False
        self._shared.change(lambda state: schedule.cancel(state, request))
        return True

    def check_room(self, params: GenerationParams) -> None:
        """
        To be asked before anything is done for a job: most that are too many are refused by this, and cost next to
        nothing.

        :raises PoolError: the job would be refused at once.
        """
        self._queue.check_room(params)

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
        now = self._clock()
        ends = now + (wait_s + run_s if total_s is None else total_s)
        order = Order(
            params=params,
            task_id=task_id,
            request=request,
            since=self._store.now(),
            wait_until=min(now + wait_s, ends),
            run_s=run_s,
            ends=ends,
            check=check,
            course=course or Course(),
        )
        return self._done(order)

    def _done(self, order: Order) -> tuple[PaintedImage, ...]:
        """
        By the first WebUI that can be reached, and that can paint it. What was answered with too little memory is tried
        on one more: nothing was painted, and another one may have more, or be shared with nobody.
        """
        tried: frozenset[str] = frozenset()
        met: LimitError | OutOfMemoryError | WebUIBusyError | None = None
        too_small: tuple[str, ...] = ()
        while True:
            try:
                lease = self._queue.acquire(order, tried)
            except NoWebUIError as error:
                self._queue.pardon(too_small)
                raise met or error from None
            capabilities = self._still_able(lease.webui, order.params)
            if capabilities is None:
                self._queue.leave(lease.ticket)
            else:
                order.course.webui = self._places[lease.webui]
                order.course.switches += lease.switches
                try:
                    return self._painted(
                        lease.webui, capabilities, order.params, self._attempt(order, lease, capabilities)
                    )
                except OutOfMemoryError as error:
                    if too_small:
                        self._queue.pardon((*too_small, lease.webui))
                        raise
                    met, too_small = error, (lease.webui,)
                except (LimitError, WebUIBusyError) as error:
                    met = error
                except WebUIConnectError:
                    log.warning("a job could not be sent to its webui", extra={"webui": order.course.webui})
                    self._probing.report_failure(lease.webui)
            tried |= {lease.webui}

    def _painted(
        self, webui: str, capabilities: Capabilities, params: GenerationParams, attempt: Attempt
    ) -> tuple[PaintedImage, ...]:
        """:raises LimitError: the WebUI painted what it could instead, which is known of it from now on."""
        try:
            images = attempt.run(capabilities)
            if capabilities.clamps:
                self._check_sizes(webui, capabilities.limits, params, images)
        except LimitError as error:
            self._probing.learn(webui, error.limits)
            raise
        return images

    def _check_sizes(
        self, webui: str, known: Limits, params: GenerationParams, images: tuple[PaintedImage, ...]
    ) -> None:
        asked = params.width, params.height
        for painted in {size for image in images if (size := png_size(image.data))}:
            limits = after_painting(known, asked=asked, painted=painted)
            if limits is None or limits == known:
                continue  # a size that nothing explains is found by whoever looks at the pictures
            if painted != asked:
                text = f"the WebUI painted {painted[0]}x{painted[1]} for {asked[0]}x{asked[1]}"
                raise LimitError(text, limits, reason="wrong_size")
            self._probing.learn(webui, limits)

    def _still_able(self, webui: str, params: GenerationParams) -> Capabilities | None:
        """What the WebUI can do, or None where it lost the model, say, while the job waited."""
        state = self._probing.states().get(webui)
        able = state is not None and state.capabilities is not None and can_do(state.capabilities, params)
        return state.capabilities if state and able else None

    def _attempt(self, order: Order, lease: Lease, capabilities: Capabilities) -> Attempt:
        crowded = self._slots > 1
        client = self._clients[lease.webui]
        look = ModelLook(
            client,
            capabilities,
            order.params,
            before=lease.before,
            sound=lease.sound,
            timeout_s=order.run_s,
            place=self._places[lease.webui],
        )
        painting = Painting(
            client,
            release=lambda ending: self._queue.release(lease, ending),
            alone=lambda: not crowded or self._shared.look().busy(lease.webui) == 1,
            prepare=lambda: None if lease.proven else look.note_choice(),
            looks=lambda error: not lease.proven and look.is_due(error) and self._disclaimed(lease),
            look=look.look,
            call=JobCall(genkey=lease.ticket, on_painted=partial(self._count, lease.ticket)),
        )
        return Attempt(order, painting, shared=self._shared, ticket=lease.ticket, crowded=crowded, clock=self._clock)

    def _disclaimed(self, lease: Lease) -> bool:
        """The caller has its answer; the place is kept a while longer."""
        try:
            self._shared.change(lambda state: schedule.disclaim(state, lease.ticket))
        except QueueUnavailableError:
            return False
        return True

    def _count(self, ticket: str, painted: int, pictures: int) -> None:
        try:
            self._shared.change(lambda state: schedule.count(state, ticket, painted=painted, pictures=pictures))
        except QueueUnavailableError as error:  # the job goes on though nobody can see how far it is
            log.error("the progress of a job cannot be written: %s", error.__cause__)

    def _progress(self, job: Job) -> float | None:
        webui = job.webui or ""
        state = self._probing.states().get(webui)
        if state is None or state.capabilities is None:
            return None
        try:
            fraction = self._fraction(self._clients[webui], state.capabilities, job)
        except WebUIError:
            return None
        return None if fraction is None else (job.painted + min(1.0, max(0.0, fraction))) / job.pictures

    def _fraction(self, client: WebUIClient, seen: Capabilities, job: Job) -> float | None:
        """Of the picture that is painted now; never of somebody else's where the WebUI tells whose it is."""
        if seen.tells_tasks and job.task:
            task = client.task(job.task)
            return None if task is None or task.state == "unknown" else task.fraction
        # With more slots than one the WebUI's progress may be another job's.
        if not seen.has_progress or (self._slots > 1 and not seen.progress_by_genkey):
            return None
        told = client.progress(genkey=job.ticket if seen.progress_by_genkey else "")
        return None if told is None else told.fraction
