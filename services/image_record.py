"""The record stored beside an image: how it was made, enough to make it again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sd_client.models import GenerationParams, Inpainting


@dataclass(frozen=True, kw_only=True)
class Origin:
    """
    What the images of one request have in common.

    :param mode: which of the three routes.
    :param model: its public name.
    :param taken_s: from the accepted request to the checked images.
    """

    mode: str
    model: str
    request_id: str
    taken_s: float
    params: GenerationParams


def image_record(origin: Origin, *, image_id: UUID, seed: int, number: int) -> dict[str, Any]:
    """:param number: the image's place in its batch, from 0 on."""
    params = origin.params
    record: dict[str, Any] = {
        "image_id": str(image_id),
        "request_id": origin.request_id,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "processing_time_s": round(origin.taken_s, 3),
        "mode": origin.mode,
        "model": origin.model,
        "checkpoint": params.checkpoint.title,
        "checkpoint_hash": params.checkpoint.hash,
        "prompt": params.prompt,
        "negative_prompt": params.negative_prompt,
        "steps": params.steps,
        "cfg_scale": params.cfg_scale,
        "sampler": params.sampler,
        "scheduler": params.scheduler,
        "width": params.width,
        "height": params.height,
        "seed": seed,
        "batch_size": params.batch_size,
        "batch_index": number,
    }
    if params.init_image is not None:
        record["strength"] = params.strength
    return record | _of_mask(params.inpainting)


def _of_mask(inpainting: Inpainting | None) -> dict[str, Any]:
    if inpainting is None:
        return {}
    return {
        "mask_blur": inpainting.mask_blur,
        "inpaint_area": inpainting.area,
        "inpaint_padding": inpainting.padding,
        "inpaint_fill": inpainting.fill,
    }
