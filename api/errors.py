"""Every failure, on every path, as problem+json (RFC 9457): one table, one place.

``errors.toml`` has what is said about each code. Nothing that a WebUI, a disk or Redis said reaches a caller.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from errno import errorcode

from flask import Flask, Response, current_app, g, request
from pydantic_core import to_json
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge, TooManyRequests

from api.error_table import ERRORS, ErrorKind
from api.transfers import CallerGoneError, SlowBodyError
from sd_client import errors as webui
from services.idempotency import IdempotencyMismatchError
from services.problems import CapabilityMissingError, InvalidParamsError, ModelNotFoundError, Problem
from services.tracking import RequestNotFoundError
from storage import errors as storage

log = logging.getLogger(__name__)


class MalformedRequestError(ValueError):
    """The body cannot be read; the text says why."""


class PayloadTooLargeError(ValueError):
    """The body has more of something than any request needs; the text says of what."""


class UnsupportedMediaTypeError(ValueError):
    """No route takes a body of this type; the text says which types are taken."""


class UnauthorizedError(Exception):
    """The request has no valid API key."""


class ForbiddenError(Exception):
    """The route is switched off."""


class ImageNotFoundError(Exception):
    """No image has this id, or the id is invalid."""


class PreconditionFailedError(Exception):
    """The image does not match ``If-Match``, or a condition like it."""


#: The code of each exception; an exception that is not listed has the code of its base class.
CODES: Mapping[type[Exception], str] = {
    MalformedRequestError: "malformed_request",
    UnauthorizedError: "unauthorized",
    ForbiddenError: "forbidden",
    ImageNotFoundError: "image_not_found",
    PreconditionFailedError: "precondition_failed",
    SlowBodyError: "request_timeout",
    PayloadTooLargeError: "payload_too_large",
    UnsupportedMediaTypeError: "unsupported_media_type",
    CallerGoneError: "caller_gone",
    IdempotencyMismatchError: "idempotency_mismatch",
    InvalidParamsError: "validation_error",
    ModelNotFoundError: "model_not_found",
    CapabilityMissingError: "capability_missing",
    RequestNotFoundError: "request_not_found",
    webui.JobCancelledError: "cancelled",
    webui.WebUIError: "webui_error",
    webui.WebUITimeoutError: "webui_timeout",
    webui.WebUIConnectError: "webui_unavailable",
    webui.WebUIBusyError: "webui_unavailable",
    webui.OutOfMemoryError: "gpu_out_of_memory",
    webui.NoWebUIError: "webui_unavailable",
    webui.NoGPUError: "gpu_unavailable",
    webui.QueueFullError: "queue_full",
    webui.QueueUnavailableError: "queue_unavailable",
    webui.QueueTimeoutError: "queue_timeout",
    webui.DrainingError: "draining",
    storage.StorageError: "internal_error",
    storage.ImageNotFoundError: "image_not_found",
    storage.StorageUnavailableError: "storage_unavailable",
}

#: The codes of what werkzeug and Flask-Limiter raise, by status.
HTTP_CODES: Mapping[int, str] = {
    400: "malformed_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    429: "rate_limited",
}

#: Details of exceptions whose own text is not for callers, where their code has no ``detail``.
_DETAILS: Mapping[type[Exception], str] = {
    webui.WebUIConnectError: "no WebUI is reachable",
    webui.WebUIBusyError: "the WebUI accepts no job now: it is busy with another client's, or its own rate limit is "
    "reached",
}

#: Of the code whose ``retryable`` depends on the exception, those after which the same request may succeed.
_MAY_SUCCEED_LATER = (
    webui.WebUIReadError,
    webui.InvalidAnswerError,
    webui.JobStoppedError,
    webui.MissingRouteError,
)


def errors_page(public_url: str | None) -> str:
    """What each problem's ``type`` begins with. None: only the path is known, as with ``image_url``."""
    return f"{public_url or ''}/docs/errors"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """
    What there is to say about a failed request, in whichever shape.

    :param problems: the wrong fields, by the names of :mod:`api.schemas`.
    :param reason: tells apart faults that share a code.
    """

    kind: ErrorKind
    detail: str
    retryable: bool
    problems: Sequence[Problem] = ()
    reason: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def register(app: Flask, *, public_url: str | None = None) -> None:
    """
    Makes the application answer every exception from the table.

    A door puts the function that makes a response of a :class:`Failure` into ``app.extensions["failures"]``.

    :param public_url: where callers find the service, including a path prefix; ``app.config["ERRORS_PAGE"]`` follows.
    """
    app.config["ERRORS_PAGE"] = errors_page(public_url)
    app.extensions["failures"] = {}
    app.register_error_handler(HTTPException, _answer)
    app.register_error_handler(Exception, _answer)


def code_of(error: Exception) -> str:
    """``internal_error`` for an exception that nobody foresaw."""
    return _of_its_class(error, CODES) or "internal_error"


def _of_its_class(error: Exception, table: Mapping[type[Exception], str]) -> str | None:
    """The entry of the exception's class or, without one, of its nearest base class."""
    return next((table[base] for base in type(error).__mro__ if base in table), None)


def _answer(error: Exception) -> Response:
    failure = recorded(error)
    response: Response = current_app.extensions["failures"].get(g.get("door"), _problem)(failure)
    for name, value in failure.headers.items():
        response.headers[name] = value
    return response


def recorded(error: Exception) -> Failure:
    """What there is to say about an exception that ends a request, which the log and the metrics know from now on."""
    failure = failure_of(error)
    if not isinstance(error, HTTPException):
        _log(error, failure.kind)
    g.error_code = failure.kind.code
    if failure.reason:
        g.error_reason = failure.reason
    return failure


def _problem(failure: Failure) -> Response:
    """As problem+json, with the request's id."""
    kind = failure.kind
    body = {
        "type": f"{current_app.config['ERRORS_PAGE']}#{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": failure.detail or kind.title,
        **({"errors": [_entry(found) for found in failure.problems]} if failure.problems else {}),
        **({"reason": failure.reason} if failure.reason else {}),
        "retryable": failure.retryable,
        "request_id": g.get("request_id"),
    }
    return Response(to_json(body), status=kind.status, mimetype="application/problem+json")


def failure_of(error: Exception) -> Failure:
    """What the table says of an exception."""
    if isinstance(error, HTTPException):
        return _http_failure(error)
    kind = ERRORS[code_of(error)]
    problems = error.problems if isinstance(error, InvalidParamsError) else ()
    reason = error.reason if isinstance(error, webui.WebUIError) and kind.reasons else None
    return Failure(
        kind=kind,
        detail=sentence(problems) if problems else _of_its_class(error, _DETAILS) or kind.detail or str(error),
        retryable=isinstance(error, _MAY_SUCCEED_LATER) if kind.retryable == "sometimes" else kind.retryable,
        problems=problems,
        reason=reason,
        headers=_headers(error),
    )


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, webui.PoolError):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, webui.WebUIConnectError | webui.WebUIBusyError | storage.StorageUnavailableError):
        return {"Retry-After": "5"}
    # Programs that speak another API may take it for a wish to see a dialogue.
    asks_for_key = isinstance(error, UnauthorizedError) and g.get("door", "own") == "own"
    return {"WWW-Authenticate": "Bearer"} if asks_for_key else {}


def _entry(found: Problem) -> dict[str, object]:
    entry: dict[str, object] = {"field": found.field, "message": found.message}
    return entry if found.received is None else {**entry, "received": found.received}


def _log(error: Exception, kind: ErrorKind) -> None:
    unforeseen = _of_its_class(error, CODES) is None
    level = logging.ERROR if unforeseen else logging.WARNING if kind.status >= 500 else logging.DEBUG
    log.log(level, "%s: %s", kind.code, _logged(error), exc_info=error if unforeseen else None)


def _logged(error: Exception) -> str:
    """The exception's own text for the log, if that is written here and has nothing of a caller's in it."""
    if isinstance(error, storage.StorageError):
        return _storage_fault(error)
    return (isinstance(error, webui.WebUIError) and str(error)) or type(error).__name__


def _storage_fault(error: storage.StorageError) -> str:
    """Says what the class does not: full, read-only. The operating system's own text would name a path."""
    cause = error.__cause__
    return f"{error} ({errorcode.get(cause.errno or 0)})" if isinstance(cause, OSError) else str(error)


def sentence(problems: Sequence[Problem], *, most: int = 5) -> str:
    """The problems in one line: "steps: must be between 1 and 150 (got 0)"."""
    shown = [
        f"{found.field}: {found.message}" + ("" if found.received is None else f" (got {_as_json(found)})")
        for found in problems[:most]
    ]
    return "; ".join(shown) + (f"; and {len(problems) - most} more" if len(problems) > most else "")


def _as_json(found: Problem) -> object:
    """A caller's text in its quotes, true as true; words about what came as they are."""
    if found.is_text or isinstance(found.received, bool):
        return json.dumps(found.received, ensure_ascii=False)
    return found.received


_UNREADABLE = "the request cannot be read"


def _http_failure(error: HTTPException) -> Failure:
    status = error.code or 500
    kind = ERRORS[HTTP_CODES.get(status, "malformed_request" if status < 500 else "internal_error")]
    shown = ("Allow", "Retry-After", "Content-Range")
    return Failure(
        kind=kind,
        detail=_http_detail(error) or kind.detail or _UNREADABLE,
        retryable=bool(kind.retryable),
        headers={name: value for name, value in error.get_headers() if name in shown},
    )


def _without_extra_slashes() -> str | None:
    """The detail for a path that is a route but for its slashes. There is no redirect: it would trust the Host."""
    plain = re.sub("/{2,}", "/", request.path).rstrip("/")
    try:
        current_app.url_map.bind("").match(plain or "/", method=request.method)
    except MethodNotAllowed:
        pass
    except HTTPException:
        return None
    meant = "with single slashes" if "//" in request.path else "without the trailing slash"
    return f"there is nothing at this path; try it {meant}"


def _http_detail(error: HTTPException) -> str | None:
    if isinstance(error, NotFound):
        return _without_extra_slashes()
    if isinstance(error, MethodNotAllowed):
        return f"this path takes {', '.join(sorted(error.valid_methods or ()))}"
    if isinstance(error, RequestEntityTooLarge):
        return f"the body is larger than {current_app.config['MAX_CONTENT_LENGTH'] / 1024**2:g} MB"
    if isinstance(error, TooManyRequests):
        return f"more than {error.description}"
    return None
