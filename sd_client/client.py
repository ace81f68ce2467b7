"""One WebUI's HTTP API as Python: a method per endpoint, in the WebUI's own words."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from sd_client import upscaling
from sd_client.capabilities import ModelList, is_native, read_capabilities, read_chosen_model, read_exceptions
from sd_client.connection import Exchange
from sd_client.errors import (
    InvalidAnswerError,
    JobCancelledError,
    JobStoppedError,
    MissingRouteError,
    WebUIError,
    WebUIStatusError,
)
from sd_client.matching import Match
from sd_client.models import Capabilities, Checkpoint, GenerationParams, PaintedImage, UpscaleParams
from sd_client.payloads import Payload, asked_clip_skip, payload, read_answer, read_info, shows_nothing_loaded
from sd_client.progress import Progress, Task, read_progress, read_task, stop_reason
from sd_client.references import dropped, met_exception
from sd_client.result import read_object
from sd_client.transport import Transport

#: Lists come from memory; only a WebUI whose threads are all taken needs longer.
READ_TIMEOUT_S = 5.0
#: What a WebUI reports about its system it first finds out, which takes it one or two.
_SYSINFO_TIMEOUT_S = 20.0


class JobCall:
    """
    A job's requests to a WebUI, followed and ended from another thread. A server that paints one picture a job is sent
    a batch as several requests.

    :param genkey: KoboldCpp knows the job by this.
    :param on_painted: receives how many pictures are there, and of how many, if they are painted one by one.
    """

    def __init__(self, *, genkey: str = "", on_painted: Callable[[int, int], None] = lambda painted, of: None) -> None:
        self.genkey = genkey
        self.on_painted = on_painted
        self._mutex = threading.Lock()
        self._exchange: Exchange | None = None
        self._ended = False
        #: Whether the last job was done as it was asked for cannot be told from its answer.
        self.doubtful = False
        #: False while a picture is enlarged: no WebUI reports whose, and an interrupt would end somebody else's job.
        self.can_be_interrupted = True
        #: The connection was cut off on purpose.
        self.hung_up = False
        #: The WebUI has answered the last request: what it does from now on is something else.
        self.answered = False
        #: Seconds from connecting to the end of the answer, also if that was an error; None before.
        self.asked_s: float | None = None

    def end(self, *, hang_up: bool) -> None:
        """No further request is sent. :param hang_up: the one under way is cut off."""
        with self._mutex:
            self._ended = True
            self.hung_up = hang_up
            exchange = self._exchange
        if hang_up and exchange is not None:
            exchange.hang_up()

    @contextmanager
    def over(self, exchange: Exchange) -> Iterator[None]:
        """
        The request under way goes over this connection.

        :raises JobCancelledError: the call was ended before.
        """
        with self._mutex:
            if self._ended:
                raise JobCancelledError("the rest of the job is not wanted any more")
            self._exchange = exchange
            self.answered = False
        try:
            yield
        finally:
            with self._mutex:
                self._exchange = None


class WebUIClient:
    """
    :param ca_bundle: see :class:`Transport`.
    :raises WebUIError: every method, one of the tree in :mod:`sd_client.errors`.
    """

    def __init__(self, url: str, *, ca_bundle: str | None = None, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self._transport = Transport(url, ca_bundle=ca_bundle)
        self._models = ModelList()
        self._read_timeout_s = read_timeout_s

    def generate(
        self,
        params: GenerationParams,
        capabilities: Capabilities,
        matched: Match,
        *,
        task_id: str,
        timeout_s: float,
        call: JobCall | None = None,
    ) -> tuple[PaintedImage, ...]:
        """
        By ``txt2img``, or ``img2img`` if there is an init image.

        :param matched: what this WebUI calls the job's model and sampler.
        :param timeout_s: seconds until all answers must be there; the WebUI may go on painting after that.
        """
        call = call or JobCall()
        begun = time.monotonic()
        job = _Job(self, self._transport, params, capabilities, matched, task_id, begun + timeout_s, call)
        try:
            return job.images()
        finally:
            call.asked_s = time.monotonic() - begun

    def upscale(
        self, params: UpscaleParams, capabilities: Capabilities, *, timeout_s: float, call: JobCall | None = None
    ) -> PaintedImage:
        """
        By ``extra-single-image``: the picture is at least as large as is due, and at most one rounding larger.

        :param timeout_s: seconds until the answer must be there.
        :raises JobStoppedError: somebody ended it: the picture is enlarged, but not by the upscaler.
        :raises UselessUpscalerError: it is what Lanczos makes of it, though the answer says otherwise.
        """
        name = upscaling.spelling(capabilities, params.upscaler)
        if name is None:  # whoever chose this WebUI looked at the same capabilities
            raise LookupError("the WebUI does not offer the job's upscaler")
        call, begun = call or JobCall(), time.monotonic()
        body = Payload(upscaling.upscale_fields(params, name), [(b',"image":"', params.image, b'"')])
        path = "/sdapi/v1/extra-single-image"
        call.can_be_interrupted = False
        try:
            answer = upscaling.read_object(
                self._transport.exchange("POST", path, body, timeout_s=timeout_s, over=call.over)
            )
            call.answered = True
        finally:
            call.can_be_interrupted = True
            call.asked_s = time.monotonic() - begun
        if capabilities.has_progress:
            self.check_not_stopped({})
        return upscaling.read_upscaled(answer, params, name)

    def check_not_stopped(self, info: Mapping[str, Any]) -> None:
        """
        An answer does not show it: the WebUI is asked, before it can have our next job.

        :param info: the answer's; empty if it has none.
        :raises JobStoppedError: somebody ended the job.
        """
        try:
            progress = self.progress()
        except WebUIError:  # it has painted, and cannot say more
            return
        reason = progress and stop_reason(progress, info)
        if reason:
            raise JobStoppedError(reason)

    def sd_models(self) -> tuple[Checkpoint, ...]:
        """The one cheap path that also shows whether the API is up. :raises MissingRouteError: it is not."""
        return self._models.read(self._transport, timeout_s=self._read_timeout_s)

    def capabilities(self, known: Capabilities | None = None) -> Capabilities:
        """:param known: what was read before; it stands in for what cannot be read now."""
        with self._transport.over_one_connection() as transport:
            return read_capabilities(transport, self._models, timeout_s=self._read_timeout_s, known=known)

    def progress(self, *, genkey: str = "") -> Progress | None:
        """The progress of the job that runs, or of the one with this key; see :func:`read_progress`."""
        return read_progress(self._transport, genkey=genkey, timeout_s=self._read_timeout_s)

    def task(self, task_id: str) -> Task | None:
        """One job by its id; None if the server does not report it."""
        return read_task(self._transport, task_id, timeout_s=self._read_timeout_s)

    def chosen_model(self) -> str | None:
        """What jobs that name no model are painted with, in the WebUI's words; None if it does not report it."""
        return read_chosen_model(self._transport, timeout_s=self._read_timeout_s)

    def choose(self, title: str, *, timeout_s: float, call: JobCall | None = None) -> None:
        """
        Names the model for jobs that name none, those of the WebUI's own page; A1111 and SD.Next load it as well.

        :param call: the job that it is done for, if any.
        """
        body = to_json({"sd_model_checkpoint": title})
        with contextlib.suppress(WebUIStatusError):  # it lacks the route, or cannot load that one either
            over = (call or JobCall()).over
            self._transport.exchange("POST", "/sdapi/v1/options", body, timeout_s=timeout_s, over=over)

    def interrupt(self) -> bool:
        """Stops whatever runs, at its next step; False if the server cannot."""
        try:
            self._transport.post("/sdapi/v1/interrupt", b"", timeout_s=self._read_timeout_s)
        except MissingRouteError:
            return False
        return True


class _Job:
    """One job at one WebUI. :param ends: when all answers must be there, by ``time.monotonic``."""

    def __init__(
        self,
        client: WebUIClient,
        transport: Transport,
        params: GenerationParams,
        capabilities: Capabilities,
        matched: Match,
        task_id: str,
        ends: float,
        call: JobCall,
    ) -> None:
        self._client = client
        self._transport = transport
        self._params = params
        self._capabilities = capabilities
        self._matched = matched
        self._task_id = task_id
        self._ends = ends
        self._call = call

    def images(self) -> tuple[PaintedImage, ...]:
        asked, box = self._params.for_webui(self._capabilities)
        images = self._paint(asked) if self._capabilities.paints_batches else self._one_by_one(asked)
        return images if box is None else tuple(replace(image, box=box) for image in images)

    def _one_by_one(self, params: GenerationParams) -> tuple[PaintedImage, ...]:
        """A batch as single jobs, with the seeds that its pictures have anyway."""
        images: tuple[PaintedImage, ...] = ()
        for place in range(params.batch_size):
            if params.batch_size > 1:
                self._call.on_painted(place, params.batch_size)
            images += self._paint(replace(params, batch_size=1, seed=params.seed + place))
        return images

    def _paint(self, params: GenerationParams) -> tuple[PaintedImage, ...]:
        self._call.doubtful = False
        if params.reference is None or self._capabilities.reference_proof != "exceptions":
            return self._painted(params)
        before = self._exceptions()
        images = self._painted(params)
        met = met_exception(before, self._exceptions())
        if met:
            raise dropped()
        self._call.doubtful = met is None
        return images

    def _exceptions(self) -> list[Any]:
        """:raises DroppedError: they cannot be read, so that nothing can be proven."""
        try:
            listed = read_exceptions(self._transport, timeout_s=min(_SYSINFO_TIMEOUT_S, self._left_s()))
        except WebUIError:
            listed = None
        if listed is None:
            raise dropped()
        return listed

    def _painted(self, params: GenerationParams) -> tuple[PaintedImage, ...]:
        answer = self._loaded_answer(params)
        if self._capabilities.has_progress and not self._capabilities.progress_by_genkey:
            self._client.check_not_stopped(read_info(answer))
        checkpoint = self._matched.checkpoint
        if not checkpoint.known_hash:
            # This WebUI does not know the file's hash yet: the answer's must be the one that was asked for.
            checkpoint = replace(checkpoint, hash=params.checkpoint.hash)
        limits = self._capabilities.limits if self._capabilities.clamps else None
        return read_answer(
            answer,
            params,
            checkpoint=checkpoint,
            spelling=self._matched.spelling,
            loras=self._matched.loras,
            way=self._matched.reference,
            clip_skip=asked_clip_skip(params, self._capabilities),
            limits=limits,
        )

    def _loaded_answer(self, params: GenerationParams) -> dict[str, Any]:
        """
        The answer of a WebUI that has a model loaded: SD.Next loads the one in its options, and never one for a job,
        which it does not begin without.

        :raises InvalidAnswerError: it could not load the model.
        """
        answer = self._answer(params)
        if not shows_nothing_loaded(answer) or is_native(self._capabilities.checkpoints):
            return answer
        self._client.choose(self._matched.checkpoint.title, timeout_s=self._left_s(), call=self._call)
        answer = self._answer(params)
        if shows_nothing_loaded(answer):
            text = "the WebUI has no model loaded, and could not load this one"
            raise InvalidAnswerError(text, reason="model_not_loaded")
        return answer

    def _answer(self, params: GenerationParams) -> dict[str, Any]:
        path = "/sdapi/v1/txt2img" if params.init_image is None else "/sdapi/v1/img2img"
        body = payload(
            params,
            self._capabilities,
            self._matched,
            task_id=self._task_id,
            genkey=self._call.genkey if self._capabilities.progress_by_genkey else "",
        )
        if any(lora.path for lora in self._matched.loras):
            # stable-diffusion.cpp's server knows none before its list was read once since its start.
            self._transport.exchange("GET", "/sdapi/v1/loras", None, timeout_s=self._left_s(), over=self._call.over)
        answer = self._transport.exchange("POST", path, body, timeout_s=self._left_s(), over=self._call.over)
        self._call.answered = True
        return read_object(answer)

    def _left_s(self) -> float:
        return max(0.001, self._ends - time.monotonic())
