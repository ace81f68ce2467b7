"""One job on one WebUI, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Literal

from sd_client.client import JobCall, WebUIClient
from sd_client.errors import (
    InvalidAnswerError,
    LimitError,
    OutOfMemoryError,
    QueueUnavailableError,
    WebUIConnectError,
    WebUIError,
    WebUIReadError,
    WebUIStatusError,
    WebUITimeoutError,
)
from sd_client.matching import match
from sd_client.model_look import Found
from sd_client.models import Capabilities, GenerationParams, PaintedImage

log = logging.getLogger(__name__)

#: An interrupt that comes while the WebUI still loads a model is forgotten by it, so it is repeated.
INTERRUPT_AGAIN_S = 2.0

#: A WebUI that still does not know our job by its id after so many looks does not note jobs by our ids.
UNKNOWN_LOOKS = 3

#: How long a WebUI may go on with a job whose connection was closed, and how often it is looked at.
LONGEST_ENDING_S = 60.0
_ENDING_LOOK_S = 0.2

#: What a WebUI's failure says about it: that it answers with errors, does not answer, or has too little memory
#: (unless the job is too large for any).
Blame = Literal["answered", "silent", "memory"]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """
    :param ran_s: how long the job ran; None where it failed, or was interrupted.
    :param webui_to_blame: None where the failure says nothing about the WebUI.
    :param found: what a look at its models has shown; None where none was taken.
    """

    ran_s: float | None
    webui_to_blame: Blame | None
    found: Found | None = None


class Painting:
    """
    Holds the job's lease until the WebUI has answered, whether or not anybody still waits for the picture.

    :param release: gives the lease back; called once.
    :param alone: whether the WebUI has no other job: its interrupt hits whatever runs. May raise
        QueueUnavailableError.
    :param call: by which the job is followed.
    :param prepare: called in the job's thread before anything is sent; raises nothing.
    :param looks: whether the WebUI's models are to be looked at after this error.
    :param look: called then, when the caller has its error, and before another job comes.
    """

    def __init__(
        self,
        client: WebUIClient,
        *,
        release: Callable[[Ending], None],
        alone: Callable[[], bool] = lambda: True,
        call: JobCall | None = None,
        prepare: Callable[[], None] = lambda: None,
        looks: Callable[[BaseException], bool] = lambda error: False,
        look: Callable[[], Found | None] = lambda: None,
        interrupt_again_s: float = INTERRUPT_AGAIN_S,
    ) -> None:
        self._client = client
        self._interrupt_again_s = interrupt_again_s
        self._alone = alone
        self._call = call or JobCall()
        self._prepare = prepare
        self._looks = looks
        self._look = look
        self._can_interrupt = True
        self._ends_on_hang_up = False
        self._tells_tasks = False
        self._task_id = ""
        self._unknown_looks = 0
        self._release = release
        self._over = threading.Event()
        self._abandoned = False
        # Held while an interrupt is under way: the lease is not given back under it, so it cannot hit the next job.
        self._mutex = threading.Lock()
        self.result: Future[tuple[PaintedImage, ...]] = Future()

    def start(self, params: GenerationParams, capabilities: Capabilities, *, task_id: str, timeout_s: float) -> None:
        matched = match(capabilities, params)
        if matched is None:
            raise LookupError("the WebUI does not offer the job's checkpoint or sampler")
        self._can_interrupt = capabilities.can_interrupt
        self._ends_on_hang_up = capabilities.ends_on_hang_up
        self._tells_tasks = capabilities.tells_tasks
        self._task_id = task_id

        def work() -> None:
            self._prepare()
            begun = time.monotonic()
            try:
                images = self._client.generate(
                    params, capabilities, matched, task_id=task_id, timeout_s=timeout_s, call=self._call
                )
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

        threading.Thread(target=work, name=f"job-{task_id}", daemon=True).start()

    def _fail(self, error: BaseException) -> None:
        ending = Ending(ran_s=None, webui_to_blame=self._blame(error))
        if not self._call.hung_up and self._looks(error):
            with self._mutex:  # what the WebUI does from now on is not to be interrupted
                self._call.answered = True
            self.result.set_exception(error)
            found = self._look()
            healed = found is not None and found.painted is not None and bool(found.broken)
            blame = None if healed else ending.webui_to_blame
            self._give_back(replace(ending, webui_to_blame=blame, found=found))
            return
        try:
            self._give_back(ending)
        finally:
            self.result.set_exception(error)

    @property
    def asked_s(self) -> float | None:
        return self._call.asked_s

    def abandon(self) -> None:
        """
        Ends the job, if it still runs, the way its WebUI can; returns at once. One that cannot keeps its lease until
        its WebUI has answered.
        """
        self._abandoned = True
        if self._over.is_set() or self.result.done():
            return
        self._call.end(hang_up=self._ends_on_hang_up)
        if self._can_interrupt:
            threading.Thread(target=self._interrupt_until_over, name="interrupt", daemon=True).start()

    def _give_back(self, ending: Ending) -> None:
        with self._mutex:
            self._over.set()
            try:
                self._release(ending)
            except QueueUnavailableError:
                log.exception("a lease cannot be given back")  # the picture is there all the same

    def _wait_until_idle(self) -> None:
        """A WebUI whose connection was closed ends its job at its next step."""
        deadline = time.monotonic() + LONGEST_ENDING_S
        while time.monotonic() < deadline:
            try:
                told = self._client.progress(genkey=self._call.genkey)
            except WebUIError:
                return  # the next look finds out what became of the WebUI
            if told is None or not told.running:
                return
            time.sleep(_ENDING_LOOK_S)

    def _blame(self, error: BaseException) -> Blame | None:
        if self._call.hung_up:
            return None
        if isinstance(error, WebUIConnectError | WebUIReadError | WebUITimeoutError):
            return "silent"
        # An interrupted job may answer anything; a size that does not fit the model is the job's fault.
        if self._abandoned or isinstance(error, LimitError):
            return None
        if isinstance(error, OutOfMemoryError):
            return "memory"
        return "answered" if isinstance(error, WebUIStatusError | InvalidAnswerError) else None

    def _interrupt_until_over(self) -> None:
        while not self._over.is_set():
            with self._mutex:
                if self._over.is_set() or self._call.answered:
                    return
                if self._is_alone() and self._runs() and not self._interrupt():
                    return
            self._over.wait(self._interrupt_again_s)

    def _is_alone(self) -> bool:
        """False as well where it cannot be told now: it is looked at again."""
        try:
            return self._alone()
        except QueueUnavailableError as error:
            log.warning("the jobs on a WebUI cannot be looked at: %s", error.__cause__)
            return False

    def _runs(self) -> bool:
        """
        Whether what the WebUI does now is this job, as far as it tells: behind somebody else's job in the WebUI's own
        queue an interrupt would end that one.
        """
        if not self._tells_tasks:
            return True
        try:
            task = self._client.task(self._task_id)
        except WebUIError:
            return False
        if task is None or task.state == "unknown":
            self._unknown_looks += 1
            return self._unknown_looks >= UNKNOWN_LOOKS
        return task.state == "running"

    def _interrupt(self) -> bool:
        """False where the server cannot."""
        try:
            return self._client.interrupt()
        except WebUIError:  # the job's own thread reports what became of the WebUI
            return True
