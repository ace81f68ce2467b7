"""What happens around every request: its id, its clock, its line in the log, and headers for browsers."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence

from flask import Flask, Response, g, request
from flask_cors import CORS
from werkzeug.datastructures import Headers

from api.doors.places import door_of
from api.streams import once_over
from api.transfers import end_slow_reader
from observability.metrics import Metrics

log = logging.getLogger("access")

#: On every response that does not set its own, so that a browser takes it for no more than it is.
SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_LARGE_BYTES = 64 * 1024

#: Anything else is "OTHER" in the metrics.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})

_READ_HERE = (
    *("Content-Type", "Authorization", "X-API-Key", "X-Request-ID", "Prefer", "Idempotency-Key"),
    *("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
)
#: They have no effect here, but front ends that add them to every call could make none if they were refused: tracing
#: (W3C, Sentry, B3, Datadog, New Relic, Application Insights), XMLHttpRequest libraries, a reload past caches.
_ADDED_BY_FRONT_ENDS = (
    *("traceparent", "tracestate", "baggage", "sentry-trace", "b3", "newrelic", "Request-Id", "Request-Context"),
    *("X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled"),
    *("X-Datadog-Trace-Id", "X-Datadog-Parent-Id", "X-Datadog-Origin", "X-Datadog-Sampling-Priority"),
    *("X-Requested-With", "Cache-Control", "Pragma"),
    # OpenAI's library, in a browser.
    *("X-Stainless-Arch", "X-Stainless-Lang", "X-Stainless-OS", "X-Stainless-Package-Version"),
    *("X-Stainless-Retry-Count", "X-Stainless-Runtime", "X-Stainless-Runtime-Version", "X-Stainless-Timeout"),
    *("OpenAI-Organization", "OpenAI-Project"),
)


def register(app: Flask, metrics: Metrics, *, doors: Collection[str]) -> None:
    """
    To be called first: everything after needs the request's id, and its entrance.

    :param doors: those that are open, ``DOORS``.
    """
    app.before_request(lambda: _begin(doors))
    app.after_request(lambda response: _end(response, metrics))


def _begin(doors: Collection[str]) -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    g.started = time.monotonic()
    g.door = door_of(request.path, doors)


def _end(response: Response, metrics: Metrics) -> Response:
    # A small response fits the system's buffers at once; a view that passes a file through limits the time itself.
    if (response.content_length or 0) > _LARGE_BYTES and not response.direct_passthrough:
        response.call_on_close(end_slow_reader(request))
    _add_headers(response.headers)
    once_over(lambda: _record(response, metrics))
    return response


def _record(response: Response, metrics: Metrics) -> None:
    route = request.url_rule.rule if request.url_rule else "<unmatched>"
    seconds = time.monotonic() - g.started
    _count(metrics, route, response.status_code, seconds)
    _log(route, response, seconds)


def _add_headers(headers: Headers) -> None:
    """Existing headers are left as they are."""
    there = {name.lower() for name, _ in headers}
    headers.add("X-Request-ID", g.request_id)
    for name, value in SECURITY_HEADERS.items():
        if name.lower() not in there:
            headers.add(name, value)


def _count(metrics: Metrics, route: str, status: int, seconds: float) -> None:
    method = request.method if request.method in _METHODS else "OTHER"
    metrics.http_requests.labels(route, method, status, g.door).inc()
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


def allow_origins(app: Flask, origins: Sequence[str]) -> None:
    """
    Lets pages of other origins call the service from a browser: with headers on every response, errors included, so
    that a page can read what went wrong.

    :param origins: as checked in ``CORS_ORIGINS``: ``*`` alone, or each exact, or with ``*.`` for subdomains.
    """
    everybody = list(origins) == ["*"]
    CORS(
        app,
        origins="*" if everybody else [_compared(origin) for origin in origins],
        send_wildcard=everybody,
        always_send=everybody,
        # Flask-CORS leaves it out if the caller names no origin, or one that is not allowed: see _vary.
        vary_header=False,
        methods=["GET", "HEAD", "POST", "DELETE", "OPTIONS"],
        allow_headers=[*_READ_HERE, *_ADDED_BY_FRONT_ENDS],
        expose_headers=[
            *("X-Request-ID", "X-Image-Id", "X-Seed", "X-Model", "X-Processing-Time", "Location", "Warning"),
            *("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
            *("Idempotency-Replayed", "Preference-Applied", "Server-Timing", "X-Ignored-Fields", "X-Should-Retry"),
        ],
        max_age=86_400,
    )
    if not everybody:
        app.after_request(_vary)


def _compared(origin: str) -> re.Pattern[str]:
    """Flask-CORS would treat a text with a * or [ as a regular expression, in which a dot is any character."""
    scheme, star, domain = origin.partition("://*.")
    subdomains = r"(?:[a-z0-9_-]+\.)+" if star else ""
    return re.compile(rf"{re.escape(scheme + star[:3])}{subdomains}{re.escape(domain)}\Z")


def _vary(response: Response) -> Response:
    """A cache must not give a page the response that went to another origin, or to an ``<img>``."""
    response.vary.add("Origin")
    return response
