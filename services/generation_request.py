"""What a caller asked for, as the service's own value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sd_client.models import UnchangedFields
from services.masks import Mask
from services.pictures import Picture, ResizeMode

Mode = Literal["txt2img", "img2img", "inpainting"]
Area = Literal["whole", "masked"]
Fill = Literal["original", "fill", "noise", "nothing"]


@dataclass(frozen=True, kw_only=True)
class GenerationRequest(UnchangedFields):
    """
    Each field has been checked on its own; None leaves it to the service.

    :param mode: which of the three routes.
    :param image: None for txt2img only; :param mask: None except for inpainting.
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
