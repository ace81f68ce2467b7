"""The failures of an operation: for each status the codes that it may have, with an example of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from api.error_table import ERRORS, ErrorKind
from api.errors import errors_page

MEDIA_TYPE = "application/problem+json"

_REQUEST_ID = "9f1c2b3d4e5f60718293a4b5c6d7e8f9"

#: Where a kind has no words of its own, and those of ``errors``.
_REASONS = {"webui_error": "http_500"}
#: Beside those of every answer.
_HEADERS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def codes() -> tuple[str, ...]:
    """Every code there is."""
    return tuple(kind.code for kind in ERRORS.values() if not kind.by_proxy)


def responses(wanted: Iterable[str], *, headers: Sequence[str], public_url: str | None) -> dict[str, Any]:
    """
    The responses that an operation with these codes may have, by status.

    :param headers: of every answer of the operation. :param public_url: that each example's ``type`` begins with.
    """
    kinds = sorted((ERRORS[code] for code in set(wanted)), key=lambda kind: (kind.status, kind.code))
    return {
        str(status): _response(tuple(group), (*headers, *_HEADERS.get(status, ())), errors_page(public_url))
        for status, group in groupby(kinds, key=lambda kind: kind.status)
    }


def _response(kinds: Sequence[ErrorKind], headers: Sequence[str], page: str) -> dict[str, Any]:
    described = "\n".join(f"- [`{kind.code}`](docs/errors#{kind.code}): {kind.cause}" for kind in kinds)
    properties: dict[str, Any] = {
        "status": {"const": kinds[0].status},
        "code": {"enum": [kind.code for kind in kinds]},
    }
    if reasons := [reason for kind in kinds for reason in kind.reasons]:
        properties["reason"] = {"pattern": f"^({'|'.join(reasons)})$".replace("NNN", "[1-9][0-9]{2}")}
    schema = {"allOf": [{"$ref": "#/components/schemas/ProblemAnswer"}, {"properties": properties}]}
    examples = {kind.code: {"summary": kind.title, "value": _example(kind, page)} for kind in kinds}
    return {
        "description": described,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def _example(kind: ErrorKind, page: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"{page}#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": kind.detail or kind.example or kind.title,
    }
    if kind.code in _REASONS:
        body["reason"] = _REASONS[kind.code]
    if kind.example_errors:
        body["errors"] = kind.example_errors
    return {**body, "retryable": kind.retryable is True, "request_id": _REQUEST_ID}
