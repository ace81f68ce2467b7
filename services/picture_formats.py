"""The format of a picture file, by its first bytes, and the error that describes what came instead."""

import re
from typing import Literal

PictureFormat = Literal["PNG", "JPEG", "WEBP", "BMP"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

#: Chunks or segments of a file: enough for 32 MB in pieces of 512 bytes. Millions of empty ones would cost seconds.
MAX_PIECES = 65_536

_OTHER_FORMATS = (
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), "TIFF"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb"....ftyp(hei[cfmsx]|hev[cx]|mif1|msf1)", re.DOTALL), "HEIC"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "JPEG XL"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"\0\0[\x01\x02]\0"), "ICO"),
    (re.compile(rb"8BPS"), "PSD"),
    (re.compile(rb"%PDF-"), "PDF"),
    (re.compile(rb"PK(\x03\x04|\x05\x06)"), "ZIP"),
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (
        re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg", re.DOTALL | re.IGNORECASE),
        "SVG",
    ),
    (re.compile(rb"\s*<(!doctype html|html|head|body)", re.IGNORECASE), "HTML"),
    (re.compile(rb"\s*[\[{]"), "JSON"),
)


class PictureError(ValueError):
    """A picture that cannot be used. Sending the same picture again is pointless.

    `message` says what is wrong and what is accepted; `received` describes what came ("GIF, 43 bytes"). Neither
    ever holds a part of the picture.
    """

    def __init__(self, message: str, *, received: str) -> None:
        super().__init__(message)
        self.message = message
        self.received = received


def sniff(data: bytes) -> PictureFormat | None:
    """The format by the file's first bytes; None if it is not accepted."""
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith(b"BM"):
        return "BMP"
    return None


def describe(data: bytes) -> str:
    """Format and length of a file, for a message; none of its content."""
    kind: str | None = sniff(data)
    if kind is None:
        kind = next((name for pattern, name in _OTHER_FORMATS if pattern.match(data[:1024])), "unknown format")
    return f"{kind}, {len(data)} bytes"


def broken(data: bytes, reason: str) -> PictureError:
    return PictureError(f"cannot be decoded: {reason}", received=describe(data))
