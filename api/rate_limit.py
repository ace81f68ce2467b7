"""How often a caller may call: flask-limiter with the operator's limits.

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

import redis
from flask import Flask, Response, g, request
from flask_limiter import Limiter, RateLimitExceeded
from flask_limiter.util import get_remote_address

from api.limit_storage import SharedCounts
from api.process_counts import ProcessCounts
from observability.metrics import Metrics

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


class _CountedLimit(AbstractContextManager[None]):
    """The limit, and how often it let pass and refused."""

    def __init__(self, limit: AbstractContextManager[object], metrics: Metrics) -> None:
        self._limit = limit
        self._allowed = metrics.rate_limit_decisions.labels("generation", "allowed")
        self._refused = metrics.rate_limit_decisions.labels("generation", "refused")

    def __enter__(self) -> None:
        try:
            self._limit.__enter__()
        except RateLimitExceeded:
            self._refused.inc()
            raise
        self._allowed.inc()

    def __exit__(self, *raised: Any) -> bool | None:
        return self._limit.__exit__(*raised)


def create(
    app: Flask, *, everything: str, generation: str, redis_client: redis.Redis | None, metrics: Metrics
) -> RateLimits:
    """
    :param everything: over all routes; :param generation: over the generation routes; as in ``10/minute;100/hour``.
    :param redis_client: where all workers and hosts count; None: each worker for itself.
    """
    # The scheme only says what kind of storage it is: the connections are ours.
    storage: dict[str, Any] = {"storage_uri": f"{ProcessCounts.STORAGE_SCHEME[0]}://"}
    if redis_client is not None:
        storage = {
            "storage_uri": f"{SharedCounts.STORAGE_SCHEME[0]}://",
            "storage_options": {"connection_pool": redis_client.connection_pool, "metrics": metrics},
        }
    limiter = Limiter(
        caller,
        application_limits=[everything],
        **storage,
        strategy=_STRATEGY,
        # Another strategy keeps another type under the same key, which Redis answers with an error.
        key_prefix=f"sd-api:{_STRATEGY}",
    )
    limiter.init_app(app)
    # A browser's preflight is no call of its own: one refused would hide the 429 itself from the page.
    limiter.request_filter(lambda: request.method == "OPTIONS")
    _count_global(app, limiter, metrics)
    app.after_request(lambda response: _tell(limiter, response))
    counted = _CountedLimit(limiter.shared_limit(generation, scope="generation"), metrics)
    return RateLimits(limiter=limiter, generation=counted)


def _count_global(app: Flask, limiter: Limiter, metrics: Metrics) -> None:
    """To be called after the limiter is set up: what comes here has passed it."""
    allowed = metrics.rate_limit_decisions.labels("global", "allowed")
    refused = metrics.rate_limit_decisions.labels("global", "refused")

    def count_allowed() -> None:
        if limiter.current_limit is not None:
            g.passed_global_limit = True
            allowed.inc()

    def count_refused(response: Response) -> Response:
        if response.status_code == 429 and "passed_global_limit" not in g:
            refused.inc()
        return response

    app.before_request(count_allowed)
    app.after_request(count_refused)


def _tell(limiter: Limiter, response: Response) -> Response:
    """The limit's state in headers. Flask-Limiter's own put Retry-After on every answer, and round it down."""
    current = limiter.current_limit
    if current is None:
        return response
    resets, remaining = current.window
    response.headers["X-RateLimit-Limit"] = str(current.limit.amount)
    response.headers["X-RateLimit-Remaining"] = str(max(0, remaining))
    response.headers["X-RateLimit-Reset"] = str(math.ceil(resets))
    if response.status_code == 429:
        response.headers["Retry-After"] = str(max(1, math.ceil(resets - time.time())))
    return response
