"""The body of a generation request: JSON or a form, read whole, never interpreted further."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import MalformedRequestError, UnsupportedMediaTypeError
from api.large_pictures import Shortened, take_out
from api.schemas import from_form
from services.generation import Mode
from services.problems import Problem

#: What werkzeug puts in the place of bytes that are no UTF-8. One that was sent cannot be told from that.
_UNDECODABLE = "\ufffd"

#: Each unknown name is a problem to be found and told; no request of this service has thirty fields.
_MOST_NAMES = 1000

#: Of a body, read at a time. gunicorn copies what a call reads beyond its piece: it is told the same.
PIECE_BYTES = 256 * 1024

_ACCEPTED = "send application/json or multipart/form-data"


def read_values(request: Request, mode: Mode) -> tuple[dict[str, object], list[Problem]]:
    """
    The request's fields: pictures as base64 text or, uploaded, as bytes.

    :returns: the values, and what is wrong with the form as such.
    :raises MalformedRequestError: no JSON object, or no form.
    :raises UnsupportedMediaTypeError: another type of body.
    :raises RequestEntityTooLarge: larger than ``MAX_BODY_MB``, chunked or not.
    """
    try:
        if request.mimetype == "application/json":
            return _json_object(take_out(_pieces(request), size=request.content_length)), []
        if request.mimetype == "multipart/form-data":
            return _form(request, mode)
    except ParseException:
        raise MalformedRequestError("the body's chunks are broken") from None
    received = request.mimetype or "no content type"
    raise UnsupportedMediaTypeError(f"{_ACCEPTED}, not {received[:80]}")


def _pieces(request: Request) -> Iterator[bytes]:
    """:raises RequestEntityTooLarge: behind the last piece, too, where its size was not told."""
    told, size = request.content_length, 0
    most = told if told is not None else request.max_content_length or sys.maxsize
    while size < most and (piece := request.stream.read(min(PIECE_BYTES, most - size))):
        size += len(piece)
        yield piece
    # A chunked body is cut at the limit by werkzeug's stream, without a word: what is left must not be left unnoticed.
    if told is None and request.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge


def _json_object(short: Shortened) -> dict[str, object]:
    if not short.text.strip():
        raise MalformedRequestError("the body is empty; send a JSON object")
    values: object = _with_its_pictures(short) if short.pictures else None
    if values is None:
        values = _parsed(short.whole())
    if not isinstance(values, dict):
        raise MalformedRequestError("the body must be a JSON object")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise MalformedRequestError("a field's name has a lone surrogate in it") from None
    return values


def _with_its_pictures(short: Shortened) -> dict[str, object] | None:
    """The same as the whole body parsed, sooner; None where only that can tell, what is wrong included."""
    try:
        values = _parsed(short.text)
    except MalformedRequestError:
        return None
    return values if isinstance(values, dict) and short.put_back(values) else None


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


def _form(request: Request, mode: Mode) -> tuple[dict[str, object], list[Problem]]:
    problems = [
        Problem(field=name[:80], message="is given more than once")
        for name in {*request.form, *request.files}
        if len(request.form.getlist(name)) + len(request.files.getlist(name)) > 1
    ]
    problems += [
        Problem(field=name[:80], message="must be UTF-8 text, without U+FFFD, which broken text turns into")
        for name, text in request.form.items()
        if _UNDECODABLE in name + text
    ]
    if not request.form and not request.files:
        raise MalformedRequestError("the form has no fields, or its boundary is wrong")
    values = from_form(mode, request.form)
    values |= {name: file.stream.read() for name, file in request.files.items()}
    return values, problems
