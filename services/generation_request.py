"""What a caller asked for, as the service's own value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sd_client.models import UnchangedFields
from services.masks import Mask
from services.pictures import Picture, ResizeMode

Mode = Literal["txt2img", "img2img", "inpainting", "upscale"]
Area = Literal["whole", "masked"]
Fill = Literal["original", "fill", "noise", "nothing"]
AskedMethod = Literal["auto", "adapter", "attention"]


#: The field of a prompt's tags.
PROMPT = "prompt"
_MOST_SHOWN_CHARS = 60


@dataclass(frozen=True, kw_only=True)
class AskedLora:
    """
    :param name: as the caller wrote it.
    :param field: where: ``loras[0].name``, or ``prompt`` for a tag.
    """

    name: str
    weight: float
    field: str

    @property
    def is_tag(self) -> bool:
        return self.field == PROMPT

    @property
    def root(self) -> str:
        """The field of the whole list, or that of the tag."""
        return self.field.partition("[")[0]

    @property
    def shown(self) -> str:
        """The name as an answer may show it."""
        return self.name if len(self.name) <= _MOST_SHOWN_CHARS else self.name[:_MOST_SHOWN_CHARS] + "…"


@dataclass(frozen=True, kw_only=True)
class AskedHires:
    """
    A second pass over the enlarged picture. Either ``scale``, or ``width`` and ``height`` in pixels, is not None.

    :param steps: 0: as many as the first pass.
    """

    scale: float | None
    width: int | None
    height: int | None
    upscaler: str
    steps: int
    strength: float

    def size(self, width: int, height: int, *, step: int) -> tuple[int, int]:
        """
        Of the final picture, in pixels; by a factor it is rounded down.

        :param width: and ``height``: of the first pass.
        :param step: what sides are multiples of.
        """
        if self.width is not None and self.height is not None:
            return self.width, self.height
        scale = self.scale or 1.0
        return int(width * scale) // step * step, int(height * scale) // step * step


@dataclass(frozen=True, kw_only=True)
class GenerationRequest(UnchangedFields):
    """
    Each field has been checked on its own; None leaves it to the service.

    :param mode: which of the three routes that paint.
    :param image: None for txt2img only; :param mask: None except for inpainting.
    :param loras: those of the field, then those of the prompt's tags, which is without them.
    :param reference: what the result is to resemble.
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
    loras: tuple[AskedLora, ...] = ()
    clip_skip: int | None = None
    hires: AskedHires | None = None
    reference: Picture | None = None
    reference_weight: float = 0.8
    reference_method: AskedMethod = "auto"


@dataclass(frozen=True, kw_only=True)
class UpscaleRequest:
    """
    A picture to be enlarged. Each field has been checked on its own, and so has the final size.

    :param width: and ``height``: of the final picture, pixels.
    :param upscaler: None: the service's default.
    """

    image: Picture
    width: int
    height: int
    upscaler: str | None = None
    mode: Literal["upscale"] = "upscale"
