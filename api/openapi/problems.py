"""The failures of an operation: for each status the codes that it may have, with an example of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from api.error_guide import ADVICE
from api.errors import Kind, errors_page, every_kind

MEDIA_TYPE = "application/problem+json"

_REQUEST_ID = "9f1c2b3d4e5f60718293a4b5c6d7e8f9"

#: Where a kind has no words of its own, and those of ``errors``.
_DETAILS = {
    "malformed_request": "the body is not JSON: Expecting value at line 1 column 12",
    "forbidden": "deleting needs an API key, and this service has none set up",
    "method_not_allowed": "this path takes GET, HEAD, OPTIONS",
    "payload_too_large": "the body is larger than 32 MB",
    "unsupported_media_type": "send application/json or multipart/form-data, not text/plain",
    "validation_error": "steps: must be between 1 and 150 (got 0)",
    "model_not_found": "model: is not a model of this service (known: sd-v1-5, sdxl) (got sd-v1-6)",
    "capability_missing": 'inpaint_fill: is something that no WebUI of this service can begin with; use "original" or '
    '"fill" (got "noise")',
    "rate_limited": "more than 10 per 1 minute",
    "webui_error": "the WebUI answered 500 (NansException)",
    "webui_timeout": "the job took longer than allowed and is being interrupted",
    "webui_unavailable": "no WebUI is reachable",
    "gpu_unavailable": "no WebUI with a GPU is reachable",
    "queue_full": "64 jobs wait already",
    "queue_timeout": "no WebUI became free in time",
    "draining": "the service is shutting down",
}
_REASONS = {"webui_error": "http_500"}
_ERRORS: dict[str, list[dict[str, Any]]] = {
    "validation_error": [{"field": "steps", "message": "must be between 1 and 150", "received": 0}],
    "model_not_found": [
        {
            "field": "model",
            "message": "is not a model of this service (known: sd-v1-5, sdxl)",
            "received": "sd-v1-6",
        }
    ],
    "capability_missing": [
        {
            "field": "inpaint_fill",
            "message": 'is something that no WebUI of this service can begin with; use "original" or "fill"',
            "received": "noise",
        }
    ],
}
#: Beside those of every answer.
_HEADERS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def codes() -> tuple[str, ...]:
    """Every code there is."""
    return tuple(dict.fromkeys(kind.code for kind in every_kind()))


def responses(wanted: Iterable[str], *, headers: Sequence[str], public_url: str | None) -> dict[str, Any]:
    """
    The responses that an operation with these codes may have, by status.

    :param headers: of every answer of the operation. :param public_url: that each example's ``type`` begins with.
    """
    kinds = sorted((_kind(code) for code in set(wanted)), key=lambda kind: (kind.status, kind.code))
    return {
        str(status): _response(tuple(group), (*headers, *_HEADERS.get(status, ())), errors_page(public_url))
        for status, group in groupby(kinds, key=lambda kind: kind.status)
    }


def _kind(code: str) -> Kind:
    return next(kind for kind in every_kind() if kind.code == code)


def _response(kinds: Sequence[Kind], headers: Sequence[str], page: str) -> dict[str, Any]:
    described = "\n".join(f"- [`{kind.code}`](docs/errors#{kind.code}): {ADVICE[kind.code].cause}" for kind in kinds)
    properties: dict[str, Any] = {
        "status": {"const": kinds[0].status},
        "code": {"enum": [kind.code for kind in kinds]},
    }
    if reasons := [reason for kind in kinds for reason in ADVICE[kind.code].reasons]:
        properties["reason"] = {"pattern": f"^({'|'.join(reasons)})$".replace("NNN", "[1-9][0-9]{2}")}
    schema = {"allOf": [{"$ref": "#/components/schemas/ProblemAnswer"}, {"properties": properties}]}
    examples = {kind.code: {"summary": kind.title, "value": _example(kind, page)} for kind in kinds}
    return {
        "description": described,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def _example(kind: Kind, page: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "type": f"{page}#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": kind.detail or _DETAILS.get(kind.code, kind.title),
    }
    if kind.code in _REASONS:
        body["reason"] = _REASONS[kind.code]
    if kind.code in _ERRORS:
        body["errors"] = _ERRORS[kind.code]
    return {**body, "retryable": kind.retryable, "request_id": _REQUEST_ID}
