"""The body of a generation request: JSON or a form, read whole, never interpreted further."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import NoReturn

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import MalformedRequestError, UnsupportedMediaTypeError
from api.large_pictures import take_out
from api.schemas import from_form
from services.generation import Mode
from services.problems import Problem

#: What werkzeug puts in the place of bytes that are no UTF-8. One that was sent cannot be told from that.
_UNDECODABLE = "\ufffd"

#: Each unknown name is a problem to be found and told; no request of this service has thirty fields.
_MOST_NAMES = 1000

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
            return _json_object(_whole_body(request)), []
        if request.mimetype == "multipart/form-data":
            return _form(request, mode)
    except ParseException:
        raise MalformedRequestError("the body's chunks are broken") from None
    received = request.mimetype or "no content type"
    raise UnsupportedMediaTypeError(f"{_ACCEPTED}, not {received[:80]}")


def _whole_body(request: Request) -> bytes:
    data = request.get_data(cache=False)
    # A chunked body is cut at the limit by werkzeug's stream, without a word: what is left must not be left unnoticed.
    if request.content_length is None and request.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge
    return data


def _json_object(data: bytes) -> dict[str, object]:
    if not data.strip():
        raise MalformedRequestError("the body is empty; send a JSON object")
    values: object = _without_large_pictures(data)
    if values is None:
        values = _parsed(data)
    if not isinstance(values, dict):
        raise MalformedRequestError("the body must be a JSON object")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise MalformedRequestError("a field's name has a lone surrogate in it") from None
    return values


def _without_large_pictures(data: bytes) -> dict[str, object] | None:
    """The same as :func:`_parsed`, sooner; None where only that can tell, what is wrong included."""
    short = take_out(data)
    if short is None:
        return None
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
