"""The two EXIF values this service needs: a picture's orientation, and the text that a WebUI leaves in an image.

Broken EXIF is no reason to refuse a picture: what cannot be read counts as absent. Pillow's reader is not used, because
it reads every entry whole: a few MB of entries that overlap would cost minutes.
"""

import struct
from typing import Final

_ORIENTATION, _EXIF_IFD, _USER_COMMENT = 0x0112, 0x8769, 0x9286
#: How a number is stored, by the entry's type: SHORT and LONG.
_NUMBERS: Final = {3: "H", 4: "I"}
_MAX_ENTRIES: Final = 1000
_ENCODINGS: Final = {b"UNICODE\0": "utf-16-be", b"ASCII\0\0\0": "ascii"}


def orientation(tiff: bytes | None) -> int:
    """1 … 8, as EXIF has it; 1 (upright) if there is none that can be read."""
    value = _Tiff(tiff or b"").number(_ORIENTATION)
    return value if value is not None and 1 <= value <= 8 else 1


def user_comment(tiff: bytes | None) -> str | None:
    """The UserComment, where A1111 puts the generation parameters of a JPEG or WebP (UTF-16, big-endian)."""
    file = _Tiff(tiff or b"")
    comment = file.text(_USER_COMMENT, ifd=file.number(_EXIF_IFD) or 0)
    encoding = _ENCODINGS.get(comment[:8])
    if encoding is None:
        return None
    try:
        return comment[8:].decode(encoding)
    except UnicodeDecodeError:
        return None


class _Tiff:
    """A TIFF structure: lists of entries (IFDs), each a tag, a type, a count and a value or its place."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])

    def number(self, tag: int) -> int | None:
        """The first value of an entry of the first IFD; None if there is none."""
        kind, _, place = self._entry(tag, ifd=self._unpacked("I", 4))
        return self._unpacked(_NUMBERS[kind], place) if kind in _NUMBERS else None

    def text(self, tag: int, *, ifd: int) -> bytes:
        """The bytes of an entry; empty if it is missing, or points behind the end."""
        _, count, place = self._entry(tag, ifd=ifd)
        start = place if count <= 4 else self._unpacked("I", place)
        text = self._data[start : start + count]
        return text if len(text) == count else b""

    def _entry(self, tag: int, *, ifd: int) -> tuple[int, int, int]:
        """Type, count, and where the value is or where its place is named; three zeros if there is no such entry."""
        count = min(self._unpacked("H", ifd), _MAX_ENTRIES) if ifd >= 8 else 0
        for start in range(ifd + 2, ifd + 2 + 12 * count, 12):
            if self._unpacked("H", start) == tag:
                return self._unpacked("H", start + 2), self._unpacked("I", start + 4), start + 8
        return 0, 0, 0

    def _unpacked(self, code: str, place: int) -> int:
        """0 behind the end."""
        if self._order is None or place + struct.calcsize(code) > len(self._data):
            return 0
        return int(struct.unpack_from(self._order + code, self._data, place)[0])
