"""Whether a PNG's pixels are all there, without keeping them: some time and all of the memory of decoding is saved."""

import struct
from collections.abc import Iterable

from zlib_ng import zlib_ng

#: Of the file, given to the inflater at a time; what it leaves of that is copied each time.
_IN_BYTES = 64 * 1024
#: Of pixels, had at a time: a few bytes may inflate to a thousand times as many.
_OUT_BYTES = 256 * 1024
#: PNG knows five filters, 0 to 4; each row begins with the number of its own.
_LAST_FILTER = 4


def inflates(idat: Iterable[memoryview], *, header: bytes) -> bool:
    """
    Whether every row of an 8-bit RGB picture can be had, and nothing comes after the last one.

    False says only that a decoder must judge: it forgives some faults that this does not.

    :param idat: the bodies of the IDAT chunks; :param header: the body of IHDR.
    """
    width, height, depth, colour_type, *methods = struct.unpack(">IIBBBBB", header)
    if (depth, colour_type) != (8, 2) or any(methods):  # interlaced, say
        return False
    row_bytes = 1 + 3 * width
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
