"""The body of a generation request: JSON or a form, read whole, never interpreted further."""

from __future__ import annotations

import codecs
import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import MalformedRequestError, UnsupportedMediaTypeError
from api.forms import read_form, too_much_text
from api.large_pictures import Shortened, TooMuchTextError, take_out
from api.schemas import from_form
from api.schemas.byte_objects import in_text
from services.generation import Mode
from services.problems import InvalidParamsError, Problem

#: Everything but the pictures is less than this in any request, prompts aside.
_MOST_TEXT_BYTES = 1024 * 1024

#: Of JSON for one character of a prompt: two escaped surrogates.
_CHAR_BYTES = 12

#: Larger ones are parsed one after another. Of little values a parser makes 25 times as many bytes, and while it does,
#: no other thread runs anyhow.
_LARGE_TEXT_BYTES = 64 * 1024
_PARSING = threading.Lock()

#: Each unknown name is a problem to be found and told; no request of this service has thirty fields.
_MOST_NAMES = 1000

#: Of a body, read at a time. gunicorn copies what a call reads beyond its piece: it is told the same.
PIECE_BYTES = 256 * 1024

_ACCEPTED = "send application/json or multipart/form-data"
#: How another type comes to be sent.
_WHY_OTHERS = {
    "application/x-www-form-urlencoded": "; curl -d sends that unless -H 'Content-Type: application/json' is there",
    "text/plain": "; fetch sends that for a text unless its headers say 'Content-Type': 'application/json'",
    "image": "; a picture is a field of these",
}


def read_values(
    request: Request, mode: Mode, *, max_prompt_chars: int = 10_000, take: Callable[[int], None] = lambda size: None
) -> tuple[dict[str, object], list[Problem]]:
    """
    The request's fields: pictures as base64 text or, uploaded, as bytes.

    :param max_prompt_chars: of which a body may be full, on top of what is allowed beside pictures.
    :param take: called with the bytes of each piece that has come; what it raises ends the reading.
    :returns: the values, and what is wrong with the form as such.
    :raises MalformedRequestError: no JSON object, or no form.
    :raises UnsupportedMediaTypeError: another type of body.
    :raises RequestEntityTooLarge: larger than ``MAX_BODY_MB``, chunked or not.
    :raises PayloadTooLargeError: more beside its pictures than any request needs.
    :raises InvalidParamsError: the same, and what it has is a picture's bytes as numbers.
    """
    most_text = max(_MOST_TEXT_BYTES, 2 * _CHAR_BYTES * max_prompt_chars)
    try:
        if request.mimetype == "application/json":
            return _json(_pieces(request, take), request.content_length, most_text), []
        if request.mimetype == "multipart/form-data":
            return _form(_pieces(request, take), request.mimetype_params.get("boundary", ""), mode, most_text)
    except ParseException:
        raise MalformedRequestError("the body's chunks are broken") from None
    received = request.mimetype or "no content type"
    kind = "image" if received.startswith("image/") else received
    raise UnsupportedMediaTypeError(f"{_ACCEPTED}, not {received[:80]}{_WHY_OTHERS.get(kind, '')}")


def _json(pieces: Iterable[bytes], size: int | None, most_text: int) -> dict[str, object]:
    try:
        short = take_out(pieces, size=size, most_text=most_text)
    except TooMuchTextError as error:
        if found := in_text(error.beginning):
            field, message = found
            raise InvalidParamsError([Problem(field=field, message=message)]) from None
        raise too_much_text(most_text) from None
    values = _soon_parsed(short)
    if values is None:
        with _PARSING:
            values = {name: _without_inside(value) for name, value in _json_object(short.whole()).items()}
    return values


def _soon_parsed(short: Shortened) -> dict[str, object] | None:
    """None where parsing takes a while, or only the whole body can tell what it is, what is wrong included."""
    if len(short.text) >= _LARGE_TEXT_BYTES:
        return None
    if not short.pictures:
        return _json_object(short.text)
    try:
        values = _json_object(short.text)
    except MalformedRequestError:
        return None
    return values if short.put_back(values) else None


def _without_inside(value: object) -> object:
    """No field takes a list or an object; the beginning of one is enough to say what it is."""
    if isinstance(value, list):
        return [entry if isinstance(entry, int) else None for entry in value[:1]]
    if isinstance(value, dict) and value:
        kept = {name: entry for name in ("type", "0") if isinstance(entry := value.get(name), int | str)}
        return kept or {next(iter(value)): None}
    return value


def _pieces(request: Request, take: Callable[[int], None]) -> Iterator[bytes]:
    """:raises RequestEntityTooLarge: behind the last piece, too, where its size was not told."""
    told, size = request.content_length, 0
    most = told if told is not None else request.max_content_length or sys.maxsize
    while size < most and (piece := request.stream.read(min(PIECE_BYTES, most - size))):
        size += len(piece)
        take(len(piece))
        yield piece
    # A chunked body is cut at the limit by werkzeug's stream, without a word: what is left must not be left unnoticed.
    if told is None and request.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge


def _json_object(text: bytes) -> dict[str, object]:
    if not text.strip():
        raise MalformedRequestError("the body is empty; send a JSON object")
    values = _parsed(text)
    if not isinstance(values, dict):
        twice = ", and is a text: it was made JSON twice" if isinstance(values, str) else ""
        raise MalformedRequestError(f"the body must be a JSON object{twice}")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise MalformedRequestError("a field's name has a lone surrogate in it") from None
    return values


def _parsed(data: bytes) -> object:
    if data.startswith(codecs.BOM_UTF8):
        raise MalformedRequestError("the body begins with a byte order mark; send JSON without one")
    try:
        # Decoded here, because json would take UTF-16, UTF-32 and lone surrogates for JSON too.
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except MalformedRequestError:
        raise
    except UnicodeDecodeError:
        raise MalformedRequestError("the body is not UTF-8") from None
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


def _form(
    pieces: Iterable[bytes], boundary: str, mode: Mode, most_text: int
) -> tuple[dict[str, object], list[Problem]]:
    form = read_form(pieces, boundary, piece_bytes=PIECE_BYTES, most_text=most_text)
    return from_form(mode, form.texts) | form.files, form.problems
