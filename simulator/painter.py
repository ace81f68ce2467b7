"""Pictures without a model: a landscape that follows from the request and from nothing else."""

import hashlib
from dataclasses import dataclass
from functools import cache
from random import Random

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from simulator.landscape import Look, draw_ground, draw_sky, look_of
from simulator.noise import coarse_noise, grain

STAMP = "simulated"
STAMP_MARGIN = 4


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything a picture depends on; the same scene is painted as the same pixels. Sizes in pixels."""

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    cfg_scale: float
    sampler: str
    model: str
    width: int
    height: int

    def random(self) -> Random:
        """A source of randomness that belongs to this scene, without its size."""
        words = (self.prompt, self.negative_prompt, self.seed, self.steps, self.cfg_scale, self.sampler, self.model)
        return _random(*words)

    def look(self) -> Look:
        """The palette and the motif: a matter of the prompt and the model, not of the seed."""
        return look_of(self.prompt, _random(self.prompt, self.model))


def _random(*parts: object) -> Random:
    return Random(hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest())


def paint(scene: Scene, *, done: float = 1.0, stamped: bool = True) -> Image.Image:
    """Paint it.

    :param done: 0 to 1, how much of the sampling has been done; below 1 noise is left in it.
    :param stamped: whether to write into a corner that this was not made by a model.
    """
    random = scene.random()
    look = scene.look()
    size = (scene.width, scene.height)
    picture = draw_sky(size, look, random)
    draw_ground(picture, look, random)
    picture = picture.filter(ImageFilter.SMOOTH)
    picture = grain(picture, random)
    if done < 1:
        picture = Image.blend(coarse_noise(size, random), picture, max(0.0, done))
    if stamped:
        stamp(picture, (0, 0, *size))
    return picture


@cache
def _stamp_mask() -> Image.Image:
    font = ImageFont.load_default()
    left, top, right, bottom = font.getbbox(STAMP)
    mask = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), STAMP, font=font, fill=200)
    return mask


def stamp(picture: Image.Image, box: tuple[int, int, int, int], *, within: Image.Image | None = None) -> None:
    """Write "simulated" into the lower right corner of `box`.

    :param within: a mask; the word is left out unless every pixel under it is 255.
    """
    mask = _stamp_mask()
    left = box[2] - mask.width - STAMP_MARGIN
    top = box[3] - mask.height - STAMP_MARGIN
    if left < box[0] or top < box[1]:
        return
    place = (left, top, left + mask.width, top + mask.height)
    if within is not None and within.crop(place).getextrema()[0] != 255:
        return
    dark = sum(picture.resize((1, 1), box=place).convert("RGB").getpixel((0, 0))) < 384  # type: ignore[arg-type]
    picture.paste((255, 255, 255) if dark else (0, 0, 0), place, mask)
