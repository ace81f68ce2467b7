"""A job on the WebUI that it was granted: the thread that waits for the WebUI, and the caller who waits beside it."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import replace

from sd_client.client import JobCall, WebUIClient
from sd_client.errors import (
    DroppedError,
    InvalidAnswerError,
    JobCancelledError,
    LimitError,
    OutOfMemoryError,
    UselessError,
    UselessUpscalerError,
    WebUIConnectError,
    WebUIError,
    WebUIReadError,
    WebUIStatusError,
    WebUITimeoutError,
)
from sd_client.job import CHECK_S, Blame, Ending, JobRequest, Place
from sd_client.lora_trials import LoraTrials
from sd_client.model_check import ModelChecker
from sd_client.models import Capabilities, PaintedImage, UpscaleParams
from sd_client.reference_trials import ReferenceTrials
from sd_client.small_jobs import SmallJobs
from sd_client.upscaler_trials import UpscalerTrials

log = logging.getLogger(__name__)

#: An interrupt that comes while the WebUI still loads a model is forgotten by it, so it is repeated.
INTERRUPT_AGAIN_S = 2.0

#: A WebUI that still does not know our job by its id after so many looks does not keep our ids.
UNKNOWN_LOOKS = 3

#: How long a WebUI may go on with a job whose connection was closed, and how often it is looked at.
LONGEST_ENDING_S = 60.0
_ENDING_LOOK_S = 0.2


class RunningJob:
    """
    Its thread holds the place on the WebUI until the answer has come. The caller can leave before that, at its deadline
    or because nobody waits for the picture any more.

    :param capabilities: of its WebUI, which can do the job.
    :param checker: looks at the WebUI's models after a failure; None if they are known to be sound.
    :param trials: of the job's LoRAs; None if it has none.
    :param upscalers: trials of its upscaler; None if it has none.
    :param references: trials of reference pictures; None if the job has none.
    """

    def __init__(
        self,
        request: JobRequest,
        client: WebUIClient,
        capabilities: Capabilities,
        place: Place,
        *,
        checker: ModelChecker | None = None,
        trials: LoraTrials | None = None,
        upscalers: UpscalerTrials | None = None,
        references: ReferenceTrials | None = None,
        interrupt_again_s: float = INTERRUPT_AGAIN_S,
    ) -> None:
        self._request = request
        self._client = client
        self._capabilities = capabilities
        self._place = place
        self._checker = checker
        self._trials = trials
        self._upscalers = upscalers
        self._references = references
        self._interrupt_again_s = interrupt_again_s
        self._call = JobCall(genkey=place.ticket, on_painted=place.count)
        self._over = threading.Event()
        self._abandoned = False
        self._unknown_looks = 0
        # Held while an interrupt is under way: the place is not given back under it, so it cannot hit the next job.
        self._mutex = threading.Lock()
        self.result: Future[tuple[PaintedImage, ...]] = Future()

    # --- The caller's thread ------------------------------------------------------------------------------------------

    def images(self) -> tuple[PaintedImage, ...]:
        """
        Starts the job and waits for it.

        :raises WebUIError: how it failed is in the request's report as well.
        """
        request, report = self._request, self._request.report
        begun = time.monotonic()
        deadline = min(begun + request.run_s, request.ends)
        self.start(timeout_s=deadline - begun + request.run_s)
        try:
            return self._wait(deadline)
        except BaseException as error:
            if isinstance(error, WebUIError) and not isinstance(error, JobCancelledError | LimitError | UselessError):
                report.failures.append(error)
            self.abandon()
            raise
        finally:
            asked_s = time.monotonic() - begun if self._call.asked_s is None else self._call.asked_s
            report.webui_s = (report.webui_s or 0.0) + asked_s

    def _wait(self, deadline: float) -> tuple[PaintedImage, ...]:
        while True:
            try:
                return self.result.result(timeout=max(0.0, min(CHECK_S, deadline - time.monotonic())))
            except NotYet:
                if self.result.done():
                    continue
                if time.monotonic() >= deadline:
                    raise WebUITimeoutError(self._too_long()) from None
                if self._place.is_cancelled():
                    raise JobCancelledError("the caller cancelled the job") from None
                self._request.check()

    def abandon(self) -> None:
        """
        Ends the job, if it still runs, the way its WebUI can; returns at once. One that cannot keeps its place until
        its WebUI has answered.
        """
        if self.result.done():
            return
        self._abandoned = True
        self._place.abandon()
        if self._over.is_set():
            return
        self._call.end(hang_up=self._capabilities.ends_on_hang_up)
        if self._can_interrupt():
            threading.Thread(target=self._interrupt_until_over, name="interrupt", daemon=True).start()

    def _can_interrupt(self) -> bool:
        """Once the call was ended that stays as it is, since no other request follows the one under way."""
        return self._capabilities.can_interrupt and self._call.can_be_interrupted

    def _too_long(self) -> str:
        if self._can_interrupt() or self._capabilities.ends_on_hang_up:
            return "the job took longer than allowed and is being interrupted"
        return "the job took longer than allowed; its WebUI cannot interrupt it and goes on"

    # --- The job's thread ---------------------------------------------------------------------------------------------

    def start(self, *, timeout_s: float) -> None:
        """:param timeout_s: see :meth:`WebUIClient.generate`."""
        name = f"job-{self._request.task_id}"
        threading.Thread(target=self._run, args=(timeout_s,), name=name, daemon=True).start()

    def _run(self, timeout_s: float) -> None:
        if self._checker is not None:
            self._checker.remember_choice()
        begun = time.monotonic()
        try:
            images = self._paint(timeout_s)
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            if self._call.hung_up:
                self._wait_until_idle()
            self._fail(error)
        else:
            ran_s = None if self._abandoned else time.monotonic() - begun
            try:
                self._give_back(Ending(ran_s=ran_s, webui_to_blame=None))
            finally:
                self.result.set_result(images)

    def _paint(self, timeout_s: float) -> tuple[PaintedImage, ...]:
        request, params = self._request, self._request.params
        ends = time.monotonic() + timeout_s
        small = SmallJobs(
            webui=self._place.webui,
            client=self._client,
            capabilities=self._capabilities,
            task_id=request.task_id,
            call=self._call,
            ends=ends,
        )
        if isinstance(params, UpscaleParams):
            return (self._enlarged(params, small, timeout_s=timeout_s),)
        matched = request.match(self._place.webui, self._capabilities)
        if matched is None:  # whoever chose this WebUI looked at the same capabilities
            raise LookupError("the WebUI does not offer the job's checkpoint or sampler")
        for trials in (self._trials, self._upscalers, self._references):
            way = trials and trials.prove(small, params)
            matched = replace(matched, reference=way) if way else matched
        left_s = max(0.001, ends - time.monotonic())
        images = self._client.generate(
            params, self._capabilities, matched, task_id=request.task_id, timeout_s=left_s, call=self._call
        )
        if self._call.doubtful and self._references is not None and matched.reference is not None:
            self._references.check(small, params, matched.reference)
        return images

    def _enlarged(self, params: UpscaleParams, small: SmallJobs, *, timeout_s: float) -> PaintedImage:
        """:raises UselessUpscalerError: a small picture has shown as well that the upscaler does what Lanczos does."""
        try:
            return self._client.upscale(params, self._capabilities, timeout_s=timeout_s, call=self._call)
        except UselessUpscalerError as error:
            if self._upscalers is not None:
                self._upscalers.check(small, params.upscaler)
            raise DroppedError("the WebUI enlarged by Lanczos, and says otherwise", reason="wrong_upscaler") from error

    def _fail(self, error: BaseException) -> None:
        ending = Ending(ran_s=None, webui_to_blame=self._blame(error))
        checker = None if self._call.hung_up else self._checker
        # The caller has its answer, and the place is kept while the models are checked.
        if checker is not None and checker.is_due(error) and self._place.disclaim():
            self._fail_and_check(error, ending, checker)
            return
        try:
            self._give_back(ending)
        finally:
            self.result.set_exception(error)

    def _fail_and_check(self, error: BaseException, ending: Ending, checker: ModelChecker) -> None:
        with self._mutex:  # what the WebUI does from now on is not to be interrupted
            self._call.answered = True
        self.result.set_exception(error)
        found = checker.check()
        healed = found is not None and found.painted is not None and bool(found.broken)
        blame = None if healed else ending.webui_to_blame
        self._give_back(replace(ending, webui_to_blame=blame, found=found))

    def _give_back(self, ending: Ending) -> None:
        with self._mutex:
            self._over.set()
            self._place.give_back(ending)

    def _wait_until_idle(self) -> None:
        """A WebUI whose connection was closed ends its job at its next step."""
        deadline = time.monotonic() + LONGEST_ENDING_S
        while time.monotonic() < deadline:
            try:
                progress = self._client.progress(genkey=self._call.genkey)
            except WebUIError:
                return  # the next look finds out what became of the WebUI
            if progress is None or not progress.running:
                return
            time.sleep(_ENDING_LOOK_S)

    def _blame(self, error: BaseException) -> Blame | None:
        if self._call.hung_up:
            return None
        if isinstance(error, WebUIConnectError | WebUIReadError | WebUITimeoutError):
            return "silent"
        # An interrupted job may answer anything; a size that does not fit the model is the job's fault; and whatever
        # was left out, other jobs do not need it.
        if self._abandoned or isinstance(error, LimitError | DroppedError):
            return None
        if isinstance(error, OutOfMemoryError):
            return "memory"
        return "answered" if isinstance(error, WebUIStatusError | InvalidAnswerError) else None

    # --- The interrupting thread --------------------------------------------------------------------------------------

    def _interrupt_until_over(self) -> None:
        while not self._over.is_set():
            with self._mutex:
                if self._over.is_set() or self._call.answered:
                    return
                if self._place.is_alone() and self._runs() and not self._interrupt():
                    return
            self._over.wait(self._interrupt_again_s)

    def _runs(self) -> bool:
        """
        Whether the WebUI works on this job, as far as it reports that: while the job waits in the WebUI's own queue
        behind somebody else's, an interrupt would end that one.
        """
        if not self._capabilities.reports_tasks:
            return True
        try:
            task = self._client.task(self._request.task_id)
        except WebUIError:
            return False
        if task is None or task.state == "unknown":
            self._unknown_looks += 1
            return self._unknown_looks >= UNKNOWN_LOOKS
        return task.state == "running"

    def _interrupt(self) -> bool:
        """False if the server cannot."""
        try:
            return self._client.interrupt()
        except WebUIError:  # the job's own thread reports what became of the WebUI
            return True
