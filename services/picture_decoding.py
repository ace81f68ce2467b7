"""Decodes picture files: by their bytes, upright, and no larger than allowed."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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


#: From upright width and height to those that a picture will be brought to, pixels.
Target = Callable[[int, int], tuple[int, int]]

#: A JPEG is decoded in a half, a quarter or an eighth of its size if that is this many times what is needed: the
#: resampling that follows then sees all that is visible in the result.
ENOUGH: Final = 1.4


@dataclass(frozen=True, kw_only=True)
class Seen:
    """
    A picture that has been looked at to its last row.

    :param width: and ``height``: upright, pixels.
    :param image: upright, maybe smaller; None for a plain PNG of exactly the target's size, which need not be decoded.
    """

    width: int
    height: int
    image: Image.Image | None


def see_whole(
    data: bytes,
    file: PictureFile,
    *,
    max_pixels: int,
    target: Target | None = None,
    enough: float = ENOUGH,
    always_decode: bool = False,
) -> Seen:
    """
    :param target: None: the size that it has.
    :param enough: how many times the target's sides a JPEG must keep.
    :param always_decode: also a picture that goes on as it is.
    :raises PictureError: damaged, too large or too small.
    """
    if file.format == "PNG" and file.plain and not always_decode:
        size = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        _check_size(data, size, max_pixels)
        width, height = _upright_size(size, file)
        if (target is None or target(width, height) == (width, height)) and has_all_rows(data, file.chunks):
            return Seen(width=width, height=height, image=None)
    opened = _opened(data, file, max_pixels=max_pixels)
    width, height = _upright_size(opened.size, file)
    image = _upright(_loaded(data, opened, file, target(width, height) if target else None, enough), file)
    return Seen(width=width, height=height, image=image)


def suffices(size: tuple[float, float], target: tuple[int, int], enough: float = ENOUGH) -> bool:
    """Whether a picture that was decoded in a smaller size may still be brought to the target."""
    return min(size[0] / target[0], size[1] / target[1]) >= enough


def decode_upright(data: bytes, *, max_pixels: int | None = None) -> Image.Image:
    """The first frame with its EXIF orientation applied, in whatever mode it was stored.

    :param max_pixels: None for a file that has been checked before.
    :raises PictureError: as `read_file`; damaged, too large or too small.
    """
    file = read_file(data)
    return _upright(decode(data, file, max_pixels=max_pixels), file)


def _upright_size(size: tuple[int, int], file: PictureFile) -> tuple[int, int]:
    return size if exif.orientation(file.exif) < 5 else size[::-1]


def _upright(image: Image.Image, file: PictureFile) -> Image.Image:
    turn = _TURNS.get(exif.orientation(file.exif))
    return image if turn is None else image.transpose(turn)


def decode(data: bytes, file: PictureFile, *, max_pixels: int | None) -> Image.Image:
    """As it is stored, in all its pixels."""
    return _loaded(data, _opened(data, file, max_pixels=max_pixels), file)


def _opened(data: bytes, file: PictureFile, *, max_pixels: int | None) -> ImageFile.ImageFile:
    if file.format == "WEBP":  # its decoder allocates the canvas as soon as it is opened
        _check_size(data, _webp_size(data), max_pixels)
    with _faults_of(data):
        image = _DECODERS[file.format](io.BytesIO(file.stripped))
    _check_size(data, image.size, max_pixels)
    return image


def _loaded(
    data: bytes,
    opened: ImageFile.ImageFile,
    file: PictureFile,
    target: tuple[int, int] | None = None,
    enough: float = ENOUGH,
) -> Image.Image:
    """:param target: upright; None: all pixels."""
    with _faults_of(data):
        if file.format == "JPEG" and target is not None:
            # Its rows are all read even so, and their faults found.
            due = _upright_size(target, file)
            times = next((n for n in (8, 4, 2) if suffices((opened.width / n, opened.height / n), due, enough)), 1)
            opened.draft(None, (opened.width // times, opened.height // times))
        opened.load()
    if file.format == "BMP" and opened.mode == "RGBA" and opened.getchannel("A").getbbox() is None:
        return opened.convert("RGB")  # the fourth byte was never filled in: viewers show the colours
    return opened


@contextmanager
def _faults_of(data: bytes) -> Iterator[None]:
    try:
        yield
    except _DECODING_ERRORS as exc:
        raise broken(data, "it is damaged or cut off") from exc


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
