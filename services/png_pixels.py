"""Whether a PNG's pixels are all there, without keeping them: some time and all of the memory of decoding is saved."""

import struct
from collections.abc import Iterable, Iterator

from zlib_ng import zlib_ng

from services.picture_formats import PNG_SIGNATURE

#: Of the file, given to the inflater at a time; what it leaves of that is copied each time.
_IN_BYTES = 64 * 1024
#: Of pixels, had at a time: a few bytes may inflate to a thousand times as many.
_OUT_BYTES = 256 * 1024
#: Bytes a pixel, by PNG's colour types, of 8 bits a channel; not of those with a palette.
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
#: PNG knows five filters, 0 to 4; each row begins with the number of its own.
_LAST_FILTER = 4


class DamagedPNGError(ValueError):
    """The file ends early, or a checksum is wrong."""


def is_whole(file: bytes) -> bool:
    """
    Whether every row of a PNG can be had; the rows are inflated piece by piece, and not kept.

    :returns: False where only a decoder can tell: 16 bits, a palette, interlaced rows.
    :raises DamagedPNGError:
    """
    header = file[len(PNG_SIGNATURE) + 8 : len(PNG_SIGNATURE) + 8 + 13]
    if len(header) < 13:
        raise DamagedPNGError("the file ends early")
    channels = _CHANNELS.get(header[9], 0)
    known = header[8] == 8 and channels > 0 and not any(header[10:])
    walked = _idat_pieces(file)
    if known and not inflates(walked, header=header, channels=channels):
        raise DamagedPNGError("its pixels are damaged, or not all there")
    for _ in walked:  # the checksums of what is left
        pass
    return known


def _idat_pieces(file: bytes) -> Iterator[memoryview]:
    """Walks through all chunks up to IEND, and checks each one's checksum."""
    start, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        head = file[start : start + 8]
        kind, end = head[4:], start + 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or end > len(file):
            raise DamagedPNGError("the file ends early")
        sum_ = zlib_ng.crc32(kind)
        for at in range(start + 8, end - 4, _IN_BYTES):
            piece = file[at : min(at + _IN_BYTES, end - 4)]
            sum_ = zlib_ng.crc32(piece, sum_)
            if kind == b"IDAT":
                yield memoryview(piece)
        if sum_ != int.from_bytes(file[end - 4 : end], "big"):
            raise DamagedPNGError("a PNG chunk has a wrong checksum")
        start = end


def inflates(idat: Iterable[memoryview], *, header: bytes, channels: int = 3) -> bool:
    """
    Whether every row of an 8-bit picture can be had, and nothing comes after the last one.

    False says only that a decoder must judge: it forgives some faults that this does not.

    :param idat: the bodies of the IDAT chunks; :param header: the body of IHDR.
    :param channels: a picture of another colour type than has so many is left to a decoder.
    """
    width, height, depth, colour_type, *methods = struct.unpack(">IIBBBBB", header)
    if depth != 8 or _CHANNELS.get(colour_type) != channels or any(methods):  # interlaced, say
        return False
    row_bytes = 1 + channels * width
    inflater, size = zlib_ng.decompressobj(), 0
    try:
        for body in idat:
            for start in range(0, len(body), _IN_BYTES):
                left: bytes | memoryview = body[start : start + _IN_BYTES]
                while left and not inflater.eof:
                    pixels = inflater.decompress(left, _OUT_BYTES)
                    if max(pixels[-size % row_bytes :: row_bytes], default=0) > _LAST_FILTER:
                        return False
                    size += len(pixels)
                    left = inflater.unconsumed_tail
    except zlib_ng.error:  # type: ignore[misc]  # an exception, whatever its types say
        return False
    return inflater.eof and size == row_bytes * height
