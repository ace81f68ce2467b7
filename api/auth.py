"""API keys, where ``API_KEYS`` lists any."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence

from flask import Flask, g, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

from api.errors import UnauthorizedError

#: Routes that need no key: balancers have none, and in the studio a person types the key in.
_OPEN = frozenset({"health", "metrics", "pages"})
#: ``<img src>`` cannot send headers, and an image's id cannot be guessed.
_OPEN_VIEW = "images.get_image"


def identify(app: Flask, *, keys: Sequence[str]) -> None:
    """Finds out who asks. Called before the rate limits are set up, because they count per valid key."""
    expected = [key.encode() for key in keys]
    if not expected:
        return

    def find_key() -> None:
        for given in _given_keys():
            # Every key is compared, in constant time, so that the time reveals nothing.
            matches = [hmac.compare_digest(given, key) for key in expected]
            if any(matches):
                g.api_key = given.decode()
                return

    app.before_request(find_key)


def require(app: Flask) -> None:
    """Refuses requests without a valid key. Called after the rate limits are set up: guesses are limited too."""

    def require_key() -> None:
        is_open = request.blueprint in _OPEN or request.endpoint == _OPEN_VIEW
        # A 405 follows, whoever asks: the methods of a path are in the description, which is open, and no key adds one.
        has_no_such_method = isinstance(request.routing_exception, MethodNotAllowed)
        # Programs ask A1111's API for what it may have, some before they have a key.
        is_unknown = g.door == "a1111" and isinstance(request.routing_exception, NotFound)
        needs_none = is_open or has_no_such_method or is_unknown or request.method == "OPTIONS"
        if "api_key" not in g and not needs_none:
            raise UnauthorizedError

    app.before_request(require_key)


def _given_keys() -> tuple[bytes, ...]:
    """One header with a valid key is enough: the other may be meant for a proxy in between."""
    # WSGI decodes a header's bytes as Latin-1; encoding restores the bytes that were sent, also those of a UTF-8 key.
    scheme, _, token = request.headers.get("Authorization", "").encode("latin-1").partition(b" ")
    keys = [request.headers.get("X-API-Key", "").encode("latin-1")]
    if scheme.lower() == b"bearer":
        keys.append(token.strip())
    elif scheme.lower() == b"basic" and g.door != "own":
        keys.append(_password(token))
    return tuple(key for key in keys if key)


def _password(token: bytes) -> bytes:
    """Of any user: programs without a field for a key take ``http://any:KEY@host``. Empty if there is none."""
    try:
        return base64.b64decode(token.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""
