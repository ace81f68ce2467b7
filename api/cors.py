"""Which pages of other origins may call the service from a browser."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flask import Flask, Response
from flask_cors import CORS

_READ_HERE = (
    *("Content-Type", "Authorization", "X-API-Key", "X-Request-ID", "Prefer", "Idempotency-Key"),
    *("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
)
#: Nothing is done with them, but a front end that adds them to each of its calls could make none if they were refused:
#: tracing (W3C, Sentry, B3, Datadog, New Relic, Application Insights), XMLHttpRequest libraries, a reload past caches.
_ADDED_BY_FRONT_ENDS = (
    *("traceparent", "tracestate", "baggage", "sentry-trace", "b3", "newrelic", "Request-Id", "Request-Context"),
    *("X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled"),
    *("X-Datadog-Trace-Id", "X-Datadog-Parent-Id", "X-Datadog-Origin", "X-Datadog-Sampling-Priority"),
    *("X-Requested-With", "Cache-Control", "Pragma"),
)


def allow(app: Flask, origins: Sequence[str]) -> None:
    """
    Adds the headers to every answer, errors included, so that a page can read what went wrong.

    :param origins: as ``CORS_ORIGINS`` has checked them: ``*`` alone, or each exact, or with ``*.`` for subdomains.
    """
    everybody = list(origins) == ["*"]
    CORS(
        app,
        origins="*" if everybody else [_compared(origin) for origin in origins],
        send_wildcard=everybody,
        always_send=everybody,
        # Below, on every answer: Flask-CORS leaves it out where the caller is of no origin, or of one not let in.
        vary_header=False,
        methods=["GET", "HEAD", "POST", "DELETE", "OPTIONS"],
        allow_headers=[*_READ_HERE, *_ADDED_BY_FRONT_ENDS],
        expose_headers=[
            *("X-Request-ID", "X-Image-Id", "X-Seed", "X-Model", "X-Processing-Time", "Location", "Warning"),
            *("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
            *("Idempotency-Replayed", "Preference-Applied", "Server-Timing"),
        ],
        max_age=86_400,
    )
    if not everybody:
        app.after_request(_vary)


def _compared(origin: str) -> re.Pattern[str]:
    """Flask-CORS takes a text with a * or [ in it for a regular expression, whose dots are any character."""
    scheme, star, domain = origin.partition("://*.")
    subdomains = r"(?:[a-z0-9_-]+\.)+" if star else ""
    return re.compile(rf"{re.escape(scheme + star[:3])}{subdomains}{re.escape(domain)}\Z")


def _vary(response: Response) -> Response:
    """A cache must not give a page the answer that a caller of another origin, or an ``<img>``, got."""
    response.vary.add("Origin")
    return response
