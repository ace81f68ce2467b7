"""The WebUIs as one: which of them does a job, when, and what happens when it does not."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from sd_client import schedule
from sd_client.client import WebUIClient, find_checkpoint
from sd_client.errors import (
    NoGPUError,
    NoWebUIError,
    QueueFullError,
    QueueTimeoutError,
    WebUIConnectError,
    WebUITimeoutError,
)
from sd_client.leases import SharedSchedule
from sd_client.models import Capabilities, GenerationParams, PaintedImage, bare_name
from sd_client.probing import INTERVAL_S, Probing, WebUIState
from sd_client.samplers import spell
from sd_client.schedule import Job, Schedule

log = logging.getLogger(__name__)

#: A generation that comes before the first look waits for it this long.
FIRST_LOOK_S = 4.0
#: How often a waiting job looks whether it is its turn: the GPU's idle time between two jobs of different workers.
TURN_S = 0.01
#: How often the caller is asked whether it still wants the picture.
CHECK_S = 0.5
#: An interrupt that comes while the WebUI still loads a model is forgotten by it, so it is repeated.
INTERRUPT_AGAIN_S = 2.0
#: What a job is taken to last before one has been measured, for Retry-After.
DEFAULT_JOB_S = 10.0


@dataclass(frozen=True, kw_only=True)
class PoolView:
    """What health and the catalogue show. ``looked`` is False until every WebUI was looked at once."""

    looked: bool
    states: Mapping[str, WebUIState]
    schedule: Schedule
    total: int

    def capabilities(self) -> tuple[Capabilities, ...]:
        """Of every WebUI ever seen, also while it is away."""
        return tuple(state.capabilities for state in self.states.values() if state.capabilities)


class WebUIPool:
    """
    :param urls: the WebUIs, as in ``SD_WEBUI_URL``.
    :param slots: jobs sent to one WebUI at a time, over all workers of the host.
    :param queue_limit: jobs that may wait, over all workers of the host.
    :param folder: where those workers meet.
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
        patience_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients = {webui_id(url): WebUIClient(url) for url in urls}
        self._slots = slots
        self._queue_limit = queue_limit
        self._use_gpu = use_gpu
        self._cpu_fallback = cpu_fallback
        self._patience_s = patience_s
        self._clock = clock
        self._shared = SharedSchedule(folder)
        self._probing = Probing(self._clients, folder, is_busy=lambda webui: self._shared.look().busy(webui) > 0)

    def start(self) -> None:
        """Begins to look at the WebUIs; to be called in the process that serves, after any fork."""
        self._probing.start()

    def close(self) -> None:
        self._probing.close()
        self._shared.close()

    def view(self) -> PoolView:
        """From memory and two small files: never a call to a WebUI."""
        return PoolView(
            looked=self._probing.wait_for_first_look(0),
            states=self._probing.states(),
            schedule=self._shared.look(),
            total=len(self._clients),
        )

    def ready_view(self) -> PoolView:
        """The same, after waiting for the first look if it has not been taken yet."""
        self._probing.wait_for_first_look(FIRST_LOOK_S)
        return self.view()

    def usable(self, states: Mapping[str, WebUIState]) -> dict[str, WebUIState]:
        """The WebUIs that would serve now: those with a GPU first, those without only where none has one."""
        available = {webui: state for webui, state in states.items() if state.available and state.capabilities}
        if not self._use_gpu:
            return available
        # A server that does not tell (stable-diffusion.cpp's) is taken to have one: its operator chose how it runs.
        on_gpu = {w: s for w, s in available.items() if s.capabilities and s.capabilities.gpu is not False}
        return on_gpu or (available if self._cpu_fallback else {})

    def run(
        self, params: GenerationParams, *, task_id: str, wait_s: float, run_s: float, check: Callable[[], None]
    ) -> tuple[PaintedImage, ...]:
        """
        The job's pictures, as soon as a WebUI could paint them.

        :param wait_s: seconds it may wait for a WebUI.
        :param run_s: seconds it may run; then it is interrupted, and its WebUI counts as busy until it has really
            ended, or as long again has passed.
        :param check: called twice a second; what it raises drops or interrupts the job and is raised here.
        :raises WebUIError:
        """
        until = self._clock() + wait_s
        tried: set[str] = set()
        while True:
            ticket = self._enter(params, tried)
            webui = self._turn(ticket, until, check)
            try:
                return self._paint(webui, ticket, params, task_id, run_s, check)
            except WebUIConnectError:
                self._probing.report_failure(webui)
                tried.add(webui)
                if len(tried) == len(self._clients):
                    raise NoWebUIError("no WebUI is reachable", retry_after_s=int(INTERVAL_S) + 1) from None

    def _enter(self, params: GenerationParams, tried: Collection[str]) -> str:
        """:raises PoolError: nobody could do it, or too many wait already."""
        self._probing.wait_for_first_look(FIRST_LOOK_S)
        states = self._probing.states()
        webuis = self._candidates(params, states, tried)
        loaded = {w: bare_name(s.capabilities.loaded or "") for w, s in states.items() if s.capabilities}
        job = Job(
            ticket=uuid.uuid4().hex,
            holder=self._shared.holder,
            webuis=tuple(webuis),
            model=params.checkpoint.stem,
            since=self._clock(),
        )

        def change(before: Schedule) -> Schedule:
            after = schedule.enter(replace(before, loaded={**loaded, **before.loaded}), job)
            after = self._grant(after)
            if job in after.waiting and len(after.waiting) > self._queue_limit:
                wait = schedule.seconds_until_free(
                    before, slots=self._slots, webuis=len(webuis), default_job_s=DEFAULT_JOB_S
                )
                raise QueueFullError(f"{len(before.waiting)} jobs wait already", retry_after_s=max(1, round(wait)))
            return after

        self._shared.update(change)
        return job.ticket

    def _candidates(
        self, params: GenerationParams, states: Mapping[str, WebUIState], tried: Collection[str]
    ) -> list[str]:
        able = {w: s for w, s in states.items() if s.capabilities and can_do(s.capabilities, params)}
        usable = [webui for webui in self.usable(able) if webui not in tried]
        if usable:
            return usable
        retry_after_s = int(INTERVAL_S) + 1
        if any(state.available for state in able.values()) and not self.usable(able):
            raise NoGPUError("no WebUI with a GPU is reachable", retry_after_s=retry_after_s)
        raise NoWebUIError("no WebUI that can do this is reachable", retry_after_s=retry_after_s)

    def _grant(self, state: Schedule) -> Schedule:
        return schedule.grant(state, slots=self._slots, patience_s=self._patience_s, now=self._clock())

    def _turn(self, ticket: str, until: float, check: Callable[[], None]) -> str:
        """The WebUI that was granted. :raises QueueTimeoutError: none was, in time."""
        next_check = self._clock() + CHECK_S
        try:
            while True:
                job = self._shared.look().find(ticket)
                if job is not None and job.webui is not None:
                    return job.webui
                now = self._clock()
                if now >= until:
                    raise QueueTimeoutError("no WebUI became free in time", retry_after_s=self._retry_after())
                if now >= next_check:
                    check()
                    next_check = now + CHECK_S
                    self._shared.update(self._grant)  # a holder may have died; patience may be over
                time.sleep(TURN_S)
        except BaseException:
            self._leave(ticket)
            raise

    def _retry_after(self) -> int:
        state = self._shared.look()
        wait = schedule.seconds_until_free(
            state, slots=self._slots, webuis=len(self._clients), default_job_s=DEFAULT_JOB_S
        )
        return max(1, round(wait))

    def _leave(self, ticket: str, *, ran_s: float | None = None) -> None:
        self._shared.update(lambda before: self._grant(schedule.leave(before, ticket, ran_s=ran_s)))

    def _paint(
        self,
        webui: str,
        ticket: str,
        params: GenerationParams,
        task_id: str,
        run_s: float,
        check: Callable[[], None],
    ) -> tuple[PaintedImage, ...]:
        """
        The call itself runs in a thread of its own, which holds the lease until the WebUI's answer has come: the
        caller's thread can leave before that, at its deadline or because nobody waits for the picture any more.
        """
        painting = _Painting(self._clients[webui], release=lambda ran_s: self._leave(ticket, ran_s=ran_s))
        state = self._probing.states().get(webui)
        capabilities = state.capabilities if state else None
        if capabilities is None:
            self._leave(ticket)
            raise WebUIConnectError("the WebUI went away")
        painting.start(params, capabilities, task_id=task_id, timeout_s=2 * run_s)
        deadline = self._clock() + run_s
        try:
            while True:
                try:
                    return painting.result.result(timeout=max(0.0, min(CHECK_S, deadline - self._clock())))
                except NotYet:
                    if painting.result.done():
                        continue
                    if self._clock() >= deadline:
                        raise WebUITimeoutError(f"the job ran longer than {run_s:g} s") from None
                    check()
        except BaseException:
            painting.abandon()
            raise


class _Painting:
    """One job on one WebUI, and the thread that holds its lease."""

    def __init__(self, client: WebUIClient, *, release: Callable[[float | None], None]) -> None:
        self._client = client
        self._release = release
        self._over = threading.Event()
        # Held while an interrupt is under way: the lease is not given back under it, so it cannot hit the next job.
        self._mutex = threading.Lock()
        self.result: Future[tuple[PaintedImage, ...]] = Future()

    def start(self, params: GenerationParams, capabilities: Capabilities, *, task_id: str, timeout_s: float) -> None:
        call = self._client.txt2img if params.init_image is None else self._client.img2img

        def work() -> None:
            begun = time.monotonic()
            ran_s = None
            try:
                images = call(params, capabilities, task_id=task_id, timeout_s=timeout_s)
                ran_s = time.monotonic() - begun
            except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
                outcome: BaseException | None = error
            else:
                outcome = None
            with self._mutex:
                self._over.set()
                self._release(ran_s)
            if outcome is None:
                self.result.set_result(images)
            else:
                self.result.set_exception(outcome)

        threading.Thread(target=work, name=f"job-{task_id}", daemon=True).start()

    def abandon(self) -> None:
        """Interrupts the job, if it still runs, until it has ended; returns at once."""
        if not self._over.is_set():
            threading.Thread(target=self._interrupt_until_over, name="interrupt", daemon=True).start()

    def _interrupt_until_over(self) -> None:
        while not self._over.is_set():
            with self._mutex:
                if self._over.is_set():
                    return
                try:
                    able = self._client.interrupt()
                except Exception:  # noqa: BLE001 - the job's own thread reports what became of the WebUI
                    able = True
            if not able:
                return
            self._over.wait(INTERRUPT_AGAIN_S)


def can_do(capabilities: Capabilities, params: GenerationParams) -> bool:
    """Whether a WebUI has the model and the sampler, and can paint the size and the seed."""
    return (
        find_checkpoint(capabilities, params.checkpoint) is not None
        and spell(capabilities, params.sampler, params.scheduler) is not None
        and params.width % capabilities.size_step == 0
        and params.height % capabilities.size_step == 0
        and params.seed + params.batch_size - 1 <= capabilities.max_seed
    )


def webui_id(url: str) -> str:
    """A name for a WebUI that gives its address and password away to nobody."""
    parts = urlsplit(url)
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return hashlib.sha256(address.encode()).hexdigest()[:12]
