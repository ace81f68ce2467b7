"""The one pipeline: a checked request -> a WebUI -> storage. All three routes go through it."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Literal
from uuid import UUID, uuid4

from observability.metrics import Metrics
from sd_client.errors import InvalidAnswerError, LimitError
from sd_client.models import Course, GenerationParams, Inpainting, PaintedImage, UnchangedFields
from sd_client.pool import WebUIPool
from services.catalog import Catalog, Choice
from services.image_record import Origin, image_record
from services.inpainting import Area, Fill, with_plain_form
from services.masks import Mask, MaskLostError, fit_mask
from services.overlay import keep_unmasked
from services.picture_formats import PictureError
from services.pictures import Picture, ResizeMode, fit
from services.problems import InvalidParamsError, Problem
from services.results import check_whole, png_size, to_png
from services.sizes import derive_size
from services.tracking import RequestService
from services.webui_limits import Wanted
from storage.base import ImageStorage
from storage.errors import StorageError

log = logging.getLogger(__name__)

#: Drawn seeds stay below this: stable-diffusion.cpp's server cuts larger ones to int32 without a word.
_RANDOM_SEEDS = 2**31

#: Each time that a WebUI has met one of its limits, they are known better: its step of sizes after three at most.
_MOST_TRIES = 6

Mode = Literal["txt2img", "img2img", "inpainting"]


@dataclass(frozen=True, kw_only=True)
class GenerationRequest(UnchangedFields):
    """
    What a caller asked for, each field checked by itself; None where it is left to the service.

    :param mode: which of the three routes.
    :param image: None for txt2img only; :param mask: None but for inpainting.
    """

    mode: Mode
    width: int | None
    height: int | None
    seed: int | None
    model: str | None = None
    sampler: str | None = None
    scheduler: str | None = None
    image: Picture | None = None
    resize_mode: ResizeMode = "stretch"
    mask: Mask | None = None
    mask_blur: int = 0
    inpaint_area: Area = "whole"
    inpaint_padding: int = 0
    inpaint_fill: Fill = "original"

    def wanted(self) -> Wanted:
        """The part that the catalogue has a say in."""
        return Wanted(
            model=self.model,
            sampler=self.sampler,
            scheduler=self.scheduler,
            width=self.width,
            height=self.height,
            steps=self.steps,
            cfg_scale=self.cfg_scale,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed or 0,
            batch_size=self.batch_size,
            strength=self.strength,
            inpaint_fill=self.inpaint_fill if self.mode == "inpainting" else None,
        )


@dataclass(frozen=True, kw_only=True)
class GeneratedImage:
    """``stored``: False where it could not be kept; the caller has it all the same."""

    image_id: UUID
    png: bytes = field(repr=False)
    seed: int
    width: int
    height: int
    stored: bool


@dataclass(frozen=True, kw_only=True)
class Generation:
    """``processing_time_s``: from the accepted request to the stored images, the wait for a WebUI included."""

    images: tuple[GeneratedImage, ...]
    model: str
    processing_time_s: float
    request_id: str


@dataclass(kw_only=True)
class GenerationCourse(Course):
    """``store_s``: how long it took to store its pictures; None where it did not come to that."""

    store_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Call:
    """
    How a request came in.

    :param key: what its caller can ask for it by; see :func:`services.tracking.request_key`.
    :param started: when it was accepted, by the generation service's clock.
    :param wait_s: seconds for waiting and running together (``Prefer: wait``); None for the settings' own.
    :param waited_s: seconds that it has waited already, for its pictures to be decoded.
    :param check: called now and then; what it raises ends the job.
    :param course: where it is noted how the job goes.
    """

    request_id: str
    key: str
    started: float
    wait_s: float | None
    check: Callable[[], None]
    waited_s: float = 0.0
    course: GenerationCourse = field(default_factory=GenerationCourse)


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
        choice = self._catalog.choose(request.wanted())
        width, height = self._size(request, choice)
        init_image = fit(request.image, width, height, request.resize_mode) if request.image else None
        inpainting = _inpainting(request, width, height)
        if inpainting and init_image and choice.plain_inpainting:
            inpainting = with_plain_form(inpainting, init_image)
        params = GenerationParams(
            **{unchanged.name: getattr(request, unchanged.name) for unchanged in fields(UnchangedFields)},
            width=width,
            height=height,
            seed=self._draw(_RANDOM_SEEDS - request.batch_size) if request.seed is None else request.seed,
            checkpoint=choice.checkpoint,
            sampler=choice.sampler,
            scheduler=choice.scheduler,
            init_image=init_image,
            inpainting=inpainting,
        )
        return choice, params

    def generate(self, request: GenerationRequest, choice: Choice, params: GenerationParams, call: Call) -> Generation:
        """
        :param choice: and ``params``: what was prepared for the request.
        :raises InvalidParamsError: its WebUI has shown by now that it cannot paint this.
        :raises WebUIError:
        """
        self._pool.check_room(params)
        with self._requests.following(call.key, longest_s=self._queue_timeout_s + 2 * self._timeout_s) as image_ids:
            params, painted = self._painted(request, params, call)
            try:
                images = tuple(self._finished(image, params) for image in painted)
            except InvalidAnswerError as error:
                call.course.failures.append(error)
                raise
            begun = self._clock()
            origin = Origin(
                mode=request.mode,
                model=choice.model,
                request_id=call.request_id,
                taken_s=begun - call.started,
                params=params,
            )
            kept = tuple(self._kept(image, number, origin) for number, image in enumerate(images))
            call.course.store_s = self._clock() - begun
            image_ids += [str(image.image_id) for image in kept if image.stored]
        return Generation(
            images=kept,
            model=choice.model,
            processing_time_s=self._clock() - call.started,
            request_id=call.request_id,
        )

    def _painted(
        self, request: GenerationRequest, params: GenerationParams, call: Call
    ) -> tuple[GenerationParams, tuple[PaintedImage, ...]]:
        """The pictures, and what they were asked for with: a size that was left to the service may be another now."""
        queue_s = max(0.0, self._queue_timeout_s - call.waited_s)
        ends = self._clock() + queue_s + self._timeout_s
        if call.wait_s is not None:
            ends = min(ends, call.started + call.wait_s)
        for _ in range(_MOST_TRIES):
            try:
                painted = self._pool.run(
                    params,
                    task_id=call.request_id,
                    request=call.key,
                    wait_s=queue_s,
                    run_s=self._timeout_s,
                    total_s=max(0.0, ends - self._clock()),
                    check=call.check,
                    course=call.course,
                )
            except LimitError:
                params = self._within_limits(request, params)
            else:
                return params, painted
        raise InvalidAnswerError("the WebUI generates another size each time", reason="wrong_size")

    def _within_limits(self, request: GenerationRequest, params: GenerationParams) -> GenerationParams:
        """
        The same with another size, where the caller left it to the service.

        :raises InvalidParamsError: the caller asked for what no WebUI can paint, as is known now.
        """
        _, again = self.prepare(replace(request, seed=params.seed))
        self._catalog.choose(replace(request.wanted(), width=again.width, height=again.height))
        return again

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
        The WebUI's picture as PNG of the size asked for, what the mask keeps kept.

        :raises InvalidAnswerError:
        """
        try:
            png = to_png(image.data, parameters=image.infotext)
            width, height = png_size(png)
            if (width, height) != (params.width, params.height):
                raise InvalidAnswerError(
                    f"the WebUI painted {width}x{height} instead of {params.width}x{params.height}", reason="wrong_size"
                )
            if params.inpainting and params.init_image:
                inpainting = params.inpainting
                blur = inpainting.mask_blur
                png = keep_unmasked(png, params.init_image, inpainting.mask, blur=blur, box=image.box)
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

    def _kept(self, image: GeneratedImage, number: int, origin: Origin) -> GeneratedImage:
        record = image_record(origin, image_id=image.image_id, seed=image.seed, number=number)
        try:
            self._storage.save(image.image_id, image.png, record)
        except StorageError as error:
            log.error("image not stored: %s", error)
            self._metrics.images_unstored.inc()
            return replace(image, stored=False)
        self._metrics.images_stored.inc()
        self._metrics.images_stored_bytes.inc(len(image.png))
        return image


def _inpainting(request: GenerationRequest, width: int, height: int) -> Inpainting | None:
    if request.mask is None:
        return None
    try:
        mask = fit_mask(request.mask, width, height, request.resize_mode)
    except MaskLostError as error:
        raise InvalidParamsError([_lost(error, request)]) from error
    except PictureError as error:
        raise InvalidParamsError([Problem(field="mask", message=error.message, received=error.received)]) from error
    return Inpainting(
        mask=mask,
        mask_blur=request.mask_blur,
        area=request.inpaint_area,
        padding=request.inpaint_padding,
        fill=request.inpaint_fill,
    )


def _lost(error: MaskLostError, request: GenerationRequest) -> Problem:
    """Told of the field that did it; where the service chose the size, of the mask."""
    if error.by_crop:
        return Problem(field="resize_mode", message=error.message, received=request.resize_mode)
    for side in ("width", "height"):
        if (pixels := getattr(request, side)) is not None:
            return Problem(field=side, message=error.message, received=pixels)
    return Problem(field="mask", message=error.message, received=error.received)
