"""A form's fields, read while they arrive: texts up to a bound, pictures as bytes."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from api.errors import MalformedRequestError, PayloadTooLargeError
from api.schemas.picture_fields import PICTURE_FIELDS
from services.picture_formats import sniff
from services.problems import Problem

#: No request of this service has as many fields.
MOST_PARTS = 100

#: A part's name and its other headers.
_MOST_HEAD_BYTES = 64 * 1024

GIVEN_TWICE = "is given more than once"

_LINE_END = re.compile(rb"[\r\n]")


@dataclass(kw_only=True)
class _Part:
    """``is_file``: it came with a file's name."""

    name: str
    is_file: bool
    data: io.BytesIO = field(default_factory=io.BytesIO)


@dataclass(frozen=True, kw_only=True)
class Form:
    """
    :param texts: of fields; :param files: what came as a file, and each picture that came as its bytes.
    """

    texts: dict[str, str]
    files: dict[str, bytes]
    problems: list[Problem]


def read_form(
    pieces: Iterable[bytes],
    boundary: str,
    *,
    piece_bytes: int,
    most_text: int,
    pictures: Collection[str] = PICTURE_FIELDS,
    seconds: Mapping[str, str] = MappingProxyType({}),
) -> Form:
    """
    :param pieces: the body as it arrives, each of at most ``piece_bytes``.
    :param most_text: bytes that it may have besides its pictures.
    :param pictures: the names of fields that take one.
    :param seconds: by the name of a picture's field, what the second of it is called.
    :raises MalformedRequestError: it is not a form.
    :raises PayloadTooLargeError: it has more parts, or more text, than any request needs.
    """
    if not boundary or not boundary.isascii():
        raise MalformedRequestError("the form's Content-Type has no boundary; let a library write both")
    parts = list(_parts(_events(pieces, boundary, piece_bytes), most_text, pictures))
    for name, other in seconds.items():
        for second in [part for part in parts if part.name == name][1:2]:
            second.name = other
    if not parts:
        raise MalformedRequestError("the form has no fields, or its boundary is wrong")
    form = Form(texts={}, files={}, problems=_given_twice(parts))
    for part in parts:
        _add(part, form, {*pictures, *seconds.values()})
    return form


def _events(pieces: Iterable[bytes], boundary: str, piece_bytes: int) -> Iterator[Event]:
    """:raises MalformedRequestError:"""
    decoder = MultipartDecoder(boundary.encode(), max_form_memory_size=piece_bytes + _MOST_HEAD_BYTES)
    for piece in chain(_ending_at_lines(pieces, len(boundary)), [None]):
        try:
            decoder.receive_data(piece)
        except RequestEntityTooLarge:
            raise MalformedRequestError("the form's boundary is wrong, or a part's header is too large") from None
        while not isinstance(event := _next_event(decoder), NeedData):
            yield event
            if isinstance(event, Epilogue):
                return


def _ending_at_lines(pieces: Iterable[bytes], boundary_chars: int) -> Iterator[bytes]:
    """The same pieces, with no boundary cut in two: before one without its last dash, werkzeug leaves the part a CR."""
    longest = boundary_chars + len("\r\n----\r\n")
    left = b""
    for piece in pieces:
        left += piece
        found = _LINE_END.search(left, max(0, len(left) - longest))
        end = found.start() if found else len(left)
        if end:
            yield left[:end]
            left = left[end:]
    yield left


def _next_event(decoder: MultipartDecoder) -> Event:
    try:
        return decoder.next_event()
    except ValueError:
        raise MalformedRequestError("the form is broken: it ends too early, or a part has an invalid header") from None


def _parts(events: Iterable[Event], most_text: int, pictures: Collection[str]) -> Iterator[_Part]:
    """
    :raises MalformedRequestError:
    :raises PayloadTooLargeError:
    """
    text_bytes = count = 0
    part: _Part | None = None
    for event in events:
        if isinstance(event, Field | File):
            count += 1
            if count > MOST_PARTS:
                raise PayloadTooLargeError(f"the form has more than {MOST_PARTS} parts")
            if event.name is None:
                raise MalformedRequestError("a part of the form has no name")
            part = _Part(name=event.name, is_file=isinstance(event, File))
            text_bytes += len(part.name)
        elif isinstance(event, Data) and part is not None:
            if part.name not in pictures:
                text_bytes += len(event.data)
            if text_bytes > most_text:
                raise too_much_text(most_text, pictures)
            part.data.write(event.data)
            if not event.more_data:
                yield part


def too_much_text(most_text: int, pictures: Collection[str] = PICTURE_FIELDS) -> PayloadTooLargeError:
    """The refusal of a body that has more besides its pictures than any request needs."""
    names = " and ".join(map(repr, pictures))
    return PayloadTooLargeError(f"the body has more than {most_text / 1024**2:.3g} MB besides the pictures in {names}")


def _given_twice(parts: Iterable[_Part]) -> list[Problem]:
    counts = Counter(part.name for part in parts)
    return [Problem(field=name[:80], message=GIVEN_TWICE) for name, count in counts.items() if count > 1]


def _add(part: _Part, form: Form, pictures: Collection[str]) -> None:
    data = part.data.getvalue()
    text = None if part.is_file or (part.name in pictures and sniff(data)) else _utf_8(data)
    if text is not None:
        form.texts[part.name] = text
    elif part.is_file or part.name in pictures:
        form.files[part.name] = data
    else:
        form.problems.append(Problem(field=part.name[:80], message="must be UTF-8 text"))


def _utf_8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
