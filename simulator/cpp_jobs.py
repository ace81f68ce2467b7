"""Jobs of servers built on stable-diffusion.cpp: what they paint, and what their info says. Needs Pillow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pybase64
from PIL import Image, ImageOps, UnidentifiedImageError

from simulator.infotext import VERSION
from simulator.painter import Scene, paint, stamp
from simulator.pictures import encode, flatten, open_picture

KEPT_SHARE = 0.12  # How much is painted even where the mask says to keep.
NO_SAMPLER = "NONE"


@dataclass(frozen=True, kw_only=True)
class CppHires:
    """A second pass. Sizes in pixels; `target` is 0, 0 where a factor was asked for, `size` as it comes out."""

    upscaler: str
    scale: float
    target: tuple[int, int]
    size: tuple[int, int]
    steps: int
    strength: float

    def text(self) -> str:
        """What stands of it in a picture."""
        return (
            f"Hires upscale: {self.upscaler}, Hires scale: {self.scale:.6f}, "
            f"Hires resize: {self.target[0]}x{self.target[1]}, Hires steps: {self.steps}, "
            f"Denoising strength: {self.strength:.6f}, "
        )

    def account(self) -> dict[str, Any]:
        """The same in JSON."""
        return {
            "custom_sigmas": [],
            "denoising_strength": self.strength,
            "enabled": True,
            "model": "",
            "scale": self.scale,
            "steps": self.steps,
            "target_height": self.target[1],
            "target_width": self.target[0],
            "upscale_tile_size": 128,
            "upscaler": self.upscaler,
        }


@dataclass(frozen=True, kw_only=True)
class CppJob:
    """A request after it was read. Sizes in pixels as asked for."""

    model: str
    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    cfg_scale: float
    sampler: str
    default_sampler: str
    scheduler: str
    width: int
    height: int
    size_step: int
    batch_size: int = 1
    clip_skip: int = -1
    """0 or less for the model's own."""
    strength: float | None = None
    """0 to 1; None for txt2img."""
    init: Image.Image | None = None
    mask: Image.Image | None = None
    source_key: str = ""
    hires: CppHires | None = None
    loras: tuple[tuple[str, float], ...] = ()
    """Paths and weights."""
    foreign: frozenset[str] = frozenset()
    """Paths of those that have no effect."""

    @property
    def size(self) -> tuple[int, int]:
        """As it comes out: up to the next multiple of the step."""
        step = self.size_step
        return (-(-self.width // step) * step, -(-self.height // step) * step)

    @property
    def key(self) -> tuple[object, ...]:
        """Stands for everything that a picture depends on, but for its place in the batch."""
        return (self.scene(0), self.strength, self.source_key, self.sampler, self.loras)

    def scene(self, index: int) -> Scene:
        """What image number `index` shows."""
        sampler = self.default_sampler if self.sampler == NO_SAMPLER else self.sampler
        effects: list[object] = [one for one in self.loras if one[1] and one[0] not in self.foreign]
        effects += [self.hires] if self.hires else []
        width, height = self.hires.size if self.hires else self.size
        return Scene(
            prompt=f"{self.prompt} {effects}" if effects else self.prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed + index,
            steps=self.steps,
            cfg_scale=self.cfg_scale,
            sampler=f"{sampler} {self.scheduler}",
            model=f"{self.model} {max(1, self.clip_skip)}",
            width=width,
            height=height,
        )

    def paint(self, index: int) -> Image.Image:
        """Image number `index`; a mask keeps what is black only nearly."""
        if self.init is None:
            return paint(self.scene(index))
        start = self.init.resize(self.size, Image.Resampling.LANCZOS)
        picture = Image.blend(start, paint(self.scene(index), stamped=False), self.strength or 0.0)
        if self.mask is not None:
            faint = Image.blend(start, picture, KEPT_SHARE)
            picture = Image.composite(picture, faint, self.mask.resize(self.size))
        stamp(picture, (0, 0, *self.size))
        return picture

    def encoded(self, index: int) -> bytes:
        """Image number `index` as a PNG in base64, with its text."""
        return encode(self.paint(index), "png", self.text(index))

    def text(self, index: int) -> str:
        """What stands in the PNG of image number `index`."""
        values = (
            f"Steps: {self.steps}, CFG scale: {self.cfg_scale:.6f}, Guidance: 3.500000, Eta: inf, "
            f"Seed: {self.seed + index}, Size: {self.width}x{self.height}, Model: {self.model}, RNG: cuda, "
            f"Sampler: {f'{self.sampler} {self.scheduler}'.strip()}, {self._clip_skip_text()}"
            f"{self.hires.text() if self.hires else ''}Version: {VERSION}, "
            f"SDCPP: {json.dumps(self.account(index), ensure_ascii=False, separators=(',', ':'), sort_keys=True)}"
        )
        negative = f"\nNegative prompt: {self.negative_prompt}" if self.negative_prompt else ""
        return f"{self.prompt}{negative}\n{values}"

    def _clip_skip_text(self) -> str:
        return f"Clip skip: {self.clip_skip}, " if self.clip_skip > 0 else ""

    def account(self, index: int) -> dict[str, Any]:
        """What it says of image number `index` in JSON, but for what nobody asks for."""
        account: dict[str, Any] = {
            "clip_skip": self.clip_skip,
            "height": self.height,
            "mode": "img_gen",
            "models": {"model": self.model},
            "prompt": {"negative": self.negative_prompt, "positive": self.prompt},
            "schema": "sdcpp.image.params/v1",
            "seed": self.seed + index,
            "width": self.width,
        }
        if self.hires:
            account["hires"] = self.hires.account()
        if self.loras:
            account["loras"] = [
                {"is_high_noise": False, "multiplier": weight, "name": path} for path, weight in self.loras
            ]
        return account

    def info(self) -> dict[str, Any]:
        """The answer's `info`."""
        count = range(self.batch_size)
        info: dict[str, Any] = {
            "all_negative_prompts": [self.negative_prompt for _ in count],
            "all_prompts": [self.prompt for _ in count],
            "all_seeds": [self.seed + index for index in count],
            "cfg_scale": self.cfg_scale,
            "height": self.height,
            "infotexts": [self.text(index) for index in count],
            "prompt": self.prompt,
            "sampler_name": self.sampler,
            "sd_model_name": self.model,
            "seed": self.seed,
            "steps": self.steps,
            "version": "stable-diffusion.cpp",
            "width": self.width,
        }
        optional = {
            "negative_prompt": self.negative_prompt or None,
            "clip_skip": self.clip_skip if self.clip_skip > 0 else None,
            "denoising_strength": self.strength,
            "extra_generation_params": {"Schedule type": self.scheduler} if self.scheduler else None,
        }
        return info | {name: value for name, value in optional.items() if value is not None}


def source_key(*parts: object) -> str:
    """Stands for the pictures that a job starts from."""
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()


def picture_of(text: object) -> Image.Image | None:
    """What img2img starts from; None where it cannot be decoded, which is ignored in silence."""
    return _decoded(text, flatten)


def mask_of(text: object, *, inverted: bool) -> Image.Image | None:
    """A mask in grey; None where it cannot be decoded, which is ignored in silence."""
    mask = _decoded(text, lambda picture: flatten(picture).convert("L"))
    return ImageOps.invert(mask) if mask and inverted else mask


def _decoded(text: object, change: Callable[[Image.Image], Image.Image]) -> Image.Image | None:
    if not isinstance(text, str):
        return None
    try:
        return change(open_picture(pybase64.b64decode(text.rpartition(",")[2])))
    except (ValueError, OSError, UnidentifiedImageError):
        return None
