"""Images that a WebUI answers: made PNG where they are none, and given back what the mask keeps."""

from typing import Final

from PIL import Image, ImageChops, ImageFilter
from PIL.PngImagePlugin import PngInfo

from sd_client.models import Box
from services import exif
from services.picture_decoding import decode_upright
from services.picture_files import png_chunks, read_file
from services.picture_formats import PNG_SIGNATURE, PictureError, describe, sniff
from services.pictures import flatten
from services.png_encoding import encode_png
from services.png_pixels import DamagedPNGError, is_whole

_TEXT_CHUNKS: Final = (b"tEXt", b"zTXt", b"iTXt")
_IHDR_END = len(PNG_SIGNATURE) + 25
# Upscalers make 8192 x 8192; the compressed form of far more is a few kB.
_MAX_PIXELS = 100_000_000
# A box blur rounds to 0 what is less than half of 1/255: one white pixel must stay visible in 2 x 200 + 1.
_WIDEST_BOX = 200


class AnswerError(PictureError):
    """What a WebUI answered is no usable image. The WebUI's fault, not the caller's; another try may succeed."""


def png_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels, from the header alone.

    :raises AnswerError: not a PNG.
    """
    head = data[:_IHDR_END]
    if sniff(head) != "PNG" or head[12:16] != b"IHDR" or len(head) < _IHDR_END:
        raise AnswerError("is not a PNG", received=describe(data))
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def to_png(data: bytes, *, parameters: str | None) -> bytes:
    """A JPEG or WebP as PNG with a `parameters` text chunk; a PNG is given back as it is, without a look inside.

    :param parameters: the text; None for the one in the EXIF UserComment, where A1111 puts it. Written as tEXt, or as
        iTXt where it goes beyond Latin-1.
    :raises AnswerError: neither PNG, JPEG nor WebP, or damaged.
    """
    kind = sniff(data)
    if kind == "PNG":
        return data
    if kind not in ("JPEG", "WEBP"):
        raise AnswerError("is not a PNG, JPEG or WebP image", received=describe(data))
    image = _decode(data)
    text = parameters if parameters is not None else exif.user_comment(read_file(data).exif)
    info = PngInfo()
    if text is not None:
        info.add_text("parameters", text)
    return encode_png(image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGB"), text=info)


def check_whole(png: bytes) -> None:
    """That all pixels of a PNG can be had, without keeping them: some milliseconds for 1024 x 1024.

    :raises AnswerError: it is damaged.
    """
    try:
        if not is_whole(png):
            _decode(png)
    except DamagedPNGError as exc:
        raise AnswerError(f"cannot be decoded: {exc}", received=f"PNG, {len(png)} bytes") from exc


def keep_unmasked(answer: bytes, original: bytes, mask: bytes, *, blur: int, box: Box | None = None) -> bytes:
    """The answer of an inpainting with the original wherever the mask and its blur do not reach.

    An answer that already is the original there comes back as the very same file. Otherwise the original is laid over
    it through the blurred mask, the way A1111 does: the mask is repainted in full, and outside it the answer fades
    into the original. The answer's text chunks are kept byte for byte.

    :param answer: PNG.
    :param original: what `fit` returned for the picture; :param mask: what `fit_mask` returned for the mask.
    :param blur: mask_blur in pixels. A1111 blurs with a Gaussian kernel of 2 * int(2.5 * blur + 0.5) + 1 pixels a side
        (processing.py), so the blur reaches int(2.5 * blur + 0.5) pixels, measured along rows and columns.
    :param box: the part of the original that the answer shows, enlarged; None: all of it.
    :raises AnswerError: the answer is no PNG, is damaged, or has another size than the original.
    """
    kept, repaint = flatten(decode_upright(original), "white"), decode_upright(mask)
    width, height = png_size(answer)
    if not (width, height) == kept.size == repaint.size:
        message = f"must have the picture's size, {kept.width}x{kept.height} pixels"
        raise AnswerError(message, received=f"{width}x{height} pixels")
    painted = flatten(_decode(answer), "white")
    if box is not None:
        painted = _in_its_place(painted, kept, box)
    # Beyond these nothing is repainted and nothing faded, so that blurring its black would be for nothing.
    bounds = around(repaint, reach_of(blur) + _blur_reach(blur))
    repaint = repaint.crop(bounds)
    reach = _spread(repaint, reach_of(blur))
    changed = ImageChops.difference(painted, kept)
    changed.paste(0, bounds, reach)
    if changed.getbbox() is None and box is None:
        return answer
    faded = repaint.filter(ImageFilter.GaussianBlur(blur)).point(lambda value: min(2 * value, 255))
    kept.paste(painted.crop(bounds), bounds, ImageChops.darker(faded, reach))
    return _with_text(encode_png(kept), answer)


def reach_of(blur: int) -> int:
    """How far a mask's blur reaches beyond its white, in pixels along rows and columns."""
    return int(2.5 * blur + 0.5)


def _in_its_place(part: Image.Image, whole: Image.Image, box: Box) -> Image.Image:
    """A copy of the whole with the part in its box."""
    left, top, right, bottom = box
    painted = whole.copy()
    painted.paste(part.resize((right - left, bottom - top), Image.Resampling.LANCZOS), box)
    return painted


def around(mask: Image.Image, margin: int) -> Box:
    """The box around a mask's white, which has some, larger by the margin as far as the picture goes."""
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


def _decode(data: bytes) -> Image.Image:
    try:
        return decode_upright(data, max_pixels=_MAX_PIXELS)
    except PictureError as exc:
        raise AnswerError(exc.message, received=exc.received) from exc


def _spread(mask: Image.Image, reach: int) -> Image.Image:
    """The white of a binary mask, grown by `reach` pixels in rows and columns (diagonals too)."""
    while reach > 0:
        radius = min(reach, _WIDEST_BOX)
        for box in ((radius, 0), (0, radius)):
            mask = mask.filter(ImageFilter.BoxBlur(box)).point(lambda value: 255 if value else 0)
        reach -= radius
    return mask


def _with_text(png: bytes, source: bytes) -> bytes:
    texts = [source[chunk.start : chunk.end] for chunk in png_chunks(source) if chunk.type in _TEXT_CHUNKS]
    return b"".join((png[:_IHDR_END], *texts, png[_IHDR_END:]))
