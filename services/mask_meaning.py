"""Whether a mask alone says what is repainted, or might as well be a photo.

A mask is two levels and what lies between them: a line of pixels where an edge is smoothed, the noise of a JPEG, a soft
brush's fading. A photo has greys for their own sake. The limits were tried on 1200 made masks and 910 cuts
of photos: docs/decisions/0005-masks.md.
"""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageChops, ImageFilter

from services.colours import in_channels

#: From here on grey is white; below it is black.
HALF: Final = 128

#: Levels of 255: a grey as near to a level as this belongs to it, because JPEG and smoothing move it.
_NEAR: Final = 16
#: Two levels of a mask differ by at least this.
_APART: Final = 100
#: Share of the pixels that may be anything else in a mask of two levels.
_FLAT: Final = 0.05
#: Share of the pixels that are black or white where a mask is soft.
_PURE: Final = 0.5
#: Share of the pixels that may have structure there, and that may have a colour.
_STRUCTURED: Final = 0.08
_COLOURED: Final = 0.05
#: Pixels a side: enough to see structure, in a few milliseconds.
_LOOKED_AT: Final = 128


def unclear(image: Image.Image, grey: Image.Image) -> str | None:
    """
    Why it is not clear which part of a mask is repainted, if its caller did not say; None if it is clear.

    :param image: the mask as it was sent; :param grey: the same in mode L over black, where the white is repainted.
    """
    if _has_hole(image):
        return "has a transparent part in an opaque picture, like a mask whose transparent part is repainted"
    counts = grey.histogram()
    if any(counts[HALF:]) and not _is_flat(counts) and not _is_soft(image, grey, counts):
        return "has many greys, like a photo"
    return None


def _has_hole(image: Image.Image) -> bool:
    """Not true of a drawing on a transparent canvas, whose frame is mostly transparent."""
    image = in_channels(image)
    if image.mode not in ("LA", "RGBA"):
        return False
    opaque = image.getchannel("A").point(lambda value: 255 if value >= HALF else 0)
    width, height = opaque.size
    sides = ((0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height))
    frame = b"".join(opaque.crop(side).tobytes() for side in sides)
    return opaque.getextrema()[0] == 0 and 2 * frame.count(255) > len(frame)


def _levels(counts: list[int]) -> tuple[int, int]:
    """The commonest below half and the commonest above, by how many pixels have each level."""
    around = [sum(counts[max(0, level - 4) : level + 5]) for level in range(256)]
    return max(range(HALF), key=around.__getitem__), max(range(HALF, 256), key=around.__getitem__)


def _is_flat(counts: list[int]) -> bool:
    dark, light = _levels(counts)
    elsewhere = sum(n for level, n in enumerate(counts) if min(abs(level - dark), abs(level - light)) > _NEAR)
    one_sided = sum(counts[:HALF]) == 0
    return elsewhere <= _FLAT * sum(counts) and (one_sided or light - dark >= _APART)


def _is_soft(image: Image.Image, grey: Image.Image, counts: list[int]) -> bool:
    if sum(counts[: _NEAR + 1]) + sum(counts[255 - _NEAR :]) < _PURE * sum(counts):
        return False
    return _structured(grey, counts) <= _STRUCTURED and _coloured(image) <= _COLOURED


def _structured(grey: Image.Image, counts: list[int]) -> float:
    """The share of pixels that are at neither level, not at an edge between them, and not on a steady slope."""
    dark, light = _levels(counts)
    small = _small(grey)
    is_dark = small.point([255 * (abs(level - dark) <= _NEAR) for level in range(256)])
    is_light = small.point([255 * (abs(level - light) <= _NEAR) for level in range(256)])
    edge = ImageChops.multiply(_grown(is_dark), _grown(is_light))
    elsewhere = ImageChops.invert(ImageChops.lighter(ImageChops.lighter(is_dark, is_light), edge))
    rough = ImageChops.difference(small, small.filter(ImageFilter.MedianFilter(3)))
    return _share(ImageChops.multiply(elsewhere, rough.point([255 * (level >= 3) for level in range(256)])))


def _coloured(image: Image.Image) -> float:
    bands = _small(image.convert("RGB")).split()
    lightest = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    darkest = ImageChops.darker(ImageChops.darker(bands[0], bands[1]), bands[2])
    spread = ImageChops.subtract(lightest, darkest)
    return _share(spread.point([255 * (level > 32) for level in range(256)]))


def _small(image: Image.Image) -> Image.Image:
    scale = _LOOKED_AT / max(image.size)
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX)


def _grown(binary: Image.Image) -> Image.Image:
    return binary.filter(ImageFilter.BoxBlur(2)).point([255 * (level > 0) for level in range(256)])


def _share(binary: Image.Image) -> float:
    return binary.histogram()[255] / (binary.width * binary.height)
