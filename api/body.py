"""The body of a generation request: JSON or a form, read whole, never interpreted further."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import MalformedRequestError, UnsupportedMediaTypeError
from api.forms import read_form
from api.json_body import read_json
from api.schemas import from_form
from services.generation_request import Mode
from services.problems import Problem

#: Everything but the pictures is less than this in any request, prompts aside.
_MOST_TEXT_BYTES = 1024 * 1024

#: Of JSON for one character of a prompt: two escaped surrogates.
_CHAR_BYTES = 12

#: Bytes read from the body per call. The worker sets gunicorn's receive size to the same value; anything beyond it
#: would be copied again.
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

    :param max_prompt_chars: characters of a prompt, which a body may be full of.
    :param take: called with the size of each piece that has arrived, in bytes; what it raises ends the reading.
    :returns: the values, and what is wrong with the form as such.
    :raises MalformedRequestError: the body is neither a JSON object nor a form.
    :raises UnsupportedMediaTypeError: the body has another type.
    :raises RequestEntityTooLarge: it is larger than ``MAX_BODY_MB``, chunked or not.
    :raises PayloadTooLargeError: besides its pictures, it has more than any request needs.
    :raises InvalidParamsError: the same, and what it has is a picture's bytes as numbers.
    """
    most_text = max(_MOST_TEXT_BYTES, 2 * _CHAR_BYTES * max_prompt_chars)
    try:
        if request.mimetype == "application/json":
            return read_json(_pieces(request, take), most_text=most_text), []
        if request.mimetype == "multipart/form-data":
            return _form(_pieces(request, take), request.mimetype_params.get("boundary", ""), mode, most_text)
    except ParseException:
        raise MalformedRequestError("the body's chunks are broken") from None
    received = request.mimetype or "no content type"
    kind = "image" if received.startswith("image/") else received
    raise UnsupportedMediaTypeError(f"{_ACCEPTED}, not {received[:80]}{_WHY_OTHERS.get(kind, '')}")


def _pieces(request: Request, take: Callable[[int], None]) -> Iterator[bytes]:
    """:raises RequestEntityTooLarge: also after the last piece, if the size was not declared."""
    declared, size = request.content_length, 0
    most = declared if declared is not None else request.max_content_length or sys.maxsize
    while size < most and (piece := request.stream.read(min(PIECE_BYTES, most - size))):
        size += len(piece)
        take(len(piece))
        yield piece
    # A chunked body is cut at the limit by werkzeug's stream, without a word: what is left must not be left unnoticed.
    if declared is None and request.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge


def _form(
    pieces: Iterable[bytes], boundary: str, mode: Mode, most_text: int
) -> tuple[dict[str, object], list[Problem]]:
    form = read_form(pieces, boundary, piece_bytes=PIECE_BYTES, most_text=most_text)
    return from_form(mode, form.texts) | form.files, form.problems
