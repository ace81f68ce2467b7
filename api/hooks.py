"""What happens around every request: its id, its clock, its line in the log, and headers for safety."""

from __future__ import annotations

import logging
import re
import time
from uuid import uuid4

from flask import Flask, Response, g, request

from api.transfers import end_slow_reader

log = logging.getLogger("access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_LARGE_BYTES = 64 * 1024

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def register(app: Flask) -> None:
    """To be called first, so that the id is there for whatever comes after."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
    g.started = time.monotonic()


def _end(response: Response) -> Response:
    # A small answer is in the system's buffers at once; whoever passes a file through looks after it.
    if (response.content_length or 0) > _LARGE_BYTES and not response.direct_passthrough:
        response.call_on_close(end_slow_reader(request))
    response.headers["X-Request-ID"] = g.request_id
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    rule = request.url_rule.rule if request.url_rule else "<unmatched>"
    fields = {
        "method": request.method,
        "route": rule,
        "status": response.status_code,
        "seconds": round(time.monotonic() - g.started, 4),
        "bytes": response.content_length,
        **g.get("log", {}),
    }
    if "error_code" in g:
        fields["code"] = g.error_code
    log.info("request", extra=fields)
    return response
