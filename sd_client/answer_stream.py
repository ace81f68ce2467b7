"""A WebUI's answer as it arrives: its pictures are decoded piece by piece, and their base64 is never held.

The servers all begin with ``{"images": ["…", "…"]`` and bare base64. What begins otherwise, or holds anything else
there (an escape, a data URI, null, ``images`` a second time), is read whole by an ordinary JSON reader: base64 that
has been decoded by then is encoded again, which gives the same text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pybase64
from pydantic_core import from_json

from sd_client.errors import InvalidAnswerError
from spool import FileData, Spool

#: JSON's white space, and nothing else.
_BLANKS = b" \t\n\r"
_FIRST = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"images"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*"')
_NEXT = re.compile(rb'"[ \t\n\r]*,[ \t\n\r]*"')
_LAST = re.compile(rb'"[ \t\n\r]*\][ \t\n\r]*([,}])[ \t\n\r]*')

#: Decoded on the way, at most: a batch and its grid. With each, what is left of a piece is copied, so that a million
#: empty ones would cost hours.
_MOST_PICTURES = 64

#: What must tell whether another picture begins. Nobody puts more blanks there.
_LOOK_BYTES = 64


def read_object(pieces: Iterable[bytes]) -> dict[str, Any]:
    """
    The JSON object that the pieces are of: of its ``images`` those that were decoded on the way are files, the others
    what JSON has there.

    :raises InvalidAnswerError: no JSON, or no object.
    """
    return AnswerStream(pieces).object()


class AnswerStream:
    """
    Takes all pieces at once; what they are is asked for later, when it is known that the last one has come.

    :param pieces: of the body, cut anywhere.
    :param new_file: what a picture is decoded into.
    """

    def __init__(self, pieces: Iterable[bytes], new_file: Callable[[], Spool] = Spool) -> None:
        #: The text before each picture, and the picture.
        self._read: list[tuple[bytes, FileData]] = []
        self._rest = io.BytesIO()
        left = iter(pieces)
        text = _enough(b"", left)
        while len(self._read) < _MOST_PICTURES and (start := (_NEXT if self._read else _FIRST).match(text)) is not None:
            picture = _Base64(new_file())
            after = _until_quote(picture, text[start.end() :], left)
            self._read.append((start[0], picture.file.finished()))
            if picture.rest or not after:
                text = picture.rest + after
                break
            text = _enough(after, left)
        self._rest.write(text)
        for piece in left:
            self._rest.write(piece)

    def object(self) -> dict[str, Any]:
        """:raises InvalidAnswerError: no JSON, or no object."""
        rest = self._rest.getvalue()
        fields = _after_pictures(rest) if self._read else None
        if fields is not None:
            return {"images": [picture for _, picture in self._read], **fields}
        try:
            answer = from_json(b"".join((*self._texts(), rest)))
        except ValueError as error:
            raise InvalidAnswerError("the WebUI's answer is not JSON") from error
        if not isinstance(answer, dict):
            raise InvalidAnswerError("the WebUI's answer is not an object")
        return answer

    def _texts(self) -> Iterator[bytes]:
        for before, picture in self._read:
            yield before
            yield pybase64.b64encode(picture[:])


class _Base64:
    """Decodes text that comes in pieces. ``rest``: what could not be decoded, empty as long as it is base64."""

    def __init__(self, file: Spool) -> None:
        self.file = file
        self._padded = False
        self.rest = b""

    def write(self, text: memoryview) -> bool:
        """False for what is no base64; nothing may be written after that. ``rest`` has up to 3 characters else."""
        if self.rest:
            missing = 4 - len(self.rest)
            text, quad = text[missing:], self.rest + text[:missing]
            self.rest = b""
            if len(quad) < 4:
                self.rest = quad
                return True
            if not self._decode(quad):
                self.rest = quad + text
                return False
        whole = len(text) & ~3
        if not self._decode(text[:whole]):
            self.rest = bytes(text)
            return False
        self.rest = bytes(text[whole:])
        return True

    def _decode(self, quads: bytes | memoryview) -> bool:
        if not quads:
            return True
        if self._padded:  # the end of the text was before
            return False
        padded = quads[-1] == ord("=")
        try:
            if padded and not _is_canonical(bytes(quads[-4:])):
                return False
            self.file.write(pybase64.b64decode(quads, validate=True))
        except ValueError:
            return False
        self._padded = padded
        return True


def _is_canonical(quad: bytes) -> bool:
    """Whether it is what its bytes are encoded as: the bits that padding leaves over may be anything else."""
    return pybase64.b64encode(pybase64.b64decode(quad, validate=True)) == quad


def _until_quote(picture: _Base64, text: bytes, left: Iterator[bytes]) -> bytes:
    """What follows the picture, from its closing quote on; empty where the answer ends before."""
    while True:
        end = text.find(b'"')
        if not picture.write(memoryview(text)[: len(text) if end < 0 else end]) or end >= 0:
            return text[end:] if end >= 0 else b""
        text = next(left, b"")
        if not text:
            return b""


def _enough(text: bytes, left: Iterator[bytes]) -> bytes:
    """The text, made as long as it must be to tell what comes; shorter only at the answer's end."""
    while len(text) < _LOOK_BYTES and (piece := next(left, b"")):
        text += piece
    return text


def _after_pictures(text: bytes) -> dict[str, Any] | None:
    """The other fields, from the quote on that closes the last picture; None where an ordinary reader must judge."""
    end = _LAST.match(text)
    if end is None:
        return None
    rest = text[end.end() :]
    if end[1] == b"}":
        return None if rest.strip(_BLANKS) else {}
    if not rest.startswith(b'"'):
        return None
    try:
        fields: dict[str, Any] = from_json(b"{" + rest)
    except ValueError:
        return None
    return None if "images" in fields else fields
