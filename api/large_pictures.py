"""Large pictures are taken out of a JSON body while it arrives, before it is parsed.

A JSON parser looks at each of their characters and makes text of them: 20 times the work of decoding them as they
come. What is taken out is replaced by a word that nobody can guess, and must come out of the parser as the whole value
of its field; wherever anything is unusual, nothing is taken out.
"""

from __future__ import annotations

import io
import re
import secrets
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import pybase64

from api.schemas.picture_fields import PICTURE_FIELDS, PICTURE_FIELDS_PATTERN

#: Below, there is nothing to be gained.
_LARGE_CHARS = 64 * 1024

_BEGINS = re.compile(
    b'"' + PICTURE_FIELDS_PATTERN + rb'"[ \t\n\r]*:[ \t\n\r]*"(?:data:image/[a-z0-9.+-]{1,30};base64,)?'
)

#: Room for a picture that is made before it has come.
_MOST_ROOM_BYTES = 4 * 1024 * 1024

#: Of what has been looked through, looked at once more with what comes next: a beginning may be cut in two.
_OVERLAP_CHARS = 256


class TooMuchTextError(ValueError):
    """There is more beside the pictures than any request needs. ``beginning``: of the body, without the pictures."""

    def __init__(self, beginning: bytes) -> None:
        super().__init__("the body is too large beside its pictures")
        self.beginning = beginning


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """``prefix``: of a data URI, or empty."""

    word: bytes
    prefix: bytes
    picture: bytes


@dataclass(frozen=True, kw_only=True)
class Shortened:
    """
    :param text: the body without its large pictures.
    """

    text: bytes
    _taken: dict[str, _Taken]

    @property
    def pictures(self) -> dict[str, bytes]:
        """By field."""
        return {field: taken.picture for field, taken in self._taken.items()}

    def put_back(self, values: dict[str, object]) -> bool:
        """Whether each picture is its field's whole value; only then it is put there."""
        if any(values.get(field) != taken.word.decode() for field, taken in self._taken.items()):
            return False
        values.update(self.pictures)
        return True

    def whole(self) -> bytes:
        """The body as it came."""
        text = self.text
        for taken in self._taken.values():
            text = text.replace(taken.word, taken.prefix + pybase64.b64encode(taken.picture))
        return text


def take_out(pieces: Iterable[bytes], *, size: int | None = None, most_text: int = sys.maxsize) -> Shortened:
    """
    A body without its large pictures, those aside that an ordinary parser must judge.

    :param pieces: the body as it comes.
    :param size: of the body in bytes, where its sender has told it.
    :param most_text: bytes that it may have beside its pictures.
    :raises TooMuchTextError: as soon as it has more.
    """
    room = min((size or 0) // 4 * 3, _MOST_ROOM_BYTES)
    return _Reader(pieces, room=room, most_text=most_text).read()


class _Reader:
    """
    ``_text`` is what has come, without what was taken out of it; before ``_done`` no picture begins any more.

    :ivar _open: from where on the text belongs to a picture that stays in it, and has not come to its end.
    :ivar _picture_chars: of the text, in pictures that stay in it.
    """

    def __init__(self, pieces: Iterable[bytes], *, room: int, most_text: int) -> None:
        self._coming = iter(pieces)
        self._room = room
        self._most_text = most_text
        self._text = bytearray()
        self._done = 0
        self._open: int | None = None
        self._picture_chars = 0
        self._taken: dict[str, _Taken] = {}
        self._seen: set[bytes] = set()

    def read(self) -> Shortened:
        for piece in self._coming:
            self._text += piece
            while self._look():
                pass
            if len(self._text) - self._picture_chars > self._most_text:
                raise TooMuchTextError(bytes(self._text))
        return Shortened(text=bytes(self._text), _taken=self._taken)

    def _look(self) -> bool:
        """False where more must come first."""
        if self._open is not None:
            return self._pass_open(self._open)
        if len(self._seen) == len(PICTURE_FIELDS):
            return False
        found = _BEGINS.search(self._text, self._done)
        if found is None:
            self._done = max(self._done, len(self._text) - _OVERLAP_CHARS)
            return False
        return self._pass(found)

    def _pass_open(self, start: int) -> bool:
        end = self._text.find(b'"', start)
        self._picture_chars += (end if end >= 0 else len(self._text)) - start
        self._open = len(self._text) if end < 0 else None
        self._done = max(end, self._done)
        return end >= 0

    def _pass(self, found: re.Match[bytes]) -> bool:
        field, (start, begin) = found[1], found.span()
        end = self._text.find(b'"', begin)
        large = end < 0 or end - begin >= _LARGE_CHARS
        if end < 0 and len(self._text) - begin < _LARGE_CHARS:
            self._done = start
            return False
        if field in self._seen:  # no request is right that has two
            self._done = begin
            return True
        self._seen.add(field)
        # Base64 that begins with a slash may be meant as a path, unless it is a JPEG's: that is looked at elsewhere.
        if large and (self._text[begin] != ord("/") or self._text.startswith(b"/9j/", begin)):
            self._take(field.decode(), begin)
        else:
            self._open = begin
        return True

    def _take(self, field: str, begin: int) -> None:
        """Decodes the picture that begins there; it stays in the text where it is none."""
        data, chars = _buffer(self._room), bytes(self._text[begin:])
        del self._text[begin:]
        while (end := chars.find(b'"')) < 0:
            whole = len(chars) // 4 * 4
            piece = _decoded(chars[:whole])
            if piece is None or len(piece) % 3:  # padding, where more is to come
                break
            data.write(piece)
            chars = chars[whole:] + (more := next(self._coming, b""))
            if not more:
                break
        data.truncate()
        piece = None if end < 0 else _decoded(chars[:end])
        if piece is None:
            self._text += pybase64.b64encode(data.getvalue()) + chars
            self._open = begin
            return
        data.write(piece)
        # With its prefix, if it has one: the word is to be the whole value.
        value = self._text.rfind(b'"') + 1
        word = secrets.token_hex(16).encode()
        self._taken[field] = _Taken(word=word, prefix=bytes(self._text[value:]), picture=data.getvalue())
        self._text[value:] = word
        self._done = len(self._text)
        self._text += chars[end:]


def _buffer(room: int) -> io.BytesIO:
    """To be cut where its writer stands. One that grows is copied again and again, each time to new memory."""
    data = io.BytesIO()
    data.seek(room)
    data.write(b"\0")
    data.seek(0)
    return data


def _decoded(chars: bytes) -> bytes | None:
    """None for what is no base64, and for what has bits behind its last byte: encoded again it is another text."""
    try:
        data = pybase64.b64decode(chars, validate=True)
    except ValueError:
        return None
    tail = len(data) // 3
    return data if pybase64.b64encode(data[3 * tail :]) == chars[4 * tail :] else None
