"""The one pipeline: a checked request -> a WebUI -> storage. All three routes go through it."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from uuid import UUID, uuid4

from observability.metrics import Metrics
from sd_client.errors import (
    InvalidAnswerError,
    LimitError,
    UselessLoraError,
    UselessReferenceError,
    UselessUpscalerError,
)
from sd_client.job import JobReport, JobRequest
from sd_client.models import (
    NOTHING_USED,
    GenerationParams,
    JobParams,
    PaintedImage,
    Reference,
    UnchangedFields,
    UpscaleParams,
    Used,
)
from sd_client.pool import WebUIPool
from services.catalog import Catalog, Choice
from services.generation_request import GenerationRequest, UpscaleRequest
from services.inpainting import requested_inpainting, with_plain_form
from services.overlay import keep_unmasked
from services.picture_formats import PictureError
from services.pictures import fit, fitted_reference, square_reference
from services.problems import CapabilityMissingError, InvalidParamsError, Problem
from services.results import Origin, check_whole, image_record, png_size, to_png
from services.sizes import derive_size
from services.tracking import RequestService
from services.upscaling import finished, upscale_record
from services.webui_limits import Wanted
from storage.base import ImageStorage
from storage.errors import StorageError

log = logging.getLogger(__name__)

#: Drawn seeds stay below this: stable-diffusion.cpp's server cuts larger ones to int32 without a word.
_RANDOM_SEEDS = 2**31

#: Each time that a WebUI has met one of its limits, they are known better: its step of sizes after three at most.
_MOST_TRIES = 6


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """
    :param seed: None if the picture was only enlarged.
    :param stored: False if it could not be stored; the caller receives it all the same.
    """

    image_id: UUID
    png: bytes = field(repr=False)
    seed: int | None
    width: int
    height: int
    stored: bool


@dataclass(frozen=True, kw_only=True)
class Generation:
    """
    :param model: None if a picture was only enlarged.
    :param processing_time_s: from the accepted request to the stored images, including the wait for a WebUI.
    """

    images: tuple[GeneratedImage, ...]
    model: str | None
    processing_time_s: float
    request_id: str
    used: Used = NOTHING_USED


@dataclass(kw_only=True)
class GenerationReport(JobReport):
    """``store_s``: how long it took to store the images; None if none was stored."""

    store_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Call:
    """
    How a request came in.

    :param key: by which its caller can follow it; see :func:`services.tracking.request_key`.
    :param started: when it was accepted, by the generation service's clock.
    :param wait_s: seconds for waiting and running together (``Prefer: wait``); None for the settings' own.
    :param waited_s: seconds that it has already waited for its pictures to be decoded.
    :param check: called now and then; what it raises ends the job.
    :param report: records how the job goes.
    """

    request_id: str
    key: str
    started: float
    wait_s: float | None
    check: Callable[[], None]
    waited_s: float = 0.0
    report: GenerationReport = field(default_factory=GenerationReport)


class GenerationService:
    """
    :param max_pixels: of a size derived from a picture, ``MAX_PIXELS``.
    :param queue_timeout_s: how long a job may wait for a WebUI; :param timeout_s: how long it may run.
    """

    def __init__(
        self,
        *,
        pool: WebUIPool,
        catalog: Catalog,
        storage: ImageStorage,
        requests: RequestService,
        metrics: Metrics,
        max_pixels: int,
        queue_timeout_s: float,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._storage = storage
        self._requests = requests
        self._metrics = metrics
        self._max_pixels = max_pixels
        self._queue_timeout_s = queue_timeout_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._draw = draw

    def prepare(self, request: GenerationRequest) -> tuple[Choice, GenerationParams]:
        """
        Everything settled before a WebUI is asked: checkpoint, size, seed, pictures.

        :raises InvalidParamsError: with every problem that is left to be found.
        :raises NoWebUIError: no WebUI has been seen, so the model cannot be checked.
        """
        choice = self._catalog.choose(Wanted.by(request))
        width, height = self._size(request, choice)
        fitted = None
        if request.image:
            fitted = fit(request.image, width, height, request.resize_mode)
            request.image.keep_only(fitted.data, width, height)
        inpainting = None
        if request.mask and fitted:
            inpainting = requested_inpainting(request, request.mask, fitted, width, height)
            request.mask.keep_only(inpainting.mask, width, height)
            if choice.plain_inpainting:
                inpainting = with_plain_form(inpainting, fitted.data)
        params = GenerationParams(
            **{unchanged.name: getattr(request, unchanged.name) for unchanged in fields(UnchangedFields)},
            width=width,
            height=height,
            seed=self._draw(_RANDOM_SEEDS - request.batch_size) if request.seed is None else request.seed,
            checkpoint=choice.checkpoint,
            sampler=choice.sampler,
            scheduler=choice.scheduler,
            init_image=fitted.data if fitted else None,
            inpainting=inpainting,
            loras=choice.loras,
            clip_skip=choice.clip_skip,
            hires=choice.hires,
            reference=self._reference(request, choice, width, height),
        )
        return choice, params

    def generate(self, request: GenerationRequest, choice: Choice, params: GenerationParams, call: Call) -> Generation:
        """
        :param choice: and ``params``: what was prepared for the request.
        :raises InvalidParamsError: its WebUI has since shown that it cannot paint this, or that a LoRA or a
            reference picture does nothing.
        :raises WebUIError:
        """
        job = self._job(params, call)
        self._pool.check_room(job)
        with self._requests.following(call.key, longest_s=self._queue_timeout_s + 2 * self._timeout_s) as image_ids:
            params, painted = self._painted(request, params, job, call, model=choice.model)
            try:
                images = tuple((image.seed, self._finished(image, params)) for image in painted)
            except InvalidAnswerError as error:
                call.report.failures.append(error)
                raise
            begun = self._clock()
            origin = Origin(
                mode=request.mode,
                model=choice.model,
                request_id=call.request_id,
                taken_s=begun - call.started,
                params=params,
                used=painted[0].used,
            )
            kept = tuple(
                self._kept(image, image_record(origin, image_id=image.image_id, seed=seed, number=number))
                for number, (seed, image) in enumerate(images)
            )
            call.report.store_s = self._clock() - begun
            image_ids += [str(image.image_id) for image in kept if image.stored]
        return Generation(
            images=kept,
            model=choice.model,
            processing_time_s=self._clock() - call.started,
            request_id=call.request_id,
            used=painted[0].used,
        )

    def prepare_upscale(self, request: UpscaleRequest) -> UpscaleParams:
        """
        Everything settled before a WebUI is asked: the upscaler, and the picture as it is sent.

        :raises InvalidParamsError:
        :raises NoWebUIError: no WebUI has been seen, so the upscaler cannot be checked.
        """
        upscaler = self._catalog.choose_upscaler(request.upscaler)
        picture = request.image
        return UpscaleParams(
            image=fit(picture, picture.width, picture.height, "stretch").data,
            from_width=picture.width,
            from_height=picture.height,
            width=request.width,
            height=request.height,
            upscaler=upscaler,
        )

    def upscale(self, params: UpscaleParams, call: Call) -> Generation:
        """
        :raises InvalidParamsError: the upscaler has been shown to do what Lanczos does.
        :raises WebUIError:
        """
        job = self._job(params, call)
        self._pool.check_room(job)
        with self._requests.following(call.key, longest_s=self._queue_timeout_s + 2 * self._timeout_s) as image_ids:
            try:
                (enlarged,) = self._pool.run(job)
            except UselessUpscalerError as error:
                raise _useless_upscaler(error, "upscaler") from error
            try:
                png = finished(enlarged, params)
            except InvalidAnswerError as error:
                call.report.failures.append(error)
                raise
            image = GeneratedImage(
                image_id=uuid4(), png=png, seed=None, width=params.width, height=params.height, stored=True
            )
            begun = self._clock()
            taken_s = begun - call.started
            record = upscale_record(params, image_id=image.image_id, request_id=call.request_id, taken_s=taken_s)
            image = self._kept(image, record)
            call.report.store_s = self._clock() - begun
            image_ids += [str(image.image_id)] if image.stored else []
        return Generation(
            images=(image,),
            model=None,
            processing_time_s=self._clock() - call.started,
            request_id=call.request_id,
            used=enlarged.used,
        )

    def _job(self, params: JobParams, call: Call, *, ends: float | None = None) -> JobRequest:
        """:param ends: when its caller leaves at the latest; None: by the settings and the caller's own limit."""
        now = self._clock()
        queue_s = max(0.0, self._queue_timeout_s - call.waited_s)
        if ends is None:
            ends = now + queue_s + self._timeout_s
            ends = ends if call.wait_s is None else min(ends, call.started + call.wait_s)
        return JobRequest(
            params=params,
            task_id=call.request_id,
            request=call.key,
            since=self._pool.now(),
            wait_until=min(now + queue_s, ends),
            run_s=self._timeout_s,
            ends=ends,
            check=call.check,
            report=call.report,
        )

    def _painted(
        self, request: GenerationRequest, params: GenerationParams, job: JobRequest, call: Call, *, model: str
    ) -> tuple[GenerationParams, tuple[PaintedImage, ...]]:
        """The images, and the parameters they were painted with: a size left to the service may have changed."""
        for _ in range(_MOST_TRIES):
            try:
                return params, self._pool.run(job)
            except UselessLoraError as error:
                raise _useless(error, request, params) from error
            except UselessUpscalerError as error:
                raise _useless_upscaler(error, "hires.upscaler") from error
            except UselessReferenceError as error:
                raise _useless_reference(error, request, model) from error
            except LimitError:
                params = self._within_limits(request, params)
                job = self._job(params, call, ends=job.ends)
        raise InvalidAnswerError("the WebUI generates another size each time", reason="wrong_size")

    def _within_limits(self, request: GenerationRequest, params: GenerationParams) -> GenerationParams:
        """
        The same parameters with another size, if the caller left the size to the service.

        :raises InvalidParamsError: the caller asked for something that no WebUI can paint, as is now known.
        """
        _, again = self.prepare(replace(request, seed=params.seed))
        self._catalog.choose(replace(Wanted.by(request), width=again.width, height=again.height))
        return again

    @staticmethod
    def _reference(request: GenerationRequest, choice: Choice, width: int, height: int) -> Reference | None:
        """In the form that each method needs; the preferred one's is kept."""
        picture = request.reference
        if picture is None:
            return None
        pictures = {
            method: square_reference(picture) if method == "adapter" else fitted_reference(picture, width, height)
            for method in choice.reference_methods
        }
        kept = pictures[choice.reference_methods[0]]
        picture.keep_only(kept.file, *kept.size)
        return Reference(pictures=pictures, weight=request.reference_weight)

    def _size(self, request: GenerationRequest, choice: Choice) -> tuple[int, int]:
        if request.image is None:
            return request.width or 512, request.height or 512
        try:
            return derive_size(
                request.image.width,
                request.image.height,
                want_width=request.width,
                want_height=request.height,
                max_pixels=min(self._max_pixels, choice.most_pixels or self._max_pixels),
                step=choice.size_step,
            )
        except PictureError as error:
            field = "width" if request.width else "height"
            raise InvalidParamsError([Problem(field=field, message=error.message, received=error.received)]) from error

    def _finished(self, image: PaintedImage, params: GenerationParams) -> GeneratedImage:
        """
        The image as a PNG of the requested size; what the mask keeps is the caller's picture.

        :raises InvalidAnswerError:
        """
        try:
            png = to_png(image.data, parameters=image.infotext)
            width, height = png_size(png)
            if (width, height) != params.picture_size:
                due = "x".join(map(str, params.picture_size))
                raise InvalidAnswerError(f"the WebUI painted {width}x{height} instead of {due}", reason="wrong_size")
            if params.inpainting and params.init_image:
                png = keep_unmasked(png, params.init_image, params.inpainting, box=image.box)
            elif png is image.data:
                check_whole(png)
        except PictureError as error:
            raise InvalidAnswerError("the WebUI sent a damaged picture", reason="damaged_image") from error
        return GeneratedImage(
            image_id=uuid4(),
            png=png,
            seed=image.seed,
            width=width,
            height=height,
            stored=True,
        )

    def _kept(self, image: GeneratedImage, record: Mapping[str, object]) -> GeneratedImage:
        try:
            self._storage.save(image.image_id, image.png, record)
        except StorageError as error:
            log.error("image not stored: %s", error)
            self._metrics.images_unstored.inc()
            return replace(image, stored=False)
        self._metrics.images_stored.inc()
        self._metrics.images_stored_bytes.inc(len(image.png))
        return image


def _useless(error: UselessLoraError, request: GenerationRequest, params: GenerationParams) -> CapabilityMissingError:
    """The refusal of a LoRA, by the field that it was asked for in."""
    place = next(place for place, lora in enumerate(params.loras) if lora.name == error.name)
    asked = request.loras[place]
    message = (
        f"asks for the LoRA {error.name!r}, which was tried and changes nothing in pictures of this model: it is made "
        "for another kind of model, or its file is broken"
    )
    return CapabilityMissingError([Problem(field=asked.field, message=message)])


def _useless_upscaler(error: UselessUpscalerError, field: str) -> CapabilityMissingError:
    message = (
        f"asks for the upscaler {error.name!r}, which was tried and enlarges as Lanczos does: its weights are missing "
        "or broken"
    )
    return CapabilityMissingError([Problem(field=field, message=message)])


def _useless_reference(error: UselessReferenceError, request: GenerationRequest, model: str) -> CapabilityMissingError:
    tried = [f"none of {error.adapters} IP-Adapter models works with model {model}"] if error.adapters else []
    if request.reference_method != "adapter":
        tried.append(f"reference_only does not work with model {model}")
    field = "reference" if request.reference_method == "auto" else "reference_method"
    message = f"was tried and changes nothing: {'; '.join(tried)}"
    return CapabilityMissingError([Problem(field=field, message=message)])
