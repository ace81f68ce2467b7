"""Recognizes a picture's bytes that were put into JSON as they are, and says how to send them instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from api.schemas.picture_fields import PICTURE_FIELDS_PATTERN

_ARRAY: Final = (
    "is an object of numbers, as JSON.stringify writes a Uint8Array; send its base64 "
    "(Node: Buffer.from(array).toString('base64'))"
)
_BUFFER: Final = "is a Node.js Buffer as JSON.stringify writes it; send buffer.toString('base64')"
_NUMBERS: Final = "is a list of numbers; send the bytes as base64, not one by one"
_NOTHING: Final = "is an empty object, as JSON.stringify writes a File or a Blob; send its base64, or a form"

#: How such a value begins in a body.
_BEGINNINGS: Final = tuple(
    (re.compile(rb'"' + PICTURE_FIELDS_PATTERN + rb'"\s*:\s*' + pattern), message)
    for pattern, message in (
        (rb'\{\s*"0"\s*:\s*[0-9]', _ARRAY),
        (rb'\{\s*"type"\s*:\s*"Buffer"', _BUFFER),
        (rb"\[\s*[0-9]", _NUMBERS),
    )
)


def of_value(value: object) -> str | None:
    """What an object or list is; None if that is not obvious."""
    if isinstance(value, list):
        return _NUMBERS if value and isinstance(value[0], int) else None
    if isinstance(value, Mapping):
        if not value:
            return _NOTHING
        if value.get("type") == "Buffer":
            return _BUFFER
        return _ARRAY if isinstance(value.get("0"), int) else None
    return None


def in_text(body: bytes | bytearray) -> tuple[str, str] | None:
    """The first field of a body that has such a value, and what it is; the body may be incomplete."""
    found = [(match, message) for pattern, message in _BEGINNINGS if (match := pattern.search(body))]
    if not found:
        return None
    match, message = min(found, key=lambda one: one[0].start())
    return match[1].decode(), message
