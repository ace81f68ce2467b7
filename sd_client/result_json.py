"""A WebUI's result: a JSON object, mostly the base64 of its images.

All servers begin it with ``{"images": ["…", "…"]`` and bare base64. The images of such a result are decoded before it
is parsed: a parser would copy each text first, and new memory is what a picture costs most. A result of any other form
(an escape, a data URI, another order of keys) is left to the parser; its images stay texts.
"""

from __future__ import annotations

import re
from typing import Any

import pybase64
from pydantic_core import from_json

from sd_client.errors import InvalidAnswerError

_FIRST = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"images"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*"')
_NEXT = re.compile(rb'"[ \t\n\r]*,[ \t\n\r]*"')
_LAST = re.compile(rb'"[ \t\n\r]*\][ \t\n\r]*,[ \t\n\r]*')


def read_object(body: bytes) -> dict[str, Any]:
    """
    A successful answer to a job; its ``images`` are bytes if they could be decoded beforehand.

    :raises InvalidAnswerError: it is not a JSON object.
    """
    images, rest = _images_first(body)
    try:
        result = from_json(rest)
        if images and "images" in result:  # a second time
            images, result = [], from_json(body)
    except ValueError as error:
        raise InvalidAnswerError("the WebUI's answer is not JSON") from error
    if not isinstance(result, dict):
        raise InvalidAnswerError("the WebUI's answer is not an object")
    return {"images": images, **result} if images else result


def _images_first(body: bytes) -> tuple[list[bytes], bytes]:
    """The images with which the body begins, and a JSON object of its other fields; or no images and all of it."""
    view, images = memoryview(body), []
    begin, end = _FIRST.match(body), 0
    while begin is not None and (end := body.find(b'"', begin.end())) >= 0:
        try:
            images.append(pybase64.b64decode(view[begin.end() : end], validate=True))
        except ValueError:
            return [], body
        begin = _NEXT.match(body, end)
    last = _LAST.match(body, end) if images and end >= 0 else None
    if last is None or not body.startswith(b'"', last.end()):
        return [], body
    return images, b"{" + body[last.end() :]
