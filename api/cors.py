"""Which pages of other origins may call the service from a browser."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask
from flask_cors import CORS


def allow(app: Flask, origins: Sequence[str]) -> None:
    """Adds the headers to every answer, errors included, so that a page can read what went wrong."""
    CORS(
        app,
        origins=list(origins),
        methods=["GET", "HEAD", "POST", "DELETE", "OPTIONS"],
        allow_headers=["Content-Type", "Authorization", "X-API-Key", "X-Request-ID", "Prefer", "Idempotency-Key"],
        expose_headers=[
            *("X-Request-ID", "X-Image-Id", "X-Seed", "X-Model", "X-Processing-Time", "Location", "Warning"),
            *("Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
            *("Idempotency-Replayed", "Preference-Applied", "Server-Timing"),
        ],
        max_age=86_400,
    )
