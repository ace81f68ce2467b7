"""What happens around every request: its id, its clock, its line in the log, and headers for safety."""

from __future__ import annotations

import logging
import re
import secrets
import time

from flask import Flask, Response, g, request
from werkzeug.datastructures import Headers

from api.security_headers import SECURITY_HEADERS
from api.transfers import end_slow_reader
from observability.metrics import Metrics

log = logging.getLogger("access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_LARGE_BYTES = 64 * 1024

#: Whatever else a caller writes there is "OTHER" to the metrics.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


def register(app: Flask, metrics: Metrics) -> None:
    """To be called first, so that the id is there for whatever comes after."""
    app.before_request(_begin)
    app.after_request(lambda response: _end(response, metrics))


def _begin() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    g.started = time.monotonic()


def _end(response: Response, metrics: Metrics) -> Response:
    # A small answer is in the system's buffers at once; whoever passes a file through looks after it.
    if (response.content_length or 0) > _LARGE_BYTES and not response.direct_passthrough:
        response.call_on_close(end_slow_reader(request))
    _add_headers(response.headers)
    route = request.url_rule.rule if request.url_rule else "<unmatched>"
    seconds = time.monotonic() - g.started
    _count(metrics, route, response.status_code, seconds)
    _log(route, response, seconds)
    return response


def _add_headers(headers: Headers) -> None:
    """What is there already, stays."""
    there = {name.lower() for name, _ in headers}
    headers.add("X-Request-ID", g.request_id)
    for name, value in SECURITY_HEADERS.items():
        if name.lower() not in there:
            headers.add(name, value)


def _count(metrics: Metrics, route: str, status: int, seconds: float) -> None:
    method = request.method if request.method in _METHODS else "OTHER"
    metrics.http_requests.labels(route, method, status).inc()
    metrics.http_request_duration.labels(route, method).observe(seconds)


def _log(route: str, response: Response, seconds: float) -> None:
    fields = {
        "method": request.method,
        "route": route,
        "status": response.status_code,
        "seconds": round(seconds, 4),
        "bytes_in": request.content_length,
        "bytes_out": response.content_length,
        **g.get("log", {}),
    }
    if "error_code" in g:
        fields["code"] = g.error_code
    if reason := g.get("error_reason"):
        fields["reason"] = reason
    log.info("request", extra=fields)
