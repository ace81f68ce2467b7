"""Structure of picture files: PNG chunks, JPEG segments, WebP chunks. Nothing is decoded here.

A decoder does not report a file that ends early, bytes behind its end, or metadata; this module finds them. It also
removes the metadata, so that the decoder never parses a caller's EXIF or text: Pillow reads each of up to 65,535 EXIF
entries whole, however far they overlap. Of the metadata, only what describes the colours is kept.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services import colour_tags
from services.colour_tags import Colours
from services.picture_formats import MAX_PIECES, PNG_SIGNATURE, PictureError, PictureFormat, broken, describe, sniff
from services.png import Chunk, Header, make_chunk, read_chunks, read_header

#: Each scan of a progressive JPEG passes over the whole picture, so that a few kB can ask for many seconds of CPU.
#: Encoders write 10 to 20.
MAX_JPEG_SCANS: Final = 32
#: Pixels, and bytes. Pillow decodes run-length encoded BMP in Python, pixel by pixel.
MAX_RLE_BMP: Final = 4_000_000

#: What the pixels of an RGB PNG are made of, and those of any other.
_PLAIN_CHUNKS: Final = frozenset({b"IHDR", b"IDAT", b"IEND"})
_PIXEL_CHUNKS: Final = _PLAIN_CHUNKS | {b"PLTE", b"tRNS"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFile:
    """
    A file whose structure is complete.

    :param stripped: the same file without metadata and without bytes behind its end: what a decoder needs.
    :param exif: the TIFF structure of the EXIF data.
    :param colours: what the whole file says about its colours.
    :param plain: whether ``stripped`` is an 8-bit RGB PNG or JPEG that holds nothing but one frame's pixels.
    :param chunks: of a PNG, where they lie in the whole file.
    """

    format: PictureFormat
    stripped: bytes = field(repr=False)
    exif: bytes | None = field(default=None, repr=False)
    colours: Colours = field(repr=False)
    plain: bool = False
    chunks: Sequence[Chunk] = field(default=(), repr=False)


class _Segment(NamedTuple):
    """``start`` and ``end`` are those of a JPEG segment's header; a scan's coded data follow it."""

    marker: int
    start: int
    end: int


def read_file(data: bytes) -> PictureFile:
    """
    :raises PictureError: the file is not PNG, JPEG, WebP or BMP, or its structure is damaged or ends early.
    """
    match sniff(data):
        case "PNG":
            return _read_png(data)
        case "JPEG":
            return _read_jpeg(data)
        case "WEBP":
            return _read_webp(data)
        case "BMP":
            _check_bmp(data)
            return PictureFile(format="BMP", stripped=data, colours=colour_tags.of_bmp(data))
        case None if not data:
            raise PictureError("is empty; send a PNG, JPEG, WebP or BMP picture", received="0 bytes")
        case None:
            raise PictureError("must be a PNG, JPEG, WebP or BMP picture", received=describe(data))


def _read_png(data: bytes) -> PictureFile:
    chunks = read_chunks(data)
    header = read_header(data)
    assert header is not None  # its chunk was read
    kinds = {chunk.type for chunk in chunks}
    bodies = {chunk.type: chunk.body(data) for chunk in reversed(chunks) if chunk.type in _METADATA_CHUNKS}
    return PictureFile(
        format="PNG",
        stripped=_stripped_png(data, chunks, header),
        exif=bodies.get(b"eXIf"),
        colours=colour_tags.of_png(bodies),
        plain=kinds & _PIXEL_CHUNKS == _PLAIN_CHUNKS and (header.depth, header.colour_type) == (8, 2),
        chunks=chunks,
    )


#: PNG chunks that say how the pixels are to be seen.
_METADATA_CHUNKS: Final = colour_tags.PNG_CHUNKS | {b"eXIf"}


def _stripped_png(data: bytes, chunks: Sequence[Chunk], header: Header) -> bytes:
    view = memoryview(data)
    pieces: list[bytes | memoryview] = [PNG_SIGNATURE]
    has_colour_key = False
    for chunk in chunks:
        if chunk.type == b"tRNS":
            has_colour_key = True
            pieces.append(make_chunk(b"tRNS", _colour_key(chunk.body(data), header)))
        elif chunk.type in _PIXEL_CHUNKS:
            pieces.append(view[chunk.start : chunk.end])
    return data if not has_colour_key and sum(map(len, pieces)) == len(data) else b"".join(pieces)


def _colour_key(body: bytes, header: Header) -> bytes:
    """
    The transparent colour of a grey or RGB PNG in 8 bits: Pillow decodes the pixels to 8 bits, but not this.

    Of 16 bits the upper byte counts.
    """
    if header.colour_type not in (0, 2) or header.depth not in (2, 4, 16) or len(body) % 2:
        return body
    samples = struct.unpack(f">{len(body) // 2}H", body)
    if header.depth == 16:
        return struct.pack(f">{len(samples)}H", *(sample >> 8 for sample in samples))
    top = 2**header.depth - 1
    return struct.pack(f">{len(samples)}H", *((sample & top) * 255 // top for sample in samples))


_SOI, _EOI, _SOS, _APP0, _APP1, _APP2, _APP14, _APP15, _COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE, 0xEF, 0xFE
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
#: Baseline, extended and progressive: what every decoder reads.
_COMMON_FRAMES = {0xC0, 0xC1, 0xC2}
#: A longer segment carries a thumbnail or other extras.
_BARE_LENGTHS = {_APP0: 18, _APP14: 16}
#: In coded data FF00 is an escaped byte and FFD0...FFD7 are restart marks; FF before a marker is a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)


def _jpeg_segments(data: bytes) -> Iterator[_Segment]:
    """All segments after SOI up to and including EOI."""
    position = 2
    for _ in range(MAX_PIECES):
        found = _MARKER.search(data, position)
        if found is None:
            raise broken(data, "the file ends early")
        marker, start = found[0][1], found.start()
        if marker == _EOI:
            yield _Segment(marker, start, start + 2)
            return
        length = 0 if marker == _SOI else int.from_bytes(data[start + 2 : start + 4], "big")
        position = start + 2 + length
        if length == 1 or (length == 0 and marker != _SOI):
            raise broken(data, "a JPEG segment has no length")
        if position > len(data):
            raise broken(data, "the file ends early")
        yield _Segment(marker, start, position)
    raise broken(data, f"more than {MAX_PIECES} JPEG segments")


def _read_jpeg(data: bytes) -> PictureFile:
    segments = list(_jpeg_segments(data))
    if sum(segment.marker == _SOS for segment in segments) > MAX_JPEG_SCANS:
        raise broken(data, f"more than {MAX_JPEG_SCANS} scans")
    pieces, plain = [data[:2]], True
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        end = following.start if following and segment.marker == _SOS else segment.end
        if not _is_metadata(data, segment):
            plain = plain and _is_plain(data, segment)
            pieces.append(data[segment.start : end])
    return PictureFile(
        format="JPEG",
        stripped=b"".join(pieces),
        exif=next((body for body in (_exif_body(data, segment) for segment in segments) if body), None),
        colours=colour_tags.of_jpeg([data[s.start + 4 : s.end] for s in segments if s.marker == _APP2]),
        plain=plain,
    )


def _is_metadata(data: bytes, segment: _Segment) -> bool:
    """APP0 (JFIF) and APP14 (Adobe) are not: they say how the colours are coded."""
    if segment.marker == _APP0:
        return data[segment.start + 4 : segment.start + 9] != b"JFIF\0"
    return segment.marker == _COM or (_APP1 <= segment.marker <= _APP15 and segment.marker != _APP14)


def _is_plain(data: bytes, segment: _Segment) -> bool:
    if segment.marker in _FRAMES:
        precision, components = data[segment.start + 4], data[segment.start + 9 : segment.start + 10]
        return segment.marker in _COMMON_FRAMES and precision == 8 and components == b"\3"
    if segment.marker in _BARE_LENGTHS:
        return segment.end - segment.start == _BARE_LENGTHS[segment.marker]
    return segment.marker != _SOI


def _exif_body(data: bytes, segment: _Segment) -> bytes | None:
    if segment.marker == _APP1 and data[segment.start + 4 : segment.start + 10] == b"Exif\0\0":
        return data[segment.start + 10 : segment.end]
    return None


def _read_webp(data: bytes) -> PictureFile:
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise broken(data, "the file ends early")
    exif = next((body for kind, body in _webp_chunks(data, end) if kind == b"EXIF"), None)
    iccp = next((body for kind, body in _webp_chunks(data, end) if kind == b"ICCP"), None)
    return PictureFile(
        format="WEBP",
        stripped=data[:end],
        exif=exif.removeprefix(b"Exif\0\0") if exif else None,
        colours=colour_tags.of_webp(iccp),
    )


def _webp_chunks(data: bytes, end: int) -> Iterator[tuple[bytes, bytes]]:
    start = 12
    for _ in range(MAX_PIECES):
        if start + 8 > end:
            return
        length = int.from_bytes(data[start + 4 : start + 8], "little")
        yield data[start : start + 4], data[start + 8 : min(start + 8 + length, end)]
        start += 8 + length + length % 2
    raise broken(data, f"more than {MAX_PIECES} WebP chunks")


def _check_bmp(data: bytes) -> None:
    header_length, width, height = struct.unpack_from("<Iii", data.ljust(34, b"\0"), 14)
    compression = int.from_bytes(data[30:34], "little")
    if header_length >= 40 and compression in (1, 2) and max(len(data), width * abs(height)) > MAX_RLE_BMP:
        message = f"a run-length encoded BMP may have at most {MAX_RLE_BMP} pixels and bytes; send it as PNG"
        raise PictureError(message, received=describe(data))
