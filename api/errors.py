"""Every failure, on every path, as problem+json (RFC 9457): one table, one place.

The texts of ``detail`` are ours: nothing that a WebUI, a disk or Redis said reaches a caller.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from errno import errorcode
from typing import Any

from flask import Flask, Response, current_app, g, request
from pydantic_core import to_json
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge, TooManyRequests

from api.transfers import SlowBodyError
from sd_client import errors as webui
from services.idempotency import IdempotencyMismatchError
from services.problems import CapabilityMissingError, InvalidParamsError, ModelNotFoundError, Problem
from services.requests import RequestNotFoundError
from storage import errors as storage

log = logging.getLogger(__name__)


class MalformedRequestError(ValueError):
    """The body cannot be read at all; the text says why."""


class PayloadTooLargeError(ValueError):
    """The body has more of something than any request needs; the text says of what."""


class UnsupportedMediaTypeError(ValueError):
    """The body is of a type that no route takes; the text says which are taken."""


class UnauthorizedError(Exception):
    """No valid API key."""


class ForbiddenError(Exception):
    """The route is off."""


class ImageNotFoundError(Exception):
    """No image has this id, or the id is none."""


class PreconditionFailedError(Exception):
    """What is there is not what ``If-Match``, or a condition like it, asks for."""


class CallerGoneError(Exception):
    """The caller hung up; nobody reads the answer."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a failure is told. ``detail`` None: the exception's own text, which is ours."""

    status: int
    code: str
    title: str
    detail: str | None = None
    retryable: bool = False


#: Looked up along the exception's classes, most derived first.
KINDS: dict[type[Exception], Kind] = {
    MalformedRequestError: Kind(status=400, code="malformed_request", title="Malformed request"),
    UnauthorizedError: Kind(
        status=401, code="unauthorized", title="API key required", detail="a valid API key is required"
    ),
    ForbiddenError: Kind(status=403, code="forbidden", title="Not allowed"),
    IdempotencyMismatchError: Kind(
        status=422,
        code="idempotency_mismatch",
        title="Idempotency-Key used before",
        detail="this Idempotency-Key was used with another request; a new request needs a new key",
    ),
    RequestNotFoundError: Kind(
        status=404,
        code="request_not_found",
        title="Request not found",
        detail="there is no request of yours with this id, or it has ended and cannot be cancelled",
    ),
    webui.JobCancelledError: Kind(
        status=409, code="cancelled", title="Cancelled", detail="the job was cancelled by its request id"
    ),
    ImageNotFoundError: Kind(
        status=404, code="image_not_found", title="Image not found", detail="there is no image with this id"
    ),
    PreconditionFailedError: Kind(
        status=412,
        code="precondition_failed",
        title="Precondition failed",
        detail="what is there is not what If-Match, If-Unmodified-Since or If-None-Match asks for",
    ),
    SlowBodyError: Kind(
        status=408,
        code="request_timeout",
        title="Request timed out",
        detail="the body did not come in time",
        retryable=True,
    ),
    PayloadTooLargeError: Kind(status=413, code="payload_too_large", title="Payload too large"),
    UnsupportedMediaTypeError: Kind(status=415, code="unsupported_media_type", title="Unsupported media type"),
    InvalidParamsError: Kind(status=422, code="validation_error", title="Invalid request"),
    ModelNotFoundError: Kind(status=422, code="model_not_found", title="Model not found"),
    CapabilityMissingError: Kind(status=422, code="capability_missing", title="No WebUI can do this"),
    CallerGoneError: Kind(status=499, code="caller_gone", title="Caller gone", detail="the caller hung up"),
    webui.WebUIError: Kind(status=502, code="webui_error", title="WebUI error"),
    webui.WebUIReadError: Kind(status=502, code="webui_error", title="WebUI error", retryable=True),
    webui.InvalidAnswerError: Kind(status=502, code="webui_error", title="WebUI error", retryable=True),
    webui.JobStoppedError: Kind(status=502, code="webui_error", title="WebUI error", retryable=True),
    webui.MissingRouteError: Kind(status=502, code="webui_error", title="WebUI error", retryable=True),
    webui.WebUITimeoutError: Kind(status=504, code="webui_timeout", title="WebUI timed out"),
    webui.OutOfMemoryError: Kind(
        status=503,
        code="gpu_out_of_memory",
        title="GPU out of memory",
        detail="the GPU's memory does not suffice for this; ask for a smaller width and height or a smaller batch_size",
    ),
    webui.WebUIBusyError: Kind(
        status=503,
        code="webui_unavailable",
        title="No WebUI available",
        detail="the WebUI takes no job now: it is busy with somebody else's, or its own rate limit is reached",
        retryable=True,
    ),
    webui.NoWebUIError: Kind(status=503, code="webui_unavailable", title="No WebUI available", retryable=True),
    webui.WebUIConnectError: Kind(
        status=503,
        code="webui_unavailable",
        title="No WebUI available",
        detail="no WebUI is reachable",
        retryable=True,
    ),
    webui.NoGPUError: Kind(status=503, code="gpu_unavailable", title="No GPU available", retryable=True),
    webui.QueueFullError: Kind(status=503, code="queue_full", title="Queue full", retryable=True),
    webui.QueueUnavailableError: Kind(
        status=503,
        code="queue_unavailable",
        title="Queue unavailable",
        detail="this host cannot keep its queue now: the disk that it is on is full, or fails",
        retryable=True,
    ),
    webui.QueueTimeoutError: Kind(status=503, code="queue_timeout", title="Waited too long", retryable=True),
    webui.DrainingError: Kind(status=503, code="draining", title="Shutting down", retryable=True),
    storage.ImageNotFoundError: Kind(
        status=404, code="image_not_found", title="Image not found", detail="this image has been removed"
    ),
    storage.StorageUnavailableError: Kind(
        status=503,
        code="storage_unavailable",
        title="Image store unavailable",
        detail="the image store fails",
        retryable=True,
    ),
    storage.StorageError: Kind(
        status=500, code="internal_error", title="Internal error", detail="the image store failed"
    ),
}

_INTERNAL = Kind(
    status=500, code="internal_error", title="Internal error", detail="an internal error; it is in the log"
)

#: What werkzeug and Flask-Limiter raise by themselves.
HTTP_KINDS: dict[int, Kind] = {
    400: Kind(status=400, code="malformed_request", title="Malformed request", detail="the request cannot be read"),
    404: Kind(status=404, code="not_found", title="Not found", detail="there is nothing at this path"),
    405: Kind(status=405, code="method_not_allowed", title="Method not allowed"),
    413: Kind(status=413, code="payload_too_large", title="Payload too large"),
    415: Kind(status=415, code="unsupported_media_type", title="Unsupported media type"),
    416: Kind(
        status=416, code="range_not_satisfiable", title="Range not satisfiable", detail="the range is outside the image"
    ),
    429: Kind(status=429, code="rate_limited", title="Too many requests", retryable=True),
}


def every_kind() -> tuple[Kind, ...]:
    """All failures that can be told; several may share a code."""
    return (*KINDS.values(), *HTTP_KINDS.values(), _INTERNAL)


def errors_page(public_url: str | None) -> str:
    """What each problem's ``type`` begins with. None: only the path is known, as with ``image_url``."""
    return f"{public_url or ''}/docs/errors"


def register(app: Flask, *, public_url: str | None = None) -> None:
    """
    Makes the application answer every exception from the table.

    :param public_url: where callers find the service, a path prefix included; ``app.config["ERRORS_PAGE"]`` follows.
    """
    app.config["ERRORS_PAGE"] = errors_page(public_url)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _known_error)


def problem(kind: Kind, *, detail: str | None = None, reason: str = "", problems: Sequence[Problem] = ()) -> Response:
    """
    The answer for one failure, with the request's id.

    :param reason: which of the faults that share the code it was; "" where there is one only.
    """
    body: dict[str, Any] = {
        "type": f"{current_app.config['ERRORS_PAGE']}#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": detail or kind.detail or kind.title,
    }
    if reason:
        body["reason"] = reason
    if problems:
        body["errors"] = [_entry(found) for found in problems]
    body |= {"retryable": kind.retryable, "request_id": g.get("request_id")}
    return Response(to_json(body), status=kind.status, mimetype="application/problem+json")


def _entry(found: Problem) -> dict[str, Any]:
    entry: dict[str, Any] = {"field": found.field, "message": found.message}
    return entry if found.received is None else {**entry, "received": found.received}


def kind_of(error: Exception) -> Kind:
    return next((KINDS[base] for base in type(error).__mro__ if base in KINDS), _INTERNAL)


def _known_error(error: Exception) -> Response:
    kind = kind_of(error)
    level = logging.ERROR if kind is _INTERNAL else logging.WARNING if kind.status >= 500 else logging.DEBUG
    log.log(level, "%s: %s", kind.code, _logged(error), exc_info=error if kind is _INTERNAL else None)
    g.error_code = kind.code
    if isinstance(error, InvalidParamsError):
        return problem(kind, detail=_first_words(error.problems), problems=error.problems)
    reason = error.reason if isinstance(error, webui.WebUIError) and kind.code == "webui_error" else ""
    g.error_reason = reason
    response = problem(kind, detail=kind.detail or str(error), reason=reason)
    if isinstance(error, webui.PoolError):
        response.headers["Retry-After"] = str(error.retry_after_s)
    elif isinstance(error, webui.WebUIConnectError | webui.WebUIBusyError | storage.StorageUnavailableError):
        response.headers["Retry-After"] = "5"
    elif isinstance(error, UnauthorizedError):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _logged(error: Exception) -> str:
    """What went wrong, for the log: the exception's own text where it is ours and names nothing of a caller's."""
    if isinstance(error, storage.StorageError):
        return _storage_fault(error)
    return (isinstance(error, webui.WebUIError) and str(error)) or type(error).__name__


def _storage_fault(error: storage.StorageError) -> str:
    """Its text is ours, and says what the class does not: full, read-only. The system's own would name a path."""
    cause = error.__cause__
    return f"{error} ({errorcode.get(cause.errno or 0)})" if isinstance(cause, OSError) else str(error)


def _first_words(problems: Sequence[Problem]) -> str:
    """The problems in one line: "steps: must be between 1 and 150 (got 0)"."""
    shown = [
        f"{found.field}: {found.message}" + ("" if found.received is None else f" (got {_as_json(found)})")
        for found in problems[:5]
    ]
    return "; ".join(shown) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")


def _as_json(found: Problem) -> object:
    """A caller's text in its quotes, true as true; words about what came as they are."""
    if found.is_text or isinstance(found.received, bool):
        return json.dumps(found.received, ensure_ascii=False)
    return found.received


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    kind = HTTP_KINDS.get(status) or (HTTP_KINDS[400] if status < 500 else _INTERNAL)
    detail = _http_detail(error) or kind.detail
    g.error_code = kind.code
    response = problem(kind, detail=detail)
    for name in ("Allow", "Retry-After", "Content-Range"):
        for header, value in error.get_headers():
            if header == name:
                response.headers[name] = value
    return response


def _slashes_aside() -> str | None:
    """The detail for a path that has a route but for its slashes; nobody is redirected there."""
    plain = re.sub("/{2,}", "/", request.path).rstrip("/")
    try:
        current_app.url_map.bind("").match(plain or "/", method=request.method)
    except MethodNotAllowed:
        pass
    except HTTPException:
        return None
    if "//" in request.path:
        return "there is nothing at this path; with one slash where there are several there is"
    return "there is nothing at this path; without the slash at its end there is"


def _http_detail(error: HTTPException) -> str | None:
    if isinstance(error, NotFound):
        return _slashes_aside()
    if isinstance(error, MethodNotAllowed):
        return f"this path takes {', '.join(sorted(error.valid_methods or ()))}"
    if isinstance(error, RequestEntityTooLarge):
        return f"the body is larger than {current_app.config['MAX_CONTENT_LENGTH'] / 1024**2:g} MB"
    if isinstance(error, TooManyRequests):
        return f"more than {error.description}"
    return None
