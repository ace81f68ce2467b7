"""Masks for inpainting: 8-bit grey, white is repainted and black is kept, whatever the caller's convention was."""

from dataclasses import dataclass, field
from typing import Literal

from PIL import Image, ImageOps

from sd_client.kept_pixels import KeptPixels
from services.colours import in_channels
from services.mask_meaning import HALF, unclear
from services.picture_decoding import decode_upright, see_whole
from services.picture_files import read_file
from services.picture_formats import PictureError, describe
from services.pictures import ResizeMode, flatten, resample

MaskMode = Literal["white", "black", "alpha"]

#: Some programs write labels as grey values: a few dozen at most.
_LABELS = 64
_SAYS_WHAT = 'say with mask_mode what is repainted ("white", "black" or "alpha")'


class MaskLostError(PictureError):
    """Nothing is left of the mask in the size of the generation. ``by_crop``: what it would repaint was cut off."""

    def __init__(self, message: str, *, received: str, by_crop: bool) -> None:
        super().__init__(message, received=received)
        self.by_crop = by_crop


@dataclass(kw_only=True, slots=True)
class Mask:
    """A mask that has been decoded once without a fault. Width and height are upright, in pixels.

    `mode` None: the caller did not say; the white is repainted, if that is clearly meant.
    `pixels`: decoded and upright.
    """

    width: int
    height: int
    mode: MaskMode | None
    data: bytes = field(repr=False)
    pixels: KeptPixels | None = field(default=None, repr=False, compare=False)

    def keep_only(self, fitted: bytes, width: int, height: int) -> None:
        """From now on it is the file of what :func:`fit_mask` made of it, as its picture is."""
        self.data, self.width, self.height, self.mode, self.pixels = fitted, width, height, "white", None


def read_mask(data: bytes, *, mode: MaskMode | None, max_pixels: int) -> Mask:
    """Checks a mask as `read_picture` checks a picture. Its colours are its meaning: no profile changes them.

    Transparent parts are kept in the modes "white" and "black", so that a drawing on a transparent canvas works in
    either colour; in mode "alpha" the colours do not matter and transparent parts are repainted.

    :raises PictureError: as `read_picture`; in mode "alpha" also a mask without transparency information.
    """
    file = read_file(data)
    seen = see_whole(data, file, max_pixels=max_pixels, always_decode=True)
    assert seen.image is not None
    if mode == "alpha" and not seen.image.has_transparency_data:
        message = 'has no alpha channel, which mask_mode "alpha" needs; send one, or use mask_mode "white" or "black"'
        raise PictureError(message, received=describe(data))
    return Mask(width=seen.width, height=seen.height, mode=mode, data=data, pixels=KeptPixels(seen.image))


def fit_mask(mask: Mask, width: int, height: int, resize_mode: ResizeMode) -> Image.Image:
    """The mask for a WebUI: exactly width x height, mode L, 0 or 255 only (half grey, 128, is repainted).

    :raises PictureError: nothing would be repainted, or it is not clear what.
    :raises MaskLostError: something would have been, at the mask's own size.
    """
    data = mask.data
    image = (mask.pixels.take() if mask.pixels else None) or decode_upright(data)
    repainted = _to_repaint(image, mask.mode or "white")
    if mask.mode is None and (reason := unclear(image, repainted)):
        raise PictureError(f"{reason}; {_SAYS_WHAT}", received=describe(data))
    binary = _binary(resample(repainted, width, height, resize_mode))
    if binary.getbbox() is None:
        raise _nothing_left(mask, image, repainted, (width, height), resize_mode)
    return binary


def _binary(grey: Image.Image) -> Image.Image:
    return grey.point([255 * (value >= HALF) for value in range(256)])


def _nothing_left(
    mask: Mask, image: Image.Image, repainted: Image.Image, size: tuple[int, int], resize_mode: ResizeMode
) -> PictureError:
    received = describe(mask.data)
    binary = _binary(repainted)
    if binary.getbbox() is None:
        return PictureError(f"the mask is empty: {_found(mask.mode or 'white', image, repainted)}", received=received)
    colour = {"white": "white", "black": "black", "alpha": "transparent"}[mask.mode or "white"]
    largest = _fitting(binary.size, size)
    if resize_mode == "crop" and ImageOps.fit(binary, largest, Image.Resampling.NEAREST).getbbox() is None:
        message = f'cuts off everything that is {colour} in the mask; use "stretch" or "fill", or a size of its shape'
        return MaskLostError(message, received=received, by_crop=True)
    message = f"at {size[0]}x{size[1]} nothing is left of the small {colour} part of the mask; draw it larger"
    return MaskLostError(message, received=received, by_crop=False)


def _found(mode: MaskMode, image: Image.Image, repainted: Image.Image) -> str:
    """Says what is repainted in this mode, and what the mask has instead."""
    _, most = (int(level) for level in repainted.getextrema())  # type: ignore[arg-type]
    channels = in_channels(image)
    alpha = channels.getchannel("A") if channels.mode in ("LA", "RGBA") else None
    least = 255 - most
    if mode == "alpha":
        return f'with mask_mode "alpha" what is transparent is repainted, and its lowest alpha is {least} of 255'
    if alpha is not None and alpha.getbbox() is None:
        return f'with mask_mode "{mode}" what is transparent is kept, and it is transparent everywhere'
    if mode == "black":
        return f'with mask_mode "black" what is darker than half is repainted, and its darkest value is {least} of 255'
    advice = ""
    if most < _LABELS:
        advice = "; in a mask of 0 and 1, or of labels, what is to be repainted must be 255"
    elif alpha is not None and any(alpha.histogram()[1:255]):
        advice = "; draw what is to be repainted with opaque white"
    found = f"its lightest value is {most} of 255{advice}"
    return f'with mask_mode "white" what is lighter than half is repainted, and {found}'


def _fitting(picture: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """The largest size of a shape within a picture, pixels."""
    scale = min(picture[0] / shape[0], picture[1] / shape[1])
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _to_repaint(image: Image.Image, mode: MaskMode) -> Image.Image:
    match mode:
        case "white":
            # The conversion by way of RGB would give the same.
            plain = image.mode == "L" and not image.has_transparency_data
            return image if plain else flatten(image, "black").convert("L")
        case "black":
            return ImageOps.invert(flatten(image, "white").convert("L"))
        case "alpha":
            return ImageOps.invert(image.convert("RGBA").getchannel("A"))
