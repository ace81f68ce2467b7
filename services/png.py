"""PNG files: their chunks, whether their pixels are all there, and pixels encoded as one.

Encoding gives files as small as Pillow's quickest, in a fifteenth of the time; the check takes a fifth to two thirds of
the time of decoding, and none of its memory.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from isal import isal_zlib
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo
from zlib_ng import zlib_ng

from services.picture_formats import MAX_PIECES, PNG_SIGNATURE, broken

#: Compressed bytes given to the inflater at a time; what it leaves of them is copied each time.
_IN_BYTES: Final = 64 * 1024
#: Bytes of pixels taken from it at a time: a few bytes may inflate to a thousand times as many.
_OUT_BYTES: Final = 256 * 1024
#: Bytes of a pixel with 8 bits a channel, by the header's colour type; palettes are not among them.
_CHANNELS: Final = {0: 1, 2: 3, 4: 2, 6: 4}
#: PNG has five filters, 0 to 4; each row begins with the number of its filter.
_LAST_FILTER: Final = 4

#: By the image's mode; section 11.2.1 of the PNG specification.
_COLOUR_TYPES: Final = {"L": 0, "RGB": 2, "RGBA": 6}
#: Each byte as its difference from that of the pixel to its left: of the filters that need no other row, the one that
#: makes photographs smallest.
_SUB: Final = b"\x01"
#: Encoded at a time: the memory needed beside the image is a few times as much.
_STRIP_ROWS: Final = 64


#: Of the signature and IHDR together, with which every file begins.
HEADER_BYTES: Final = 33


class Chunk(NamedTuple):
    """``start`` and ``end`` are those of the whole chunk in the file, from its length to its CRC."""

    type: bytes
    start: int
    end: int

    def body(self, data: bytes) -> bytes:
        return data[self.start + 8 : self.end - 4]


class Header(NamedTuple):
    """The fields of IHDR; width and height in pixels, depth in bits a channel."""

    width: int
    height: int
    depth: int
    colour_type: int
    compression: int
    filtering: int
    interlacing: int

    @property
    def is_common(self) -> bool:
        """8 bits a channel, no palette, not interlaced: what :func:`has_all_rows` can judge."""
        return self[2] == 8 and self.colour_type in _CHANNELS and not any(self[4:])


def read_chunks(data: bytes) -> list[Chunk]:
    """
    All chunks up to IEND, each one's CRC checked. The first is a valid IHDR; bytes may follow the last.

    :raises PictureError: the file is damaged or cut off.
    """
    view = memoryview(data)
    chunks: list[Chunk] = []
    start = len(PNG_SIGNATURE)
    while not chunks or chunks[-1].type != b"IEND":
        end = start + 12 + int.from_bytes(view[start : start + 4], "big")
        if end > len(data):
            raise broken(data, "the file ends early")
        if zlib_ng.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise broken(data, "a PNG chunk has a wrong checksum")
        if len(chunks) == MAX_PIECES:
            raise broken(data, f"more than {MAX_PIECES} PNG chunks")
        chunks.append(Chunk(bytes(view[start + 4 : start + 8]), start, end))
        start = end
    if chunks[0].type != b"IHDR" or chunks[0].end != HEADER_BYTES:
        raise broken(data, "the PNG header is missing")
    return chunks


def read_header(data: bytes) -> Header | None:
    """From a file's first :data:`HEADER_BYTES`; None if it is not a PNG."""
    if not data.startswith(PNG_SIGNATURE) or data[12:16] != b"IHDR" or len(data) < HEADER_BYTES:
        return None
    return Header(*struct.unpack_from(">IIBBBBB", data, 16))


def has_all_rows(data: bytes, chunks: Iterable[Chunk], *, trusted: bool = False) -> bool:
    """
    Whether every row of a picture with a common header can be had, and nothing follows the last one. The rows are
    inflated piece by piece and not kept.

    False does not mean that a decoder refuses the picture: it forgives some faults that this function does not.

    :param chunks: of :func:`read_chunks`.
    :param trusted: whether the file comes from a WebUI. A caller's may be made on purpose so that isa-l takes its codes
        and zlib, with which WebUIs decode, refuses them.
    """
    header = read_header(data)
    if header is None or not header.is_common:
        return False
    row_bytes = 1 + _CHANNELS[header.colour_type] * header.width
    size, expected = 0, row_bytes * header.height
    inflater = isal_zlib.decompressobj() if trusted else zlib_ng.decompressobj()
    try:
        for piece in _idat_pieces(data, chunks):
            for pixels in _inflated(inflater, piece):
                if max(pixels[-size % row_bytes :: row_bytes], default=0) > _LAST_FILTER:
                    return False
                size += len(pixels)
                if size > expected:
                    return False
    except (zlib_ng.error, isal_zlib.error):  # type: ignore[misc]  # exceptions, whatever their types say
        return False
    return inflater.eof and size == expected


def _inflated(inflater: Any, piece: bytes | memoryview) -> Iterator[bytes]:
    """All that can be had with this piece. Isa-l may take all of it and still hold pixels back."""
    left, pixels = piece, b""
    while not inflater.eof and (left or len(pixels) == _OUT_BYTES):
        pixels = inflater.decompress(left, _OUT_BYTES)
        yield pixels
        left = inflater.unconsumed_tail


def _idat_pieces(data: bytes, chunks: Iterable[Chunk]) -> Iterator[memoryview]:
    for chunk in chunks:
        if chunk.type == b"IDAT":
            body = memoryview(data)[chunk.start + 8 : chunk.end - 4]
            yield from (body[start : start + _IN_BYTES] for start in range(0, len(body), _IN_BYTES))


def make_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib_ng.crc32(kind + body))


def encode_png(image: Image.Image, *, text: PngInfo | None = None) -> bytes:
    """
    A PNG without metadata but the text.

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
