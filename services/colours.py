"""Converts colours from a picture's profile to sRGB, which WebUIs and their models assume for every picture.

Relative colorimetric with black point compensation: what sRGB can show comes out as exactly that colour, white stays
white and the deepest black becomes black, as a photo looks on an ordinary screen. (Perceptual is left to each
profile's maker, and moves colours that would have fitted; for profiles without tables, a phone's among them, both are
the same.) Colours more vivid than sRGB are brought to its edge.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable
from typing import Final

from PIL import Image, ImageCms

Conversion = Callable[[Image.Image], Image.Image]

#: By the colour space in a profile's header, the mode of the pictures that it may describe.
_MODES: Final = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
#: Profiles of scanners, screens, printers and colour spaces. Others (links between devices, effects, named colours) do
#: not say what colour a sample is.
_CLASSES: Final = (b"scnr", b"mntr", b"prtr", b"spac")
#: For greys: the table that lcms would prepare has too few steps in the dark, up to 10 levels off.
_EXACT_GREYS: Final = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE
_GREY_MODES: Final = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I")
#: Tags in a profile; lcms opens none that has more.
_MOST_TAGS: Final = 100
#: Levels of 255 by which profiles of sRGB differ from each other; a picture is not encoded again for that.
_SAME: Final = 2


def to_srgb(stored_mode: str, profile: bytes | None) -> Conversion | None:
    """
    How a picture, as :func:`in_channels` gives it, becomes sRGB: RGB or RGBA.

    :param stored_mode: of the picture as it was decoded, by which a profile that is not meant for it is known.
    :returns: None if there is nothing to do: no profile, one of sRGB, or one that is damaged or for another kind of
        picture, which counts as none, as in viewers.
    """
    if profile is None:
        return None
    mode = _described_mode(profile)
    if mode is None or not _may_describe(mode, stored_mode):
        return None
    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(_without_floating_tables(profile)))
        transform = ImageCms.buildTransform(
            opened,
            _srgb(),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=_EXACT_GREYS if mode == "L" else ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if _changes_nothing(transform, mode):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return functools.partial(_converted, transform=transform, mode=mode)


def in_channels(image: Image.Image) -> Image.Image:
    """The same colours as L, LA, RGB, RGBA or CMYK: no palette, no transparent colour, 8 bits."""
    if image.mode.startswith("I;16"):  # convert() would cut everything above 255 to white
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    grey = image.mode in _GREY_MODES
    if image.has_transparency_data:
        mode = "LA" if grey else "RGBA"
    else:
        mode = "L" if grey else image.mode if image.mode == "CMYK" else "RGB"
    return image if image.mode == mode and "transparency" not in image.info else image.convert(mode)


def _converted(image: Image.Image, *, transform: ImageCms.ImageCmsTransform, mode: str) -> Image.Image:
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    opaque = image if image.mode == mode else image.convert(mode)
    result = transform.apply(opaque)
    result.info.pop("icc_profile", None)  # of sRGB, and with the time in it: the same picture would get other bytes
    if alpha is not None:
        result.putalpha(alpha)
    return result


def _described_mode(profile: bytes) -> str | None:
    if profile[36:40] != b"acsp" or profile[12:16] not in _CLASSES:
        return None
    return _MODES.get(profile[16:20])


def _may_describe(mode: str, stored_mode: str) -> bool:
    """A profile of RGB is found in grey pictures, too, and says there how light each grey is."""
    if mode == "L":
        return stored_mode in _GREY_MODES
    return (stored_mode == "CMYK") == (mode == "CMYK")


def _without_floating_tables(profile: bytes) -> bytes:
    """The tags D2B0 to D2B3 renamed, so that lcms ignores them: their cost has no bound.

    Every profile that has them has ordinary tables or curves as well (ICC.1:2010, section 8).
    """
    (count,) = struct.unpack_from(">I", profile.ljust(132, b"\0"), 128)
    table = bytearray(profile)
    for start in range(132, min(132 + 12 * min(count, _MOST_TAGS), len(profile) - 11), 12):
        if profile[start : start + 3] == b"D2B":
            table[start : start + 4] = b"none"
    return bytes(table)


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Judged by samples of all colours and all greys."""
    if mode == "CMYK":
        return False
    before = _samples().convert(mode)
    after = transform.apply(before)
    pairs = zip(before.convert("RGB").tobytes(), after.tobytes(), strict=True)
    return all(abs(one - other) <= _SAME for one, other in pairs)


@functools.cache
def _samples() -> Image.Image:
    steps = range(0, 256, 51)
    colours = [(red, green, blue) for red in steps for green in steps for blue in steps]
    colours += [(level, level, level) for level in range(256)]
    return Image.frombytes("RGB", (len(colours), 1), bytes(sample for colour in colours for sample in colour))
