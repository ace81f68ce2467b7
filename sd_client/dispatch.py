"""How this process has its jobs done: by which WebUI, and what happens if that one does not do it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping

from sd_client.client import WebUIClient
from sd_client.drops import Drops
from sd_client.errors import (
    DroppedError,
    LimitError,
    NoWebUIError,
    OutOfMemoryError,
    UselessError,
    UselessLoraError,
    UselessUpscalerError,
    WebUIBusyError,
    WebUIConnectError,
    WebUIError,
)
from sd_client.job import JobRequest, Lease, Place
from sd_client.limits import Limits, after_painting, png_size
from sd_client.lora_trials import LoraTrials
from sd_client.model_check import ModelChecker
from sd_client.models import Capabilities, GenerationParams, PaintedImage, UpscaleParams
from sd_client.probing import Probing
from sd_client.queue import JobQueue
from sd_client.reference_trials import ReferenceTrials
from sd_client.routing import States, can_do
from sd_client.running_job import RunningJob
from sd_client.shared_schedule import SharedSchedule
from sd_client.trials import Trials
from sd_client.upscaler_trials import UpscalerTrials
from state.store import Store

log = logging.getLogger(__name__)


class Dispatcher:
    """
    :param clients: by the WebUI's id, in the order of ``SD_WEBUI_URL``.
    :param store: of all processes that share the schedule.
    :param crowded: a WebUI may have several jobs at the same time.
    :param count_trial: receives the result of each trial of a reference picture.
    """

    def __init__(
        self,
        clients: Mapping[str, WebUIClient],
        shared: SharedSchedule,
        queue: JobQueue,
        probing: Probing,
        store: Store,
        *,
        crowded: bool,
        count_trial: Callable[[str], None] = lambda result: None,
    ) -> None:
        self._clients = clients
        self._places = {webui: place for place, webui in enumerate(clients)}
        self._shared = shared
        self._queue = queue
        self._probing = probing
        self._crowded = crowded
        kept = functools.partial(Trials, store, start_of=probing.start_of, now=store.now)
        self._trials = LoraTrials(kept("lora"))
        self._upscalers = UpscalerTrials(kept("upscaler"))
        self._drops = Drops(kept("drop"))
        self._references = ReferenceTrials(kept("reference"), count=count_trial)

    def run(self, request: JobRequest) -> tuple[PaintedImage, ...]:
        """
        The job's pictures, from the first WebUI that can be reached and can paint it. If one has too little memory, one
        more is tried: nothing was painted, and another one may have more, or be shared with nobody. So it is if one
        leaves out what was asked for.

        A job that runs too long is interrupted; its WebUI counts as busy until it has really ended, or as long again
        has passed.

        :raises WebUIError:
        """
        tried, met = self._unfit(request) if _is_proven_by_answer(request) else (frozenset(), None)
        dropped = False
        too_small: tuple[str, ...] = ()
        while True:
            try:
                lease = self._queue.acquire(request, tried)
            except NoWebUIError as error:
                self._queue.pardon(too_small)
                if isinstance(met, UselessError) and self._could_do(request):
                    raise
                raise met or error from None
            try:
                images = self._run_on(lease, request)
                if images is not None:
                    return images
            except OutOfMemoryError as error:
                if too_small:
                    self._queue.pardon((*too_small, lease.webui))
                    raise
                met, too_small = error, (lease.webui,)
            except (LimitError, WebUIBusyError, UselessError) as error:
                met = error
            except DroppedError as error:
                self._drops.add(lease.webui, error.reason)
                if isinstance(request.params, GenerationParams):
                    self._doubt(lease.webui, request.params, error)
                if dropped:
                    raise
                met, dropped = error, True
            except WebUIConnectError:
                log.warning("a job could not be sent to its webui", extra={"webui": self._places[lease.webui]})
                self._probing.report_failure(lease.webui)
            tried |= {lease.webui}

    def _doubt(self, webui: str, params: GenerationParams, error: DroppedError) -> None:
        """What was proven there is not proven any more."""
        self._trials.forget(webui, params)
        state = self._probing.states().get(webui)
        if error.reason == "reference_dropped" and state and state.capabilities:
            self._references.fail(webui, state.capabilities, params)

    def _unfit(self, request: JobRequest) -> tuple[frozenset[str], WebUIError | None]:
        """
        The WebUIs where the job's extras are known to do nothing, with what is to be said if no other can do it; and
        those that have left out such things lately, if another can do the job now.
        """
        params, states = request.params, self._probing.states()
        useless = self._useless(request, states)
        met = next(iter(useless.values()), None)
        shunned = self._drops.lately(params)
        unfit = useless.keys() | shunned
        others = [one for one in states.items() if one[0] not in unfit] if shunned else []
        if any(state.available and can_do(request, webui, state) for webui, state in others):
            return frozenset(unfit), met
        return frozenset(useless), met

    def _useless(self, request: JobRequest, states: States) -> dict[str, UselessError]:
        """What is known to do nothing of the job's extras, by the WebUIs that can do the job otherwise."""
        params = request.params
        able = {w: s.capabilities for w, s in states.items() if s.capabilities and can_do(request, w, s)}
        upscalers = self._upscalers.useless(params)
        useless = {webui: UselessUpscalerError(upscalers[webui]) for webui in able if webui in upscalers}
        if isinstance(params, UpscaleParams):
            return {**useless}
        loras = self._trials.useless(params)
        return {
            **self._references.useless(able, params),
            **useless,
            **{webui: UselessLoraError(loras[webui]) for webui in able if webui in loras},
        }

    def _could_do(self, request: JobRequest) -> bool:
        """Whether a WebUI that is not reachable now has the job's extras, and is not known to do nothing with them."""
        states = self._probing.states()
        useless = self._useless(request, states)
        return any(can_do(request, webui, state) and webui not in useless for webui, state in states.items())

    def _run_on(self, lease: Lease, request: JobRequest) -> tuple[PaintedImage, ...] | None:
        """
        None if the WebUI lost the model, say, while the job waited.

        :raises LimitError: the WebUI painted what it could instead; its limit is known from now on.
        """
        webui = lease.webui
        state = self._probing.states().get(webui)
        if state is None or state.capabilities is None or not can_do(request, webui, state):
            self._queue.leave(lease.ticket)
            return None
        request.report.webui = self._places[webui]
        request.report.switches += lease.switches
        try:
            images = self._running_job(lease, request, state.capabilities).images()
            params = request.params
            if isinstance(params, UpscaleParams):
                return images
            if state.capabilities.clamps and params.hires is None:
                self._check_sizes(webui, state.capabilities.limits, params, images)
            if params.loras:
                self._trials.check(webui, params, images[0].used.loras)
        except LimitError as error:
            self._probing.learn(webui, error.limits)
            raise
        return images

    def _running_job(self, lease: Lease, request: JobRequest, capabilities: Capabilities) -> RunningJob:
        client = self._clients[lease.webui]
        place = Place(lease, self._shared, self._queue.release, crowded=self._crowded)
        params = request.params
        if isinstance(params, UpscaleParams):
            return RunningJob(request, client, capabilities, place, upscalers=self._upscalers)
        checker = None
        if not lease.proven:
            checker = ModelChecker(
                client,
                capabilities,
                params.checkpoint,
                before=lease.before,
                sound=lease.sound,
                timeout_s=request.run_s,
                place=self._places[lease.webui],
            )
        return RunningJob(
            request,
            client,
            capabilities,
            place,
            checker=checker,
            trials=self._trials if params.loras else None,
            upscalers=self._upscalers if params.hires else None,
            references=self._references if params.reference else None,
        )

    def _check_sizes(
        self, webui: str, known: Limits, params: GenerationParams, images: tuple[PaintedImage, ...]
    ) -> None:
        """:raises LimitError: the WebUI painted another size, which a limit of it explains."""
        asked = params.width, params.height
        for painted in {size for image in images if (size := png_size(image.data))}:
            limits = after_painting(known, asked=asked, painted=painted)
            if limits is None or limits == known:
                continue  # a size that nothing explains is found by whoever looks at the pictures
            if painted != asked:
                text = f"the WebUI painted {painted[0]}x{painted[1]} for {asked[0]}x{asked[1]}"
                raise LimitError(text, limits, reason="wrong_size")
            self._probing.learn(webui, limits)


def _is_proven_by_answer(request: JobRequest) -> bool:
    """Whether a WebUI may leave out a part of the job without a word."""
    return isinstance(request.params, UpscaleParams) or request.params.has_extras
