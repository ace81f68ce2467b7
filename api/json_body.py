"""A JSON body: bounded while it arrives, then parsed strictly."""

from __future__ import annotations

import codecs
import json
import re
import threading
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import NoReturn

from api.errors import MalformedRequestError
from api.forms import too_much_text
from api.schemas.byte_objects import in_text
from api.schemas.picture_fields import PICTURE_FIELDS, PICTURE_FIELDS_PATTERN
from services.problems import InvalidParamsError, Problem

#: Longer texts are parsed one after another. Little values become up to 25 times as many bytes when they are parsed,
#: and no other thread runs meanwhile anyway.
_LONG_CHARS = 64 * 1024
_PARSING = threading.Lock()

#: Each unknown name is a problem to be found and reported; no request of this service has thirty fields.
_MOST_NAMES = 1000

#: A picture's field, up to the beginning of its text.
_PICTURE_BEGINS = re.compile(b'"' + PICTURE_FIELDS_PATTERN + rb'"[ \t\n\r]*:[ \t\n\r]*"')


def read_json(pieces: Iterable[bytes], *, most_text: int) -> dict[str, object]:
    """
    The fields of a JSON object; of a list or an object inside only so much as says what it is.

    :param pieces: the body as it arrives.
    :param most_text: bytes that it may have beside its pictures, which is what bounds the work of parsing it.
    :raises MalformedRequestError: the body is not a JSON object, or names a field twice.
    :raises PayloadTooLargeError: it has more text.
    :raises InvalidParamsError: it has more text because a picture's bytes are written as numbers.
    """
    text = _decoded(_received(pieces, most_text))
    with _PARSING if len(text) >= _LONG_CHARS else nullcontext():
        return {name: _without_inside(value) for name, value in _parsed_object(text).items()}


def _received(pieces: Iterable[bytes], most_text: int) -> bytearray:
    """The whole body. It is looked at each time that it has doubled, so that too large a one is refused early."""
    body, next_look = bytearray(), most_text
    for piece in pieces:
        body += piece
        if len(body) > next_look:
            _check_text(body, most_text)
            next_look = 2 * len(body)
    _check_text(body, most_text)
    return body


def _check_text(body: bytearray, most_text: int) -> None:
    if len(body) <= most_text or _text_bytes(body) <= most_text:
        return
    if found := in_text(body):
        field, message = found
        raise InvalidParamsError([Problem(field=field, message=message)])
    raise too_much_text(most_text)


def _text_bytes(body: bytearray) -> int:
    """
    Bytes outside the text of each picture, which ends at the next quote: base64 has none, and whatever else stands
    there is one string to a parser. A field that is named again has a text like any other.
    """
    pictures: dict[bytes, int] = {}
    at = 0
    while len(pictures) < len(PICTURE_FIELDS) and (found := _PICTURE_BEGINS.search(body, at)):
        at = found.end()
        if found[1] not in pictures:
            end = body.find(b'"', at)
            pictures[found[1]] = (len(body) if end < 0 else end) - at
            at += pictures[found[1]]
    return len(body) - sum(pictures.values())


def _without_inside(value: object) -> object:
    """No field takes a list or an object; the beginning of one is enough to say what it is."""
    if isinstance(value, list):
        return [entry if isinstance(entry, int) else None for entry in value[:1]]
    if isinstance(value, dict) and value:
        kept = {name: entry for name in ("type", "0") if isinstance(entry := value.get(name), int | str)}
        return kept or {next(iter(value)): None}
    return value


def _decoded(body: bytearray) -> str:
    """Decoded here, because json would also accept UTF-16, UTF-32 and lone surrogates."""
    if body.startswith(codecs.BOM_UTF8):
        raise MalformedRequestError("the body begins with a byte order mark; send JSON without one")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedRequestError("the body is not UTF-8") from None
    if not text or text.isspace():
        raise MalformedRequestError("the body is empty; send a JSON object")
    return text


def _parsed_object(text: str) -> dict[str, object]:
    values = _parsed(text)
    if not isinstance(values, dict):
        twice = ", and is a text: it was made JSON twice" if isinstance(values, str) else ""
        raise MalformedRequestError(f"the body must be a JSON object{twice}")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise MalformedRequestError("a field's name has a lone surrogate in it") from None
    return values


def _parsed(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except MalformedRequestError:
        raise
    except RecursionError:
        raise MalformedRequestError("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise MalformedRequestError(f"the body is not JSON: {error.msg} at {place}") from None
    except ValueError:
        raise MalformedRequestError("the body holds a number that cannot be read") from None


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Which of two values is meant cannot be known."""
    if len(pairs) > _MOST_NAMES:
        raise MalformedRequestError(f"the body names more than {_MOST_NAMES} fields")
    values: dict[str, object] = {}
    for name, value in pairs:
        if name in values:
            raise MalformedRequestError(f"the body names {name[:80]!r} twice")
        values[name] = value
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedRequestError(f"the body is not JSON: {name} is not a JSON number")
