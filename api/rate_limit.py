"""How often a caller may call: flask-limiter with the owner's limits.

Over all routes together a limit of the application; over the three generation routes one shared limit, which is
taken after a request has been checked, so that refused requests do not count.
"""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, g, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits.errors import StorageError
from redis.exceptions import RedisError

#: A Redis that does not answer may cost a request no more than this; it answers within a millisecond.
_REDIS_OPTIONS: dict[str, Any] = {"socket_timeout": 0.25, "socket_connect_timeout": 0.25}

_STRATEGY = "moving-window"


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """``generation``: entering it counts one job and raises 429 where that is too many."""

    limiter: Limiter
    generation: AbstractContextManager[object]


def caller() -> str:
    """Whom a limit belongs to: the API key, as a hash, or else the address."""
    key = g.get("api_key")
    return f"key:{hashlib.sha256(key.encode()).hexdigest()}" if key else get_remote_address()


def create(app: Flask, *, everything: str, generation: str, redis_url: str | None) -> RateLimits:
    """
    :param everything: over all routes; :param generation: over the generation routes; as in ``10/minute;100/hour``.
    """
    limiter = Limiter(
        caller,
        application_limits=[everything],
        storage_uri=_storage_uri(redis_url),
        storage_options=_REDIS_OPTIONS if redis_url else {},
        strategy=_STRATEGY,
        # Both: while Redis is away limits are counted in this process, and of the requests that were under way when it
        # went, all but one would fail without the second.
        in_memory_fallback_enabled=redis_url is not None,
        swallow_errors=True,
        # Another strategy keeps another type under the same key, which Redis answers with an error.
        key_prefix=f"sd-api:{_STRATEGY}",
    )
    limiter.init_app(app)
    # A browser's preflight is no call of its own: one refused would hide the 429 itself from the page.
    limiter.request_filter(lambda: request.method == "OPTIONS")
    app.after_request(lambda response: _tell(limiter, response))
    return RateLimits(limiter=limiter, generation=limiter.shared_limit(generation, scope="generation"))


def _storage_uri(redis_url: str | None) -> str:
    if redis_url is None:
        return "memory://"
    # The name that the limits library has for what redis-py calls unix://.
    return redis_url.replace("unix://", "redis+unix://", 1)


def _tell(limiter: Limiter, response: Response) -> Response:
    """The limit's state in headers. Flask-Limiter's own put Retry-After on every answer, and round it down."""
    current = limiter.current_limit
    if current is None:
        return response
    try:
        resets, remaining = current.window
    except (RedisError, StorageError):
        # Redis went away since the limit was checked; the next request counts in this process.
        resets, remaining = time.time() + current.limit.get_expiry(), 0
    response.headers["X-RateLimit-Limit"] = str(current.limit.amount)
    response.headers["X-RateLimit-Remaining"] = str(max(0, remaining))
    response.headers["X-RateLimit-Reset"] = str(math.ceil(resets))
    if response.status_code == 429:
        response.headers["Retry-After"] = str(max(1, math.ceil(resets - time.time())))
    return response
