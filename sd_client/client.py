"""One WebUI's HTTP API as Python: a method per endpoint, in the WebUI's own words."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from sd_client.call import Call
from sd_client.errors import InvalidAnswerError, JobStoppedError, MissingRouteError, WebUIError, WebUIStatusError
from sd_client.lists import is_native, number, read_capabilities, read_chosen_model, read_models
from sd_client.matching import match
from sd_client.models import (
    Capabilities,
    Checkpoint,
    GenerationParams,
    PaintedImage,
    Progress,
)
from sd_client.payloads import payload, read_answer, read_object, shows_nothing_loaded, stop_reason
from sd_client.tasks import Task, look_at_task
from sd_client.transport import Transport

#: Lists come from memory; only a WebUI whose threads are all taken needs longer.
READ_TIMEOUT_S = 5.0

Took = Callable[[float], None]


def _nobody(_seconds: float) -> None:
    """Nobody wants to know."""


class WebUIClient:
    """
    :param ca_bundle: see :class:`Transport`.
    :raises WebUIError: every method, one of the tree in :mod:`sd_client.errors`.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_bundle: str | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._transport = Transport(url, ca_bundle=ca_bundle)
        self._read_timeout_s = read_timeout_s

    def txt2img(
        self,
        params: GenerationParams,
        capabilities: Capabilities,
        *,
        task_id: str,
        timeout_s: float,
        took: Took = _nobody,
        call: Call | None = None,
    ) -> tuple[PaintedImage, ...]:
        """
        A WebUI that paints one picture a job is sent a batch as single jobs, one after another.

        :param timeout_s: seconds until all answers must be there; the WebUI may go on painting after that.
        :param took: is told how many seconds the WebUI was waited for, also where it failed.
        :param call: by which it can be ended from beside, and is followed.
        """
        return self._generate("/sdapi/v1/txt2img", params, capabilities, task_id, timeout_s, took, call or Call())

    def img2img(
        self,
        params: GenerationParams,
        capabilities: Capabilities,
        *,
        task_id: str,
        timeout_s: float,
        took: Took = _nobody,
        call: Call | None = None,
    ) -> tuple[PaintedImage, ...]:
        """With ``params.inpainting`` as well; see :meth:`txt2img`."""
        return self._generate("/sdapi/v1/img2img", params, capabilities, task_id, timeout_s, took, call or Call())

    def sd_models(self) -> tuple[Checkpoint, ...]:
        """The one cheap path that also tells whether the API is up. :raises MissingRouteError: it is not."""
        return read_models(self._transport, timeout_s=self._read_timeout_s)

    def capabilities(self, known: Capabilities | None = None) -> Capabilities:
        """:param known: what was read before; it stands in for what cannot be read now."""
        return read_capabilities(self._transport, timeout_s=self._read_timeout_s, known=known)

    def progress(self, *, genkey: str = "") -> Progress | None:
        """
        Of whatever runs, or of the job with this key; None where the server does not tell.

        :param genkey: what KoboldCpp knows a job by; it tells of no other.
        """
        path = "/sdapi/v1/progress?skip_current_image=true" + (f"&genkey={genkey}" if genkey else "")
        try:
            answer = self._transport.get(path, timeout_s=self._read_timeout_s)
        except WebUIStatusError:
            return None
        if not isinstance(answer, dict):
            return None
        state = told if isinstance(told := answer.get("state"), dict) else {}
        return Progress(
            fraction=number(answer.get("progress")),
            eta_seconds=number(answer.get("eta_relative")),
            running=number(state.get("job_count")) != 0,
            interrupted=state.get("interrupted") is True,
            skipped=state.get("skipped") is True,
            job_timestamp=str(state.get("job_timestamp") or ""),
        )

    def task(self, task_id: str) -> Task | None:
        """One job by its id; None where the server does not tell."""
        return look_at_task(self._transport, task_id, timeout_s=self._read_timeout_s)

    def chosen_model(self) -> str | None:
        """What jobs that name no model are painted with, in the WebUI's words; None where it does not tell."""
        return read_chosen_model(self._transport, timeout_s=self._read_timeout_s)

    def choose(self, title: str, *, timeout_s: float, call: Call | None = None) -> None:
        """
        Names the model for jobs that name none, those of the WebUI's own page; A1111 and SD.Next load it as well.

        :param call: the job that it is done for, if any.
        """
        body = to_json({"sd_model_checkpoint": title})
        with contextlib.suppress(WebUIStatusError):  # it lacks the route, or cannot load that one either
            over = (call or Call()).over
            self._transport.exchange("POST", "/sdapi/v1/options", body, timeout_s=timeout_s, over=over)

    def interrupt(self) -> bool:
        """Stops whatever runs, at its next step; False where the server cannot."""
        try:
            self._transport.post("/sdapi/v1/interrupt", b"", timeout_s=self._read_timeout_s)
        except MissingRouteError:
            return False
        return True

    def _generate(
        self,
        path: str,
        params: GenerationParams,
        capabilities: Capabilities,
        task_id: str,
        timeout_s: float,
        took: Took,
        call: Call,
    ) -> tuple[PaintedImage, ...]:
        matched = match(capabilities, params)
        if matched is None:
            # Whoever chose this WebUI looked at the same capabilities.
            raise LookupError("the WebUI does not offer the job's checkpoint or sampler")
        checkpoint, spelling = matched.checkpoint, matched.spelling
        # Where this WebUI does not know the file's hash yet, the answer's must be the one that was asked for.
        expected = checkpoint if checkpoint.known_hash else replace(checkpoint, hash=params.checkpoint.hash)
        begun = time.monotonic()
        asked, box = params.for_webui(capabilities)

        def left_s() -> float:
            return max(0.001, begun + timeout_s - time.monotonic())

        def send(part: GenerationParams) -> Mapping[str, Any]:
            body = payload(
                part,
                title=checkpoint.title,
                spelling=spelling,
                task_id=task_id,
                without_masks=capabilities.returns_masks and params.inpainting is not None,
                lifts_limits=capabilities.lifts_limits,
                genkey=call.genkey if capabilities.progress_by_genkey else "",
            )
            answer = self._transport.exchange("POST", path, body, timeout_s=left_s(), over=call.over)
            call.answered = True
            return read_object(answer)

        def paint(part: GenerationParams) -> tuple[PaintedImage, ...]:
            told = send(part)
            if shows_nothing_loaded(told) and not is_native(capabilities.checkpoints):
                # SD.Next loads what is named in its options, and nothing for a job; this one was not begun.
                self.choose(checkpoint.title, timeout_s=left_s(), call=call)
                told = send(part)
                if shows_nothing_loaded(told):
                    text = "the WebUI has no model loaded, and could not load this one"
                    raise InvalidAnswerError(text, reason="model_not_loaded")
            if capabilities.has_progress and not capabilities.progress_by_genkey:
                self._check_not_stopped(told)
            limits = capabilities.limits if capabilities.clamps else None
            return read_answer(told, part, checkpoint=expected, spelling=spelling, limits=limits)

        try:
            images = paint(asked) if capabilities.paints_batches else _one_by_one(asked, paint, call)
        finally:
            took(time.monotonic() - begun)
        return tuple(replace(image, box=box) for image in images)

    def _check_not_stopped(self, answer: Mapping[str, Any]) -> None:
        """
        An answer has no sign of it: the WebUI is asked, before it can have our next job.

        :raises JobStoppedError: somebody ended the job.
        """
        try:
            progress = self.progress()
        except WebUIError:  # it has painted, and cannot say more
            return
        reason = progress and stop_reason(progress, answer)
        if reason:
            raise JobStoppedError(reason)


def _one_by_one(
    params: GenerationParams, paint: Callable[[GenerationParams], tuple[PaintedImage, ...]], call: Call
) -> tuple[PaintedImage, ...]:
    """A batch as single jobs, with the seeds that its pictures have anyway."""
    images: tuple[PaintedImage, ...] = ()
    for place in range(params.batch_size):
        if params.batch_size > 1:
            call.on_painted(place, params.batch_size)
        images += paint(replace(params, batch_size=1, seed=params.seed + place))
    return images
