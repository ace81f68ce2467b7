"""Pictures that come in: from a file's bytes to exactly the pixels that a WebUI is sent.

A `Picture` keeps the encoded file and not its pixels, which are 10 to 50 times as many bytes, since it waits with
its job for a free WebUI. Embedded colour profiles are not applied, as the WebUIs do not apply them either.
"""

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from PIL import Image, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from services import exif
from services.picture_files import PictureFile, read_file
from services.picture_formats import PictureError, PictureFormat, broken, describe
from services.png_encoding import encode_png
from services.png_pixels import inflates
from spool import FileData

ResizeMode = Literal["stretch", "crop", "fill"]

SMALLEST_SIDE = 16
"""Pixels. Below, latents of 8 x 8 pixels each say nothing, and most such pictures are mistakes."""

# The classes and not Image.open: that warns about and refuses sizes by a process-wide setting,
# and gives a JPEG to whichever plugin its metadata name.
_DECODERS: Final[Mapping[PictureFormat, type[ImageFile.ImageFile]]] = MappingProxyType(
    {"PNG": PngImageFile, "JPEG": JpegImageFile, "WEBP": WebPImageFile, "BMP": BmpImageFile}
)

# All that Pillow's four decoders raise on damaged data. Not MemoryError: that is this machine's state.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

# EXIF orientation -> the turn that makes it upright.
_TURNS: Final[Mapping[int, Image.Transpose]] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture that has been decoded once without a fault. Width and height are upright, in pixels.

    `plain`: `data` is an upright RGB PNG or JPEG of one frame; the metadata that came with it has been cut out, so that
    it may be sent on as it is.
    `has_alpha`: it tells what is transparent, be it nothing.
    """

    width: int
    height: int
    format: PictureFormat
    data: FileData = field(repr=False)
    plain: bool
    has_alpha: bool


def read_picture(data: bytes, *, max_pixels: int) -> Picture:
    """Decodes the whole picture once, so that a damaged one is found here. Safe to call from many threads.

    :param max_pixels: refused by the header, before anything is decoded.
    :raises PictureError: not PNG, JPEG, WebP or BMP; damaged or cut off; too large; smaller than 16 x 16.
    """
    file = read_file(data)
    (width, height), has_alpha = _seen_whole(data, file, max_pixels=max_pixels)
    turned = exif.orientation(file.exif)
    if turned >= 5:
        width, height = height, width
    plain = file.plain and turned == 1
    return Picture(
        width=width,
        height=height,
        format=file.format,
        data=file.stripped if plain and len(file.stripped) < len(data) else data,
        plain=plain,
        has_alpha=has_alpha,
    )


def _seen_whole(data: bytes, file: PictureFile, *, max_pixels: int) -> tuple[tuple[int, int], bool]:
    """Width and height as stored, and whether it tells what is transparent; every pixel has been looked at."""
    if file.format == "PNG" and file.plain:
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        _check_size(data, size, max_pixels)
        if inflates(file.idat, header=data[16:29]):
            return size, False
    image = _decode(data, file, max_pixels=max_pixels)
    return image.size, image.has_transparency_data


def decode_upright(data: bytes, *, max_pixels: int | None = None) -> Image.Image:
    """The first frame with its EXIF orientation applied, in whatever mode it was stored.

    :param max_pixels: None for a file that has passed `read_picture`.
    :raises PictureError: as `read_picture`.
    """
    file = read_file(data)
    image = _decode(data, file, max_pixels=max_pixels)
    turn = _TURNS.get(exif.orientation(file.exif))
    return image if turn is None else image.transpose(turn)


def _decode(data: bytes, file: PictureFile, *, max_pixels: int | None) -> Image.Image:
    if file.format == "WEBP":  # its decoder allocates the canvas as soon as it is opened
        _check_size(data, _webp_size(data), max_pixels)
    try:
        image = _DECODERS[file.format](io.BytesIO(file.stripped))
        _check_size(data, image.size, max_pixels)
        image.load()
    except PictureError:
        raise
    except _DECODING_ERRORS as exc:
        raise broken(data, "it is damaged or cut off") from exc
    return image


def _check_size(data: bytes, size: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size
    received = f"{width}x{height} pixels ({describe(data)})"
    if min(width, height) < SMALLEST_SIDE:
        raise PictureError(f"must be at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels", received=received)
    if max_pixels is not None and width * height > max_pixels:
        raise PictureError(f"must have at most {max_pixels} pixels (width times height)", received=received)


def _webp_size(data: bytes) -> tuple[int, int]:
    """From the first chunk: VP8X (extended), VP8L (lossless) or VP8 (lossy)."""
    head = data[12:30].ljust(18, b"\0")
    if head[:4] == b"VP8X":
        return int.from_bytes(head[12:15], "little") + 1, int.from_bytes(head[15:18], "little") + 1
    if head[:4] == b"VP8L":
        bits = int.from_bytes(head[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(head[14:16], "little") & 0x3FFF, int.from_bytes(head[16:18], "little") & 0x3FFF


def fit(picture: Picture, width: int, height: int, resize_mode: ResizeMode) -> FileData:
    """The file to send to a WebUI: exactly width x height pixels.

    A PNG or JPEG that already is that goes on byte for byte, metadata aside. Everything else becomes an RGB PNG without
    metadata; WebP and BMP always, because not every WebUI reads them.
    """
    if picture.plain and (picture.width, picture.height) == (width, height):
        return picture.data
    image = flatten(decode_upright(picture.data[:]), "white")
    return encode_png(resample(image, width, height, resize_mode))


def flatten(image: Image.Image, background: str) -> Image.Image:
    """Any mode to RGB, what is transparent over the background. 16-bit grey keeps its upper 8 bits."""
    if image.mode.startswith("I;16"):  # convert() would cut everything above 255 to white
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    pixels = image.convert("RGBA")
    base = Image.new("RGB", pixels.size, background)
    base.paste(pixels, mask=pixels)
    return base


def resample(image: Image.Image, width: int, height: int, resize_mode: ResizeMode) -> Image.Image:
    """To exactly width x height (Lanczos): stretched; cut to fill, centred; or fitted in and filled from its edges."""
    if image.size == (width, height):
        return image
    match resize_mode:
        case "stretch":
            return image.resize((width, height), Image.Resampling.LANCZOS)
        case "crop":
            return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        case "fill":
            return _fill(image, width, height)


def _fill(image: Image.Image, width: int, height: int) -> Image.Image:
    """As A1111's resize mode 2: the outermost row or column of the fitted picture is drawn out to the border."""
    scale = min(width / image.width, height / image.height)
    inner_width = min(width, max(1, round(image.width * scale)))
    inner_height = min(height, max(1, round(image.height * scale)))
    inner = image.resize((inner_width, inner_height), Image.Resampling.LANCZOS)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    # One of the two is the full size, so there are at most two strips: above and below, or left and right.
    strips = [
        ((0, 0, inner_width, 1), (0, 0, width, top)),
        ((0, inner_height - 1, inner_width, inner_height), (0, top + inner_height, width, height)),
        ((0, 0, 1, inner_height), (0, 0, left, height)),
        ((inner_width - 1, 0, inner_width, inner_height), (left + inner_width, 0, width, height)),
    ]
    filled = Image.new(image.mode, (width, height))
    for edge, (x0, y0, x1, y1) in strips:
        if x1 > x0 and y1 > y0:
            filled.paste(inner.crop(edge).resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST), (x0, y0))
    filled.paste(inner, (left, top))
    return filled
