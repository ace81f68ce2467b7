"""Decodes picture files: by their bytes, upright, and no larger than allowed."""

import io
import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from services import exif
from services.picture_files import PictureFile, read_file
from services.picture_formats import PictureError, PictureFormat, broken, describe
from services.png import has_all_rows

SMALLEST_SIDE = 16
"""Pixels. Below, latents of 8 x 8 pixels each say nothing, and most such pictures are mistakes."""

# The classes and not Image.open: that warns about and refuses sizes by a process-wide setting,
# and gives a JPEG to whichever plugin its metadata name.
_DECODERS: Final[Mapping[PictureFormat, type[ImageFile.ImageFile]]] = MappingProxyType(
    {"PNG": PngImageFile, "JPEG": JpegImageFile, "WEBP": WebPImageFile, "BMP": BmpImageFile}
)

#: All that Pillow's four decoders raise on damaged data. Not MemoryError: that is about this machine.
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


def see_whole(data: bytes, file: PictureFile, *, max_pixels: int) -> tuple[tuple[int, int], Image.Image | None]:
    """Width and height as stored, and the picture; None for a plain PNG whose rows are all there.

    :raises PictureError: damaged, too large or too small.
    """
    if file.format == "PNG" and file.plain:
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        _check_size(data, size, max_pixels)
        if has_all_rows(data, file.chunks):
            return size, None
    image = decode(data, file, max_pixels=max_pixels)
    return image.size, image


def decode_upright(data: bytes, *, max_pixels: int | None = None) -> Image.Image:
    """The first frame with its EXIF orientation applied, in whatever mode it was stored.

    :param max_pixels: None for a file that has been checked before.
    :raises PictureError: as `read_file`; damaged, too large or too small.
    """
    file = read_file(data)
    return upright(decode(data, file, max_pixels=max_pixels), file)


def upright_size(size: tuple[int, int], file: PictureFile) -> tuple[int, int]:
    return size if exif.orientation(file.exif) < 5 else size[::-1]


def upright(image: Image.Image, file: PictureFile) -> Image.Image:
    turn = _TURNS.get(exif.orientation(file.exif))
    return image if turn is None else image.transpose(turn)


def decode(data: bytes, file: PictureFile, *, max_pixels: int | None) -> Image.Image:
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
    if file.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getbbox() is None:
        return image.convert("RGB")  # the fourth byte was never filled in: viewers show the colours
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
