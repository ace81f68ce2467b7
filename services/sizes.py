"""The size of a generation if the caller leaves it to the picture."""

import math
from dataclasses import dataclass

from services.picture_formats import PictureError


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sides:
    """The bounds of a side, in pixels; both are multiples of the step."""

    step: int
    smallest: int
    largest: int

    def nearest(self, length: float) -> int:
        return self._bounded(math.floor(length / self.step + 0.5) * self.step)

    def below(self, length: float) -> int:
        # The grain keeps 1535.9999999 at 1536.
        return self._bounded(math.floor(length / self.step + 1e-9) * self.step)

    def _bounded(self, length: int) -> int:
        return min(max(length, self.smallest), self.largest)


def derive_size(
    width: int,
    height: int,
    *,
    want_width: int | None,
    want_height: int | None,
    max_pixels: int,
    step: int = 8,
    smallest: int = 64,
    largest: int = 2048,
) -> tuple[int, int]:
    """The size to generate from a picture of width x height pixels (upright).

    Two wanted sides are taken as they are. One wanted side is taken as it is, and the other follows the picture's
    shape. With none the picture's size is scaled only as far as the bounds ask. A derived side is the nearest multiple
    of `step` within `smallest` ... `largest`, and with a derived side the product is at most `max_pixels`. If the
    picture's proportions cannot be kept within all of that, they give way.

    :raises PictureError: the wanted side leaves less than `smallest` for the other.
    :raises ValueError: no size at all satisfies the bounds.
    """
    if want_width is not None and want_height is not None:
        return want_width, want_height
    sides = _Sides(step=step, smallest=-(-smallest // step) * step, largest=largest // step * step)
    if sides.smallest > sides.largest or sides.smallest**2 > max_pixels:
        raise ValueError(f"no size fits step {step}, {smallest}...{largest} a side and {max_pixels} pixels")
    if want_width is not None:
        return want_width, _other_side("width", want_width, want_width * height / width, max_pixels, sides)
    if want_height is not None:
        return _other_side("height", want_height, want_height * width / height, max_pixels, sides), want_height
    return _scaled(width, height, max_pixels, sides)


def _other_side(name: str, wanted: int, ideal: float, max_pixels: int, sides: _Sides) -> int:
    room = max_pixels // wanted // sides.step * sides.step
    if room < sides.smallest:
        message = f"leaves less than {sides.smallest} pixels for the other side within {max_pixels} pixels"
        raise PictureError(message, received=f"{name} {wanted}")
    return min(sides.nearest(ideal), room)


def _scaled(width: int, height: int, max_pixels: int, sides: _Sides) -> tuple[int, int]:
    up = sides.smallest / min(width, height)
    down = min(sides.largest / max(width, height), math.sqrt(max_pixels / (width * height)))
    scale = min(max(1.0, up), down)
    size = sides.nearest(width * scale), sides.nearest(height * scale)
    if size[0] * size[1] > max_pixels:
        size = sides.below(width * scale), sides.below(height * scale)
    if size[0] * size[1] <= max_pixels:
        return size
    short = min(size)  # a very long picture: its short side is already at its smallest
    long = max_pixels // short // sides.step * sides.step
    return (long, short) if size[0] > size[1] else (short, long)
