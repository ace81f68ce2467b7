"""Masks of an inpainting: 8-bit grey, white is repainted, black is kept, whatever the caller's convention was."""

from dataclasses import dataclass, field
from typing import Literal

from PIL import Image, ImageOps

from services.picture_decoding import decode_upright, see_whole, upright_size
from services.picture_files import read_file
from services.picture_formats import PictureError, describe
from services.pictures import ResizeMode, flatten, resample
from services.png_encoding import encode_png
from spool import FileData

MaskMode = Literal["white", "black", "alpha"]

_WHAT_IS_REPAINTED = {"white": "white", "black": "black", "alpha": "transparent"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask:
    """A mask that has been decoded once without a fault. Width and height are upright, in pixels."""

    width: int
    height: int
    mode: MaskMode
    data: FileData = field(repr=False)


def read_mask(data: bytes, *, mode: MaskMode, max_pixels: int) -> Mask:
    """Checks a mask as `read_picture` checks a picture. Its colours are its meaning: no profile changes them.

    What is transparent is kept in the modes "white" and "black", so that a drawing on a transparent canvas works in
    either colour; in mode "alpha" the colours do not matter and what is transparent is repainted.

    :raises PictureError: as `read_picture`; in mode "alpha" also a mask without transparency information.
    """
    file = read_file(data)
    size, image = see_whole(data, file, max_pixels=max_pixels)
    if mode == "alpha" and (image is None or not image.has_transparency_data):
        message = 'has no alpha channel, which mask_mode "alpha" needs; send one, or use mask_mode "white" or "black"'
        raise PictureError(message, received=describe(data))
    width, height = upright_size(size, file)
    return Mask(width=width, height=height, mode=mode, data=data)


def fit_mask(mask: Mask, width: int, height: int, resize_mode: ResizeMode) -> bytes:
    """The PNG to send to a WebUI: exactly width x height, mode L, 0 or 255 only (half grey, 128, is repainted).

    :raises PictureError: nothing would be repainted.
    """
    data = mask.data[:]
    grey = resample(_to_repaint(decode_upright(data), mask.mode), width, height, resize_mode)
    binary = grey.point(lambda value: 255 if value >= 128 else 0)
    if binary.getbbox() is None:
        colour = _WHAT_IS_REPAINTED[mask.mode]
        message = f'the mask is empty: with mask_mode "{mask.mode}" its {colour} part is repainted, and there is none'
        raise PictureError(message, received=describe(data))
    return encode_png(binary)


def _to_repaint(image: Image.Image, mode: MaskMode) -> Image.Image:
    match mode:
        case "white":
            # Grey is grey; by way of RGB it would be the same.
            plain = image.mode == "L" and not image.has_transparency_data
            return image if plain else flatten(image, "black").convert("L")
        case "black":
            return ImageOps.invert(flatten(image, "white").convert("L"))
        case "alpha":
            return ImageOps.invert(image.convert("RGBA").getchannel("A"))
