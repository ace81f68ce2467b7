"""How often a caller may call: flask-limiter with the operator's limits.

Over all routes together, and whatever else is asked for, a limit of the application; over the three generation routes
one shared limit, which is taken after a request has been checked, so that refused requests do not count; for images,
where the operator wants it, one of their own, for a page shows many.

Flask-Limiter reads the limits, knows what is exempt, and counts, with a strategy and storages of ours. Which limits
are hit when is said here: its own hooks work that out anew for each request, from the limits' texts on, and look twice
at each window.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import redis
from flask import Flask, Response, g, request
from flask_limiter import ApplicationLimit, ExemptionScope, Limit, Limiter, RateLimitExceeded
from limits import RateLimitItem
from limits.strategies import STRATEGIES

from api.identity import caller
from api.limit_storage import SharedCounts
from api.moving_windows import Count, MovingWindows
from api.process_counts import ProcessCounts
from observability.metrics import Metrics

#: Where Flask-Limiter looks for one.
STRATEGIES[MovingWindows.NAME] = MovingWindows

#: Another strategy keeps another type under the same key, which Redis answers with an error.
_KEY_PREFIX = "moving-window"

#: ``GET`` of an image, and ``HEAD``.
_IMAGES = "images.get_image"


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """
    :ivar count_generation: counts one job; raises 429 where that is too many.
    :ivar check_generation: raises 429 where one more would be too many; counts nothing.
    """

    limiter: Limiter
    count_generation: Callable[[], None]
    check_generation: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """How the caller stands with a limit: in the window that refused it, or else in the shortest."""

    item: RateLimitItem
    count: Count


def _caller() -> str:
    return caller("limits")


def create(
    app: Flask,
    *,
    everything: str,
    generation: str,
    images: str | None,
    redis_client: redis.Redis | None,
    redis_prefix: str,
    metrics: Metrics,
) -> RateLimits:
    """
    :param everything: over all routes; :param generation: over the generation routes; as in ``10/minute;100/hour``.
    :param images: over images that are fetched, in place of ``everything``; None: they count there.
    :param redis_client: where all workers and hosts count; None: each worker for itself.
    :param redis_prefix: what the keys there begin with.
    """
    # The scheme only says what kind of storage it is: the connections are ours.
    storage: dict[str, Any] = {"storage_uri": f"{ProcessCounts.STORAGE_SCHEME[0]}://"}
    if redis_client is not None:
        pool = redis_client.connection_pool
        storage = {
            "storage_uri": f"{SharedCounts.STORAGE_SCHEME[0]}://",
            "storage_options": {"connection_pool": pool, "key_prefix": redis_prefix, "metrics": metrics},
        }
    over_all = ApplicationLimit(everything)
    limiter = Limiter(_caller, application_limits=[over_all], **storage, strategy=MovingWindows.NAME)
    # One that is there already adds no hooks.
    app.extensions.setdefault("limiter", set()).add(limiter)
    limiter.init_app(app)
    over_generation = limiter.shared_limit(generation, scope="generation")
    own = (
        {}
        if images is None
        else {_IMAGES: _counting(limiter, limiter.shared_limit(images, scope="images"), "images", metrics)}
    )
    app.before_request(_check_of_all(app, limiter, _counting(limiter, over_all, "global", metrics), own))
    app.after_request(_tell)
    return RateLimits(
        limiter=limiter,
        count_generation=_counting(limiter, over_generation, "generation", metrics),
        check_generation=_counting(limiter, over_generation, "generation", metrics, only_look=True),
    )


def _check_of_all(
    app: Flask, limiter: Limiter, count: Callable[[], None], own: Mapping[str, Callable[[], None]]
) -> Callable[[], None]:
    """:param own: what counts instead for the endpoints that have a limit of their own."""

    @functools.cache
    def is_counted(endpoint: str) -> bool:
        blueprint = endpoint.rpartition(".")[0] or None
        scope = limiter.limit_manager.exemption_scope(app, endpoint, blueprint)
        return not scope & ExemptionScope.APPLICATION

    def check() -> None:
        # A browser's preflight is no call of its own: one refused would hide the 429 itself from the page.
        if request.method == "OPTIONS":
            return
        # What leads nowhere counts as well: keys could be tried there without end.
        if request.endpoint is None or is_counted(request.endpoint):
            own.get(request.endpoint or "", count)()

    return check


def _counting(
    limiter: Limiter, limit: Limit, name: str, metrics: Metrics, *, only_look: bool = False
) -> Callable[[], None]:
    """
    What counts one request against the limit, and raises 429 where that is too many.

    :param name: the limit's to the metrics, and part of its keys.
    :param only_look: raises the same, and counts nothing.
    """
    windows = sorted(dict.fromkeys(limit), key=lambda window: window.limit)
    items = [window.limit for window in windows]
    strategy = cast("MovingWindows", limiter.limiter)
    allowed = metrics.rate_limit_decisions.labels(name, "allowed")
    refused = metrics.rate_limit_decisions.labels(name, "refused")

    def count() -> None:
        count_in_order = strategy.look_in_order if only_look else strategy.hit_in_order
        counts = count_in_order(items, _KEY_PREFIX, _caller(), name)
        if counts[-1].acquired and only_look:
            return
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
    # By differences alone: the clock that counts may be another host's, or no time of day at all.
    left_s = count.start + item.get_expiry() - count.now
    response.headers.add("X-RateLimit-Limit", str(item.amount))
    response.headers.add("X-RateLimit-Remaining", str(max(0, item.amount - count.taken)))
    response.headers.add("X-RateLimit-Reset", str(math.ceil(time.time() + left_s)))
    if response.status_code == 429:
        response.headers["Retry-After"] = str(max(1, math.ceil(left_s)))
    return response
