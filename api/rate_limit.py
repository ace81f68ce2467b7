"""How often a caller may call: flask-limiter with the operator's limits.

Over all routes together a limit of the application; over the three generation routes one shared limit, which is
taken after a request has been checked, so that refused requests do not count.

Flask-Limiter reads the limits, knows what is exempt, and counts, with a strategy and storages of ours. Which limits
are hit when is said here: its own hooks work that out anew for each request, from the limits' texts on, and look twice
at each window.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import redis
from flask import Flask, Response, g, request
from flask_limiter import ApplicationLimit, ExemptionScope, Limit, Limiter, RateLimitExceeded
from flask_limiter.util import get_remote_address
from limits import RateLimitItem
from limits.strategies import STRATEGIES

from api.limit_storage import SharedCounts
from api.moving_windows import Count, MovingWindows
from api.process_counts import ProcessCounts
from observability.metrics import Metrics

#: Where Flask-Limiter looks for one.
STRATEGIES[MovingWindows.NAME] = MovingWindows

#: Another strategy keeps another type under the same key, which Redis answers with an error.
_KEY_PREFIX = "sd-api:moving-window"


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """:ivar count_generation: counts one job; raises 429 where that is too many."""

    limiter: Limiter
    count_generation: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """How the caller stands with a limit: in the window that refused it, or else in the shortest."""

    item: RateLimitItem
    count: Count


def caller() -> str:
    """Whom a limit belongs to: the API key, as a hash, or else the address."""
    key = g.get("api_key")
    return f"key:{hashlib.sha256(key.encode()).hexdigest()}" if key else get_remote_address()


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
    over_all = ApplicationLimit(everything)
    limiter = Limiter(caller, application_limits=[over_all], **storage, strategy=MovingWindows.NAME)
    # One that is there already adds no hooks.
    app.extensions.setdefault("limiter", set()).add(limiter)
    limiter.init_app(app)
    over_generation = limiter.shared_limit(generation, scope="generation")
    app.before_request(_check_of_all(app, limiter, _counting(limiter, over_all, "global", metrics)))
    app.after_request(_tell)
    return RateLimits(limiter=limiter, count_generation=_counting(limiter, over_generation, "generation", metrics))


def _check_of_all(app: Flask, limiter: Limiter, count: Callable[[], None]) -> Callable[[], None]:
    @functools.cache
    def is_counted(endpoint: str) -> bool:
        blueprint = endpoint.rpartition(".")[0] or None
        scope = limiter.limit_manager.exemption_scope(app, endpoint, blueprint)
        return not scope & ExemptionScope.APPLICATION

    def check() -> None:
        # A browser's preflight is no call of its own: one refused would hide the 429 itself from the page.
        if request.endpoint is not None and request.method != "OPTIONS" and is_counted(request.endpoint):
            count()

    return check


def _counting(limiter: Limiter, limit: Limit, name: str, metrics: Metrics) -> Callable[[], None]:
    """
    What counts one request against the limit, and raises 429 where that is too many.

    :param name: the limit's to the metrics, and part of its keys.
    """
    windows = sorted(dict.fromkeys(limit), key=lambda window: window.limit)
    items = [window.limit for window in windows]
    strategy = cast("MovingWindows", limiter.limiter)
    allowed = metrics.rate_limit_decisions.labels(name, "allowed")
    refused = metrics.rate_limit_decisions.labels(name, "refused")

    def count() -> None:
        counts = strategy.hit_in_order(items, _KEY_PREFIX, caller(), name)
        if counts[-1].acquired:
            g.rate_limit = _Standing(item=items[0], count=counts[0])
            allowed.inc()
            return
        full = windows[len(counts) - 1]
        g.rate_limit = _Standing(item=full.limit, count=counts[-1])
        refused.inc()
        raise RateLimitExceeded(full)

    return count


def _tell(response: Response) -> Response:
    """The limit's state in headers. Flask-Limiter's own put Retry-After on every answer, and round it down."""
    standing: _Standing | None = g.get("rate_limit")
    if standing is None:
        return response
    item, count = standing.item, standing.count
    resets = count.start + item.get_expiry()
    response.headers.add("X-RateLimit-Limit", str(item.amount))
    response.headers.add("X-RateLimit-Remaining", str(max(0, item.amount - count.taken)))
    response.headers.add("X-RateLimit-Reset", str(math.ceil(resets)))
    if response.status_code == 429:
        response.headers["Retry-After"] = str(max(1, math.ceil(resets - time.time())))
    return response
