"""Headers that requests and answers may have, and parameters in paths and queries."""

from __future__ import annotations

from typing import Any

from services.copies import FORMATS

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}


def _header(description: str, example: object, schema: dict[str, Any] = _TEXT, **more: Any) -> dict[str, Any]:
    return {"description": description, "schema": schema, "example": example, **more}


#: Of answers, by their own names.
HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": _header(
        "The request's id: the one that was sent, or one made here. It stands in the log.",
        "9f1c2b3d4e5f60718293a4b5c6d7e8f9",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        required=True,
    ),
    "X-RateLimit-Limit": _header("Calls that the limit which was looked at last allows.", 50, _COUNT),
    "X-RateLimit-Remaining": _header("How many of them are left.", 49, _COUNT),
    "X-RateLimit-Reset": _header("When all of them are there again: seconds since 1970.", 1767225600, _COUNT),
    "Retry-After": _header("Whole seconds to wait before the next attempt.", 5, {"type": "integer", "minimum": 1}),
    "Server-Timing": _header(
        "Milliseconds in the queue, on the WebUI, for storing and in total, as far as it came to them.",
        "queue;dur=12.0, webui;dur=2310.4, store;dur=8.1, total;dur=2345.6",
    ),
    "Preference-Applied": _header("The `Prefer` that was followed.", "wait=30"),
    "Idempotency-Replayed": _header(
        "`true`: this is the answer to an earlier request with the same `Idempotency-Key`.",
        "true",
        {"type": "string", "const": "true"},
    ),
    "X-Image-Id": _header(
        "`image_id` of the picture.", "0b9f5a52-7c3e-4d0e-9b1a-2f6c1d8e4a70", {"type": "string", "format": "uuid"}
    ),
    "X-Seed": _header("`seed` of the picture.", 7, {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}),
    "X-Model": _header("`model`, percent-encoded where it is not ASCII.", "sd-v1-5"),
    "X-Processing-Time": _header("`processing_time`, seconds.", 3.45, {"type": "number", "minimum": 0}),
    "Location": _header(
        "The picture's URL; not there where it could not be stored.",
        "/api/v1/ai/generation/image/0b9f5a52-7c3e-4d0e-9b1a-2f6c1d8e4a70",
        {"type": "string", "format": "uri-reference"},
    ),
    "Warning": _header(
        "There where the picture could not be stored.", '199 - "the picture could not be stored, so it has no URL"'
    ),
    "ETag": _header("To be sent back as `If-None-Match`.", '"19ac4e7fb2a40000-1f3a5"'),
    "Last-Modified": _header("When the image was stored.", "Sun, 22 Nov 2026 11:40:46 GMT"),
    "Accept-Ranges": _header("`bytes`: a part can be asked for.", "bytes"),
    "Content-Range": _header("Which part this is, or how many bytes there are.", "bytes 0-1023/524288"),
    "Cache-Control": _header("How long the answer may be kept.", "private, max-age=31536000, immutable"),
    "WWW-Authenticate": _header("How to send a key.", "Bearer"),
}


def _parameter(place: str, name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "in": place, "description": description, "schema": schema}
    return {**described, "required": True} if place == "path" else described


#: Of requests, by the name that operations refer to them with.
PARAMETERS: dict[str, dict[str, Any]] = {
    "RequestId": _parameter(
        "header",
        "X-Request-ID",
        "1 … 128 of `A-Za-z0-9._-`: comes back on the answer, stands in the log, and is what the request can be "
        "followed and cancelled by. Anything else is replaced by an id made here.",
        _TEXT,
    ),
    "IdempotencyKey": _parameter(
        "header",
        "Idempotency-Key",
        "Random, and the same with each retry: for 24 hours the first answer is given again.",
        {"type": "string", "pattern": "^[!-~]{1,255}$", "minLength": 1, "maxLength": 255},
    ),
    "Prefer": _parameter(
        "header", "Prefer", "`wait=N`: wait and run for at most N seconds together, 1 … 86400.", _TEXT
    ),
    "IfNoneMatch": _parameter(
        "header", "If-None-Match", "An `ETag`: 304 without a body where the image is still that one.", _TEXT
    ),
    "IfModifiedSince": _parameter(
        "header", "If-Modified-Since", "A `Last-Modified`: 304 without a body where nothing is newer.", _TEXT
    ),
    "IfMatch": _parameter("header", "If-Match", "An `ETag`: 412 where the image is not that one.", _TEXT),
    "IfUnmodifiedSince": _parameter(
        "header", "If-Unmodified-Since", "A `Last-Modified`: 412 where the image is newer.", _TEXT
    ),
    "Range": _parameter(
        "header", "Range", "One part of the bytes; of several at a time, or of another unit, the whole comes.", _TEXT
    ),
    "IfRange": _parameter(
        "header", "If-Range", "An `ETag`: the part where the image is still that one, else the whole.", _TEXT
    ),
    "ImageId": _parameter(
        "path",
        "image_id",
        "`image_id` of a generation; `.png` may follow.",
        {"type": "string", "format": "uuid"},
    ),
    "RequestIdInPath": _parameter(
        "path",
        "request_id",
        "`X-Request-ID` of a request of one's own.",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    ),
    "Format": _parameter(
        "query", "format", "The picture in another format.", {"type": "string", "enum": list(FORMATS), "default": "png"}
    ),
    "Width": _parameter(
        "query",
        "width",
        "A smaller copy: pixels, at most the image's own width.",
        {"type": "integer", "minimum": 16},
    ),
}
