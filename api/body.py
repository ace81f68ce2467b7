"""The body of a generation request: JSON or a form, read whole, never interpreted further."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from flask import Request

from api.errors import MalformedRequestError, UnsupportedMediaTypeError
from api.schemas import from_form
from services.generation import Mode
from services.problems import Problem

_ACCEPTED = "send application/json or multipart/form-data"


def read_values(request: Request, mode: Mode) -> tuple[dict[str, object], list[Problem]]:
    """
    The request's fields: pictures as base64 text or, uploaded, as bytes.

    :returns: the values, and what is wrong with the form as such.
    :raises MalformedRequestError: no JSON object, or no form.
    :raises UnsupportedMediaTypeError: another type of body.
    :raises RequestEntityTooLarge: larger than ``MAX_BODY_MB``, chunked or not.
    """
    if request.mimetype == "application/json":
        return _json_object(request.get_data(cache=False)), []
    if request.mimetype == "multipart/form-data":
        return _form(request, mode)
    received = request.mimetype or "no content type"
    raise UnsupportedMediaTypeError(f"{_ACCEPTED}, not {received[:80]}")


def _json_object(data: bytes) -> dict[str, object]:
    if not data.strip():
        raise MalformedRequestError("the body is empty; send a JSON object")
    try:
        values = json.loads(data, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise MalformedRequestError("the body is not UTF-8") from None
    except RecursionError:
        raise MalformedRequestError("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise MalformedRequestError(f"the body is not JSON: {error.msg} at {place}") from None
    except _DuplicateKeyError as error:
        raise MalformedRequestError(f"the body names {str(error)[:80]!r} twice") from None
    except ValueError:
        raise MalformedRequestError("the body holds a number that cannot be read") from None
    if not isinstance(values, dict):
        raise MalformedRequestError("the body must be a JSON object")
    return values


class _DuplicateKeyError(ValueError):
    """Which of two values is meant cannot be known."""


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKeyError(next(key for key in keys if keys.count(key) > 1))
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedRequestError(f"the body is not JSON: {name} is not a JSON number")


def _form(request: Request, mode: Mode) -> tuple[dict[str, object], list[Problem]]:
    problems = [
        Problem(field=name[:80], message="is given more than once")
        for name in {*request.form, *request.files}
        if len(request.form.getlist(name)) + len(request.files.getlist(name)) > 1
    ]
    if not request.form and not request.files:
        raise MalformedRequestError("the form has no fields, or its boundary is wrong")
    values = from_form(mode, request.form)
    values |= {name: file.stream.read() for name, file in request.files.items()}
    return values, problems
