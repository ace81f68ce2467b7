"""
The body of a generation request: JSON or a form, read whole, never interpreted further. JSON is bounded while it
arrives, then parsed strictly.
"""

from __future__ import annotations

import codecs
import json
import re
import secrets
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple, NoReturn

import pybase64
from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import MalformedRequestError, UnsupportedMediaTypeError
from api.forms import Form, read_form, too_much_text
from api.schemas import STRUCTURED_FIELDS, from_form
from api.schemas.byte_objects import in_text
from api.schemas.picture_fields import PICTURE_FIELDS
from services.generation_request import Mode
from services.problems import InvalidParamsError, Problem

#: Everything but the pictures is less than this in any request, prompts aside.
MOST_TEXT_BYTES = 1024 * 1024

#: Of JSON for one character of a prompt: two escaped surrogates.
_CHAR_BYTES = 12

#: Bytes read from the body per call. The worker sets gunicorn's receive size to the same value; anything beyond it
#: would be copied again.
PIECE_BYTES = 256 * 1024

_FORM = "multipart/form-data"
_ACCEPTED = f"send application/json or {_FORM}"
#: How another type comes to be sent.
_WHY_OTHERS = {
    "application/x-www-form-urlencoded": "; curl -d sends that unless -H 'Content-Type: application/json' is there",
    "text/plain": "; fetch sends that for a text unless its headers say 'Content-Type': 'application/json'",
    "image": "; a picture is a field of these",
}

#: Longer bodies are parsed one after another: what that needs beside a body is several times as much, for little values
#: 25 times, and no other thread runs meanwhile anyway.
_LONG_BYTES = 64 * 1024
_PARSING = threading.Lock()

#: Each unknown name is a problem to be found and reported; no request of this service has thirty fields.
_MOST_NAMES = 1000

#: Of a list or an object, and how deep they lie: more than any field takes.
_MOST_ENTRIES = 20
_MOST_LEVELS = 2

#: Shorter pictures are parsed with the rest.
_LARGE_CHARS = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class JsonKind:
    """
    What a body may have.

    :param pictures: fields that may be as large as a body.
    :param flat: whether no field but :data:`STRUCTURED_FIELDS` takes a list or an object. Otherwise a picture may also
        be the one entry of a list.
    """

    pictures: tuple[str, ...]
    flat: bool

    @cached_property
    def picture_begins(self) -> re.Pattern[bytes]:
        """A picture's field, up to the beginning of its base64."""
        names, list_ = "|".join(self.pictures).encode(), b"" if self.flat else rb"(?:\[[ \t\n\r]*)?"
        uri = rb"(?P<uri>(?:data:image/[a-z0-9.+-]{1,30};base64,)?)"
        return re.compile(rb'"(?P<field>' + names + rb')"[ \t\n\r]*:[ \t\n\r]*(?P<list>' + list_ + rb')"' + uri)


#: The service's own API.
OWN_JSON: Final = JsonKind(pictures=PICTURE_FIELDS, flat=True)


def read_values(
    request: Request, mode: Mode, *, max_prompt_chars: int = 10_000, take: Callable[[int], None] = lambda size: None
) -> tuple[dict[str, object], list[Problem]]:
    """
    The request's fields: pictures as base64 text or, uploaded, as bytes.

    :param max_prompt_chars: characters of a prompt, which a body may be full of.
    :param take: called with the size of each piece that has arrived, in bytes; what it raises ends the reading.
    :returns: the values, and what is wrong with the form as such.
    :raises MalformedRequestError: the body is neither a JSON object nor a form.
    :raises UnsupportedMediaTypeError: the body has another type.
    :raises RequestEntityTooLarge: it is larger than ``MAX_BODY_MB``, chunked or not.
    :raises PayloadTooLargeError: besides its pictures, it has more than any request needs.
    :raises InvalidParamsError: the same, and what it has is a picture's bytes as numbers.
    """
    if request.mimetype == "application/json":
        return read_object(request, OWN_JSON, max_prompt_chars=max_prompt_chars, take=take), []
    if request.mimetype == _FORM:
        form = _form(request, take, _most_text(max_prompt_chars))
        return from_form(mode, form.texts) | _structured(form) | form.files, form.problems
    raise _unsupported(request, _ACCEPTED)


def read_fields_of_form(
    request: Request,
    *,
    pictures: Collection[str],
    seconds: Mapping[str, str],
    max_prompt_chars: int,
    take: Callable[[int], None],
) -> tuple[dict[str, object], list[Problem]]:
    """
    The same as :func:`read_values` of a form whose fields have other names than those of :mod:`api.schemas`: numbers
    are still texts.

    :param pictures: the names of fields that take one.
    :param seconds: by the name of a picture's field, what the second of it is called.
    :raises UnsupportedMediaTypeError: the body is no form; and what else :func:`read_values` raises.
    """
    if request.mimetype != _FORM:
        raise _unsupported(request, f"send {_FORM}")
    form = _form(request, take, _most_text(max_prompt_chars), pictures, seconds)
    return form.texts | _structured(form) | form.files, form.problems


def _structured(form: Form) -> dict[str, object]:
    """The fields that are JSON within a form."""
    return {name: _from_json(text) for name, text in form.texts.items() if name in STRUCTURED_FIELDS}


def _unsupported(request: Request, accepted: str) -> UnsupportedMediaTypeError:
    received = request.mimetype or "no content type"
    kind = "image" if received.startswith("image/") else received
    return UnsupportedMediaTypeError(f"{accepted}, not {received[:80]}{_WHY_OTHERS.get(kind, '')}")


def read_object(
    request: Request, kind: JsonKind, *, max_prompt_chars: int, take: Callable[[int], None]
) -> dict[str, object]:
    """The fields of a JSON object, whatever ``Content-Type`` it has. The rest is as in :func:`read_values`."""
    return read_json(_pieces(request, take), most_text=_most_text(max_prompt_chars), kind=kind)


def _most_text(max_prompt_chars: int) -> int:
    return max(MOST_TEXT_BYTES, 2 * _CHAR_BYTES * max_prompt_chars)


def _pieces(request: Request, take: Callable[[int], None]) -> Iterator[bytes]:
    """
    :raises MalformedRequestError: the chunks are broken.
    :raises RequestEntityTooLarge: also after the last piece, if the size was not declared.
    """
    declared, size = request.content_length, 0
    most = declared if declared is not None else request.max_content_length or sys.maxsize
    try:
        while size < most and (piece := request.stream.read(min(PIECE_BYTES, most - size))):
            size += len(piece)
            take(len(piece))
            yield piece
        # A chunked body is cut at the limit by werkzeug's stream, without a word: what is left must not go unnoticed.
        if declared is None and request.environ["wsgi.input"].read(1):
            raise RequestEntityTooLarge
    except ParseException:
        raise MalformedRequestError("the body's chunks are broken") from None


def _form(
    request: Request,
    take: Callable[[int], None],
    most_text: int,
    pictures: Collection[str] = PICTURE_FIELDS,
    seconds: Mapping[str, str] = MappingProxyType({}),
) -> Form:
    boundary = request.mimetype_params.get("boundary", "")
    pieces = _pieces(request, take)
    return read_form(pieces, boundary, piece_bytes=PIECE_BYTES, most_text=most_text, pictures=pictures, seconds=seconds)


def _from_json(text: str) -> object:
    """A list or an object, which a form has as JSON; the text itself if it is none."""
    try:
        value = _parsed(text)
    except MalformedRequestError:
        return text
    return _within(value, _MOST_LEVELS) if isinstance(value, list | dict) else text


class _PictureText(NamedTuple):
    """
    Where a picture's text is in the body, and where its base64 begins behind ``data:image/…;base64,``.

    ``listed``: it is the first entry of a list.
    """

    field: str
    start: int
    base64: int
    end: int
    listed: bool


def read_json(pieces: Iterable[bytes], *, most_text: int, kind: JsonKind = OWN_JSON) -> dict[str, object]:
    """
    The fields of a JSON object: a large picture as bytes. Where fields are flat, of a list or an object only so much as
    says what it is.

    :param pieces: the body as it arrives.
    :param most_text: bytes that it may have besides its pictures, which is what bounds the work of parsing it.
    :raises MalformedRequestError: the body is not a JSON object, or names a field twice.
    :raises PayloadTooLargeError: it has more text.
    :raises InvalidParamsError: it has more text because a picture's bytes are written as numbers, or because there are
        several pictures.
    """
    body = _received(pieces, most_text, kind)
    with _PARSING if len(body) >= _LONG_BYTES else nullcontext():
        fields = _with_large_pictures(body, kind)
        fields = _parsed_object(_decoded(body)) if fields is None else fields
    return {name: _as_far_as_read(name, value) for name, value in fields.items()} if kind.flat else fields


def _with_large_pictures(body: bytearray, kind: JsonKind) -> dict[str, object] | None:
    """
    The fields, if the body has large pictures, which are decoded before the rest is parsed: a parser would look at each
    of their characters, and copy them twice. None if only the whole body can show what it is, or what is wrong with it.
    """
    pictures: dict[str, object] = {}
    words: dict[str, object] = {}
    rest, done = bytearray(), 0
    for text in _picture_texts(body, kind):
        picture = _picture(body, text)
        if picture is not None:
            # A word that nobody can guess stands for it, and must come out of the parser as its field's whole value.
            word = secrets.token_hex(16)
            pictures[text.field] = [picture] if text.listed else picture
            words[text.field] = [word] if text.listed else word
            rest += body[done : text.start] + word.encode()
            done = text.end
    if not pictures:
        return None
    try:
        fields = _parsed_object(_decoded(rest + body[done:]))
    except MalformedRequestError:
        return None
    return fields | pictures if all(fields.get(name) == word for name, word in words.items()) else None


def _picture(body: bytearray, text: _PictureText) -> bytes | None:
    is_large = text.end - text.base64 >= _LARGE_CHARS and text.end < len(body)
    # Base64 that begins with a slash may be meant as a path, unless it is a JPEG's; a path is refused elsewhere.
    if not is_large or (body[text.base64] == ord("/") and not body.startswith(b"/9j/", text.base64)):
        return None
    try:
        return pybase64.b64decode(memoryview(body)[text.base64 : text.end], validate=True)
    except ValueError:
        return None


def _received(pieces: Iterable[bytes], most_text: int, kind: JsonKind) -> bytearray:
    """The whole body. It is looked at each time that it has doubled, so that too large a one is refused early."""
    body, next_look = bytearray(), most_text
    for piece in pieces:
        body += piece
        if len(body) > next_look:
            _check_text(body, most_text, kind)
            next_look = 2 * len(body)
    _check_text(body, most_text, kind)
    return body


def _check_text(body: bytearray, most_text: int, kind: JsonKind) -> None:
    if len(body) <= most_text:
        return
    texts = _picture_texts(body, kind)
    if len(body) - sum(text.end - text.start for text in texts) <= most_text:
        return
    if found := in_text(body):
        field, message = found
        raise InvalidParamsError([Problem(field=field, message=message)])
    for text in texts:
        if text.listed and _ANOTHER.match(body, text.end):
            raise InvalidParamsError([Problem(field=text.field, message="must have exactly one picture")])
    raise too_much_text(most_text, kind.pictures)


#: What follows an entry of a list, but for the last.
_ANOTHER = re.compile(rb'"[ \t\n\r]*,')


def _picture_texts(body: bytearray, kind: JsonKind) -> list[_PictureText]:
    """
    The first text of each picture field, up to the next quote or the end: base64 has no quote, and whatever else stands
    there is one string to a parser.
    """
    texts: dict[str, _PictureText] = {}
    at = 0
    while len(texts) < len(kind.pictures) and (found := kind.picture_begins.search(body, at)):
        at, field = found.end(), found["field"].decode()
        if field not in texts:
            end = body.find(b'"', at)
            listed = found["list"].startswith(b"[")
            texts[field] = _PictureText(field, found.start("uri"), at, len(body) if end < 0 else end, listed)
            at = texts[field].end
    return list(texts.values())


def _as_far_as_read(name: str, value: object) -> object:
    return _within(value, _MOST_LEVELS) if name in STRUCTURED_FIELDS else _without_inside(value)


def _within(value: object, levels: int) -> object:
    """A list or an object as far as a field could have it; one entry or level more is enough to refuse it."""
    if levels == 0:
        return _without_inside(value)
    if isinstance(value, list):
        return [_within(entry, levels - 1) for entry in value[:_MOST_ENTRIES]]
    if isinstance(value, dict):
        return {name: _within(entry, levels - 1) for name, entry in islice(value.items(), _MOST_ENTRIES)}
    return value


def _without_inside(value: object) -> object:
    """Most fields take neither a list nor an object; the beginning of one is enough to say what it is."""
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
        twice = ", not a string: it was encoded as JSON twice" if isinstance(values, str) else ""
        raise MalformedRequestError(f"the body must be a JSON object{twice}")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise MalformedRequestError("a field's name contains a lone surrogate") from None
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
        raise MalformedRequestError("the body contains a number that cannot be read") from None


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
