"""Large pictures are taken out of a JSON body while it arrives, before it is parsed.

A JSON parser looks at each of their characters and makes text of them: 20 times the work of decoding them as they
come. What is taken out is replaced by a word that nobody can guess, and must come out of the parser as the whole value
of its field; wherever anything is unusual, nothing is taken out.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import pybase64

#: Below, there is nothing to be gained.
_LARGE_CHARS = 64 * 1024

#: Base64 that begins with a slash may be meant as a path, unless it is a JPEG's: that is looked at elsewhere.
_BEGINS = re.compile(rb'"(image|mask)"[ \t\n\r]*:[ \t\n\r]*"(?:data:image/[a-z0-9.+-]{1,30};base64,)?(?!/(?!9j/))')

#: Room for a picture that is made before it has come.
_MOST_ROOM_BYTES = 4 * 1024 * 1024

#: Of what has been looked through, looked at once more with what comes next: a beginning may be cut in two.
_OVERLAP_CHARS = 256


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


def take_out(pieces: Iterable[bytes], *, size: int | None = None) -> Shortened:
    """
    A body without its large pictures, those aside that an ordinary parser must judge.

    :param pieces: the body as it comes.
    :param size: of the body in bytes, where its sender has told it.
    """
    return _Reader(pieces, room=min((size or 0) // 4 * 3, _MOST_ROOM_BYTES)).read()


class _Reader:
    """``_text`` is what has come, without what was taken out of it; before ``_done`` no picture begins any more."""

    def __init__(self, pieces: Iterable[bytes], *, room: int) -> None:
        self._coming = iter(pieces)
        self._room = room
        self._text = bytearray()
        self._done = 0
        self._taken: dict[str, _Taken] = {}
        self._seen: set[bytes] = set()

    def read(self) -> Shortened:
        for piece in self._coming:
            self._text += piece
            while (found := _BEGINS.search(self._text, self._done)) is not None and self._pass(found[1], found.span()):
                pass
            if found is None:
                self._done = max(self._done, len(self._text) - _OVERLAP_CHARS)
        return Shortened(text=bytes(self._text), _taken=self._taken)

    def _pass(self, field: bytes, span: tuple[int, int]) -> bool:
        """False where more must come first, or all has."""
        start, begin = span
        end = self._text.find(b'"', begin)
        if end < 0 and len(self._text) - begin < _LARGE_CHARS:
            self._done = start
            return False
        if field in self._seen:  # a million of them would be looked at for nothing: no request is right that has two
            self._text += b"".join(self._coming)
            return False
        self._seen.add(field)
        if 0 <= end < begin + _LARGE_CHARS:
            self._done = end
            return True
        return self._take(field.decode(), begin)

    def _take(self, field: str, begin: int) -> bool:
        """Decodes the picture that begins there; False where it is none, and all has come."""
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
            self._text += b"".join((pybase64.b64encode(data.getvalue()), chars, *self._coming))
            return False
        data.write(piece)
        # With its prefix, if it has one: the word is to be the whole value.
        value = self._text.rfind(b'"') + 1
        word = secrets.token_hex(16).encode()
        self._taken[field] = _Taken(word=word, prefix=bytes(self._text[value:]), picture=data.getvalue())
        self._text[value:] = word
        self._done = len(self._text)
        self._text += chars[end:]
        return True


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
