"""Pixels as PNG: as small as Pillow's quickest, for a fifteenth of the time."""

import struct
from collections.abc import Iterator
from typing import Final

from isal import isal_zlib
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo

from services.picture_files import make_chunk
from services.picture_formats import PNG_SIGNATURE

# By the image's mode; PNG's section 11.2.1.
_COLOUR_TYPES: Final = {"L": 0, "RGB": 2, "RGBA": 6}
# Each byte as its difference from that of the pixel to its left: of the filters that need no look at other rows the
# one that makes photographs smallest.
_SUB: Final = b"\x01"
# Worked on at a time: what is needed beside the image is a few times as much.
_STRIP_ROWS: Final = 64


def encode_png(image: Image.Image, *, text: PngInfo | None = None) -> bytes:
    """PNG without metadata but the text.

    :param image: of mode L, RGB or RGBA.
    """
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, _COLOUR_TYPES[image.mode], 0, 0, 0)
    compressor = isal_zlib.compressobj(level=1)
    pixels = b"".join([*(compressor.compress(rows) for rows in _filtered(image)), compressor.flush()])
    texts = [(kind, data) for kind, data, *_ in text.chunks] if text else []
    chunks = ((b"IHDR", header), *texts, (b"IDAT", pixels), (b"IEND", b""))
    return PNG_SIGNATURE + b"".join(make_chunk(kind, data) for kind, data in chunks)


def _filtered(image: Image.Image) -> Iterator[bytes]:
    """The rows of each strip, each behind the number of its filter."""
    row_bytes = image.width * len(image.getbands())
    for top in range(0, image.height, _STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height)))
        left = Image.new(image.mode, strip.size)
        left.paste(strip, (1, 0))
        differences = ImageChops.subtract_modulo(strip, left).tobytes()
        rows = (differences[start : start + row_bytes] for start in range(0, len(differences), row_bytes))
        yield b"".join(_SUB + row for row in rows)
