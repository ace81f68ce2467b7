"""Files of the service's own pages: small, read once, answered from memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flask import Response, request

from api.conditions import make_conditional

#: Other kinds of files are not given out.
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}

#: Scripts and styles come from files alone; pictures also from memory: Swagger UI's icons are data:, answers blob:.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

#: Names stay the same over versions: a browser may keep a file, and asks each time whether it is still that one.
KEEP_AND_ASK = {"Cache-Control": "no-cache"}


@dataclass(frozen=True, kw_only=True)
class StaticFile:
    data: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, data: bytes, suffix: str) -> StaticFile:
        """``suffix``: one of :data:`CONTENT_TYPES`."""
        return cls(data=data, content_type=CONTENT_TYPES[suffix], etag=hashlib.sha256(data).hexdigest()[:32])

    @classmethod
    def read(cls, path: Path) -> StaticFile:
        """:raises OSError:"""
        return cls.of(path.read_bytes(), path.suffix)

    def answer(self, headers: Mapping[str, str]) -> Response:
        """
        304 for whoever has it already.

        :raises PreconditionFailedError:
        """
        response = Response(self.data, content_type=self.content_type, headers={**KEEP_AND_ASK, **headers})
        response.set_etag(self.etag)
        return make_conditional(response, request, etag=self.etag, modified=None)
