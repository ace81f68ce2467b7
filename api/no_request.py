"""The answer to an invalid request, which never reaches the service itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from uuid import uuid4

from gunicorn.http import errors

from api.security_headers import SECURITY_HEADERS

log = logging.getLogger(__name__)

_REFUSALS: Mapping[type[Exception], tuple[int, str, str]] = {
    errors.LimitRequestLine: (414, "URI Too Long", "the path is too long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large", "the headers are too large"),
    errors.ExpectationFailed: (417, "Expectation Failed", "the only expectation that is met is 100-continue"),
    errors.UnsupportedTransferCoding: (501, "Not Implemented", "the only transfer coding that is read is chunked"),
}
_NO_HTTP = (400, "Bad Request", "the request is no valid HTTP")
_OURS = (500, "Internal Server Error", "an internal error; the service's log has the details")


def refusal(error: Exception, *, errors_page: str) -> bytes:
    """
    A whole answer, which quotes nothing. It is logged here.

    :param errors_page: what each problem's ``type`` begins with.
    """
    if isinstance(error, errors.ParseException):
        status, reason, detail = next((told for kind, told in _REFUSALS.items() if isinstance(error, kind)), _NO_HTTP)
    else:
        status, reason, detail = _OURS
    request_id = uuid4().hex
    level, trace = (logging.ERROR, error) if status == 500 else (logging.WARNING, None)
    fields = {"status": status, "error": type(error).__name__, "request_id": request_id}
    log.log(level, "not a request", extra=fields, exc_info=trace)
    return _answer(status, reason, detail, request_id, errors_page)


def _answer(status: int, reason: str, detail: str, request_id: str, errors_page: str) -> bytes:
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
