"""API keys, where ``API_KEYS`` lists any."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from flask import Flask, g, request
from werkzeug.exceptions import MethodNotAllowed

from api.errors import UnauthorizedError

#: Never asked for a key: balancers have none, ``<img src>`` cannot send headers (an image's id cannot be guessed), and
#: the studio is where a person types the key in.
_OPEN = frozenset(
    {
        "health.get_health",
        "health.get_live",
        "docs.get_description",
        "docs.get_docs",
        "docs.get_docs_folder",
        "docs.get_errors",
        "docs.get_file",
        "metrics.get_metrics",
        "images.get_image",
        "studio.get_page",
        "studio.get_file",
    }
)


def identify(app: Flask, *, keys: Sequence[str]) -> None:
    """To be called before the rate limits are set up: they count by key where there is a valid one."""
    expected = [key.encode() for key in keys]
    if not expected:
        return

    def note_key() -> None:
        for given in _given_keys():
            # Every key is compared, in constant time, so that the time tells nothing.
            matches = [hmac.compare_digest(given, key) for key in expected]
            if any(matches):
                g.api_key = given.decode()
                return

    app.before_request(note_key)


def require(app: Flask) -> None:
    """To be called after the rate limits are set up: guesses are limited too."""

    def ask_for_key() -> None:
        is_open = request.endpoint in _OPEN and request.method in ("GET", "HEAD")
        # A 405 follows, whoever asks: the methods of a path are in the description, which is open, and no key adds one.
        is_never_taken = isinstance(request.routing_exception, MethodNotAllowed)
        if "api_key" not in g and not is_open and not is_never_taken and request.method != "OPTIONS":
            raise UnauthorizedError

    app.before_request(ask_for_key)


def _given_keys() -> tuple[bytes, ...]:
    """One header with a valid key is enough: the other may be for a proxy in between."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = (request.headers.get("X-API-Key", ""), token.strip() if scheme.lower() == "bearer" else "")
    # WSGI hands a header's bytes over as Latin-1: encoded so, they are again what was sent, a UTF-8 key included.
    return tuple(key.encode("latin-1") for key in given if key)
