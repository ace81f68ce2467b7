"""What a mask keeps, laid over the image that a WebUI painted."""

from typing import Final

from PIL import Image, ImageChops, ImageFilter

from sd_client.models import Box, Inpainting
from services.picture_decoding import decode_upright
from services.pictures import flatten
from services.png import HEADER_BYTES, encode_png, read_chunks
from services.results import ResultError, decode_result, png_size

_TEXT_CHUNKS: Final = (b"tEXt", b"zTXt", b"iTXt")
#: A box blur rounds to 0 what is less than half of 1/255: one white pixel must stay visible in 2 x 200 + 1.
_WIDEST_BOX: Final = 200


def keep_unmasked(result: bytes, original: bytes, inpainting: Inpainting, *, box: Box | None = None) -> bytes:
    """
    The result of an inpainting, with the original wherever the mask and its blur do not reach.

    A result that already is the original there comes back as the very same file. Otherwise the original is laid over
    it through the blurred mask, the way A1111 does: the mask is repainted in full, and outside it the result fades
    into the original. The result's text chunks are kept byte for byte.

    :param result: PNG.
    :param original: the picture that was sent. :param inpainting: what was asked of it.
    :param box: the part of the original that the result shows, enlarged; None: all of it.
    :raises ResultError: the result is not a PNG, is damaged, or has another size than the original.
    """
    blur, pixels, mask_pixels = inpainting.mask_blur, inpainting.picture_pixels, inpainting.mask_pixels
    kept = (pixels and pixels.image) or flatten(decode_upright(original), "white")
    repaint = (mask_pixels and mask_pixels.image) or decode_upright(inpainting.mask)
    width, height = png_size(result)
    if not (width, height) == kept.size == repaint.size:
        message = f"must have the picture's size, {kept.width}x{kept.height} pixels"
        raise ResultError(message, received=f"{width}x{height} pixels")
    painted = flatten(decode_result(result), "white")
    if box is not None:
        painted = _in_its_place(painted, kept, box)
    # Outside these bounds nothing is repainted and nothing faded, so there is no need to blur the black there.
    bounds = around(repaint, reach_of(blur) + _blur_reach(blur))
    repaint = repaint.crop(bounds)
    reach = _spread(repaint, reach_of(blur))
    changed = ImageChops.difference(painted, kept)
    changed.paste(0, bounds, reach)
    if changed.getbbox() is None and box is None:
        return result
    faded = repaint.filter(ImageFilter.GaussianBlur(blur)).point(lambda value: min(2 * value, 255))
    whole = kept.copy()
    whole.paste(painted.crop(bounds), bounds, ImageChops.darker(faded, reach))
    return _with_text(encode_png(whole), result)


def reach_of(blur: int) -> int:
    """
    How far a mask's blur reaches beyond its white, in pixels along rows and columns.

    A1111 blurs with a Gaussian kernel of 2 * int(2.5 * blur + 0.5) + 1 pixels a side (processing.py).
    """
    return int(2.5 * blur + 0.5)


def _in_its_place(part: Image.Image, whole: Image.Image, box: Box) -> Image.Image:
    """A copy of the whole with the part in its box."""
    left, top, right, bottom = box
    painted = whole.copy()
    painted.paste(part.resize((right - left, bottom - top), Image.Resampling.LANCZOS), box)
    return painted


def around(mask: Image.Image, margin: int) -> Box:
    """The box around a mask's white (it must have some), larger by the margin within the picture."""
    left, top, right, bottom = mask.getbbox() or (0, 0, *mask.size)
    return (
        max(0, left - margin),
        max(0, top - margin),
        min(mask.width, right + margin),
        min(mask.height, bottom + margin),
    )


def _blur_reach(blur: int) -> int:
    """Pixels that Pillow's Gaussian blur reaches at most: it is three box blurs, each a pixel wider than the blur."""
    return 3 * (blur + 2)


def _spread(mask: Image.Image, reach: int) -> Image.Image:
    """The white of a binary mask, grown by `reach` pixels in rows and columns (diagonals too)."""
    while reach > 0:
        radius = min(reach, _WIDEST_BOX)
        for box in ((radius, 0), (0, radius)):
            mask = mask.filter(ImageFilter.BoxBlur(box)).point(lambda value: 255 if value else 0)
        reach -= radius
    return mask


def _with_text(png: bytes, source: bytes) -> bytes:
    texts = [source[chunk.start : chunk.end] for chunk in read_chunks(source) if chunk.type in _TEXT_CHUNKS]
    return b"".join((png[:HEADER_BYTES], *texts, png[HEADER_BYTES:]))
