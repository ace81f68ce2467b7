"""The WebUIs as one: which of them does a job, when, and what happens if it does not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sd_client import schedule
from sd_client.client import WebUIClient
from sd_client.dispatch import Dispatcher
from sd_client.job import JobRequest
from sd_client.job_status import JobStatus, SteadyProgress, reported_fraction, status_of
from sd_client.models import Capabilities, PaintedImage
from sd_client.probing import Probing
from sd_client.queue import FIRST_LOOK_S, JobQueue
from sd_client.routing import GpuPolicy, webui_id
from sd_client.schedule import Job, Schedule
from sd_client.shared_schedule import SharedSchedule
from sd_client.states import WebUIState
from state.holders import Holders
from state.store import Store, StoreError


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
        """Those of every WebUI ever seen, even if it is down now, in the order of ``SD_WEBUI_URL``."""
        states = (self.states.get(webui) for webui in self.webuis)
        return tuple(state.capabilities for state in states if state and state.capabilities)


class WebUIPool:
    """
    :param urls: the WebUIs, as in ``SD_WEBUI_URL``.
    :param store: keeps the schedule. :param holders: the processes that share it.
    :param slots: jobs sent to one WebUI at a time, over all workers and hosts that share a schedule.
    :param queue_limit: jobs that may wait, over the same.
    :param host: this host's own store, for what its processes see of the WebUIs.
    :param ca_bundle: path of the certificates that those behind https must go back to; None: well-known authorities.
    :param patience_s: how long a job waits for a busy WebUI that has its model before it makes an idle one load it.
    :param count_trial: receives ``passed`` or ``failed`` after each trial of a reference picture.
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
        count_trial: Callable[[str], None] = lambda result: None,
    ) -> None:
        self._clients = {webui_id(url): WebUIClient(url, ca_bundle=ca_bundle) for url in urls}
        self._slots = slots
        self._policy = GpuPolicy(use_gpu=use_gpu, cpu_fallback=cpu_fallback)
        self._progress = SteadyProgress(self._reported)
        self._store = store
        self._holders = holders
        self._shared = SharedSchedule(store, holders)
        self._probing = Probing(
            self._clients,
            host,
            holders,
            is_busy=lambda webui: self._shared.seen().busy(webui) > 0,
            on_return=lambda webui: self._queue.mended(webui),
            shared=store,
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
        )
        self._dispatcher = Dispatcher(
            self._clients, self._shared, self._queue, self._probing, store, crowded=slots > 1, count_trial=count_trial
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

    # --- What is known ------------------------------------------------------------------------------------------------

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
        """The same as :meth:`view`, after waiting for the first look if it has not been taken yet."""
        self._probing.wait_for_first_look(FIRST_LOOK_S)
        return self.view()

    def usable(self, states: Mapping[str, WebUIState]) -> dict[str, WebUIState]:
        """The WebUIs that would serve now: those with a GPU first, those without only if none has one."""
        return self._policy.usable(states)

    def now(self) -> float:
        """Seconds since 1970 by the clock that all who share the schedule have in common: with Redis, its own."""
        return self._store.now()

    # --- Jobs of any process ------------------------------------------------------------------------------------------

    def status(self, request: str, *, with_progress: bool = True) -> JobStatus | None:
        """
        The status of the job of a request; None if it neither waits nor runs.

        :param with_progress: whether to ask the WebUI for it, which takes seconds if that does not answer.
        :raises QueueUnavailableError:
        """
        state = self._alive(request)
        progress = self._progress if with_progress else lambda _: None
        return status_of(request, state, slots=self._slots, now=self._store.now(), progress=progress)

    def cancel(self, request: str) -> bool:
        """
        Ends the job of a request, waiting or running; False if there is none.

        :raises QueueUnavailableError:
        """
        before = self._alive(request)
        if not any(job.request == request for job in (*before.waiting, *before.running)):
            return False
        self._shared.change(lambda state: schedule.cancel(state, request))
        return True

    def _alive(self, request: str) -> Schedule:
        """The schedule without the jobs of a request whose process has died; they may hold places a while longer."""
        state = self._shared.look()
        holders = {job.holder for job in (*state.waiting, *state.running) if job.request == request}
        dead = {holder for holder in holders if not self._lives(holder)}
        return schedule.forget(state, dead) if dead else state

    def _lives(self, holder: str) -> bool:
        """False if that process is known to have ended."""
        try:
            return self._holders.lives(holder)
        except (StoreError, OSError):
            return True

    def _reported(self, job: Job) -> float | None:
        webui = job.webui or ""
        state = self._probing.states().get(webui)
        if state is None or state.capabilities is None:
            return None
        return reported_fraction(self._clients[webui], state.capabilities, job, crowded=self._slots > 1)

    # --- Jobs of this process -----------------------------------------------------------------------------------------

    def check_room(self, request: JobRequest) -> None:
        """
        To be asked before anything is done for a job: most that are too many are refused by this, and cost next to
        nothing.

        :raises PoolError: the job would be refused at once.
        """
        self._queue.check_room(request)

    def run(self, request: JobRequest) -> tuple[PaintedImage, ...]:
        """
        The job's pictures; see :meth:`sd_client.dispatch.Dispatcher.run`.

        :raises WebUIError:
        """
        return self._dispatcher.run(request)
