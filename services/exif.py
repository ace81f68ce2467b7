"""The two EXIF values this service needs: the orientation of a picture, and the text a WebUI leaves in an image.

Read here and not by Pillow, whose reader answers broken EXIF with a dozen kinds of exceptions and with warnings.
Broken EXIF is no reason to refuse a picture: what cannot be read is taken as absent.
"""

import struct
from typing import NamedTuple

_ORIENTATION, _EXIF_IFD, _USER_COMMENT = 0x0112, 0x8769, 0x9286
_SHORT, _LONG = 3, 4
_TYPE_SIZES = {1: 1, 2: 1, _SHORT: 2, _LONG: 4, 7: 1}
_MAX_ENTRIES = 1000


class _Value(NamedTuple):
    type: int
    raw: bytes


def orientation(tiff: bytes | None) -> int:
    """1 ... 8 as EXIF has it; 1 (upright) where there is none or none that can be read."""
    byte_order = _byte_order(tiff)
    if tiff is None or byte_order is None:
        return 1
    value = _number(_read_ifd(tiff, byte_order, _first_ifd(tiff, byte_order)).get(_ORIENTATION), byte_order)
    return value if value is not None and 1 <= value <= 8 else 1


def user_comment(tiff: bytes | None) -> str | None:
    """The UserComment, where A1111 puts the generation parameters of a JPEG or WebP (UTF-16, big-endian)."""
    byte_order = _byte_order(tiff)
    if tiff is None or byte_order is None:
        return None
    pointer = _number(_read_ifd(tiff, byte_order, _first_ifd(tiff, byte_order)).get(_EXIF_IFD), byte_order)
    if pointer is None:
        return None
    comment = _read_ifd(tiff, byte_order, pointer).get(_USER_COMMENT)
    return _decode_comment(comment.raw) if comment else None


def _byte_order(tiff: bytes | None) -> str | None:
    return {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4]) if tiff else None


def _first_ifd(tiff: bytes, byte_order: str) -> int:
    return int(struct.unpack(byte_order + "I", tiff[4:8].ljust(4, b"\0"))[0])


def _read_ifd(tiff: bytes, byte_order: str, offset: int) -> dict[int, _Value]:
    if offset < 8 or offset + 2 > len(tiff):
        return {}
    (count,) = struct.unpack_from(byte_order + "H", tiff, offset)
    values: dict[int, _Value] = {}
    for start in range(offset + 2, offset + 2 + 12 * min(count, _MAX_ENTRIES), 12):
        if start + 12 > len(tiff):
            break
        tag, kind, length, place = struct.unpack_from(byte_order + "HHII", tiff, start)
        size = _TYPE_SIZES.get(kind, 0) * length
        raw = tiff[start + 8 : start + 8 + size] if size <= 4 else tiff[place : place + size]
        if size and len(raw) == size:
            values.setdefault(tag, _Value(kind, raw))
    return values


def _number(value: _Value | None, byte_order: str) -> int | None:
    if value is None or value.type not in (_SHORT, _LONG):
        return None
    code = "H" if value.type == _SHORT else "I"
    return int(struct.unpack_from(byte_order + code, value.raw)[0])


def _decode_comment(raw: bytes) -> str | None:
    encoding = {b"UNICODE\0": "utf-16-be", b"ASCII\0\0\0": "ascii"}.get(raw[:8])
    if encoding is None:
        return None
    try:
        return raw[8:].decode(encoding)
    except UnicodeDecodeError:
        return None
