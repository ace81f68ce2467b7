"""Large pictures are taken out of a JSON body before it is parsed.

A JSON parser looks at each of their characters and makes text of them: 20 times the work of decoding them where they
stand. What is taken out is replaced by a word that nobody can guess, and must come out of the parser as the whole value
of its field; wherever anything is unusual, nothing is taken out.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

import pybase64

#: Below, there is nothing to be gained.
_LARGE_CHARS = 64 * 1024

#: Base64 that begins with a slash may be meant as a path, unless it is a JPEG's: that is looked at elsewhere.
_BEGINS = re.compile(rb'"(image|mask)"[ \t\n\r]*:[ \t\n\r]*"(?:data:image/[a-z0-9.+-]{1,30};base64,)?(?!/(?!9j/))')


@dataclass(frozen=True, kw_only=True)
class Shortened:
    """
    :param text: the body without its large pictures.
    :param pictures: by field: what stands in ``text`` instead, and the picture.
    """

    text: bytes
    pictures: dict[str, tuple[str, bytes]]

    def put_back(self, values: dict[str, object]) -> bool:
        """Whether each picture is its field's whole value; only then it is put there."""
        if any(values.get(field) != word for field, (word, _) in self.pictures.items()):
            return False
        values.update({field: picture for field, (_, picture) in self.pictures.items()})
        return True


def take_out(body: bytes) -> Shortened | None:
    """None where there is no large picture, or one that an ordinary parser must judge."""
    pieces: list[bytes] = []
    pictures: dict[str, tuple[str, bytes]] = {}
    seen: set[str] = set()
    done = 0
    while (found := _BEGINS.search(body, done)) is not None:
        field = found[1].decode()
        if field in seen:  # a million of them would be looked at for nothing: no request is right that has two
            return None
        seen.add(field)
        end = body.find(b'"', found.end())
        if end - found.end() < _LARGE_CHARS:
            pieces.append(body[done : found.end()])
            done = found.end()
            continue
        try:
            picture = pybase64.b64decode(memoryview(body)[found.end() : end], validate=True)
        except ValueError:
            return None
        pictures[field] = secrets.token_hex(16), picture
        # With its prefix, if it has one: the word is to be the whole value.
        pieces += [body[done : found.end()].rpartition(b'"')[0], b'"', pictures[field][0].encode()]
        done = end
    return Shortened(text=b"".join((*pieces, body[done:])), pictures=pictures) if pictures else None
