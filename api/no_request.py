"""The response to invalid HTTP, which never reaches the service itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from uuid import uuid4

from gunicorn.http import errors

from api.hooks import SECURITY_HEADERS

log = logging.getLogger(__name__)

_REFUSALS: Mapping[type[Exception], tuple[int, str, str]] = {
    errors.LimitRequestLine: (414, "URI Too Long", "the path is too long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large", "the headers are too large"),
    errors.ExpectationFailed: (417, "Expectation Failed", "the only supported expectation is 100-continue"),
    errors.UnsupportedTransferCoding: (501, "Not Implemented", "the only supported transfer coding is chunked"),
}
_NO_HTTP = (400, "Bad Request", "the request is not valid HTTP")
_OURS = (500, "Internal Server Error", "an internal error; the service's log has the details")


def refusal(error: Exception, *, errors_page: str) -> bytes:
    """
    Logs the refusal.

    :param errors_page: what each problem's ``type`` begins with.
    :returns: a complete response, which quotes nothing of the request.
    """
    if isinstance(error, errors.ParseException):
        status, reason, detail = next((row for kind, row in _REFUSALS.items() if isinstance(error, kind)), _NO_HTTP)
    else:
        status, reason, detail = _OURS
    request_id = uuid4().hex
    level, trace = (logging.ERROR, error) if status == 500 else (logging.WARNING, None)
    fields = {"status": status, "error": type(error).__name__, "request_id": request_id}
    log.log(level, "invalid request", extra=fields, exc_info=trace)
    return _response(status, reason, detail, request_id, errors_page)


def _response(status: int, reason: str, detail: str, request_id: str, errors_page: str) -> bytes:
    code = "internal_error" if status == 500 else "malformed_request"
    body = {
        "type": f"{errors_page}#{code}",
        "title": reason,
        "status": status,
        "code": code,
        "detail": detail,
        "retryable": False,
        "request_id": request_id,
    }
    data = json.dumps(body).encode()
    head = [
        f"HTTP/1.1 {status} {reason}",
        "Connection: close",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(data)}",
        f"X-Request-ID: {request_id}",
        *(f"{name}: {value}" for name, value in SECURITY_HEADERS.items()),
    ]
    return "\r\n".join([*head, "", ""]).encode() + data
