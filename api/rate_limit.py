"""How often a caller may call: Flask-Limiter with the operator's limits.

One limit counts requests to all routes together, one those to the generation routes. The latter is counted once a
request has been checked, so that refused ones are free. Images may have a separate limit: a page shows many.

Flask-Limiter makes the storage and the strategy, and knows which routes are exempt. Its hooks are not installed: they
cost each request, health checks included, 0.2 ms of CPU or more (docs/decisions/0012-rate-limits.md).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from flask import Flask, Response, g, request
from flask_limiter import ExemptionScope, Limiter, RateLimitExceeded
from limits import RateLimitItem

from api.identity import caller
from api.rate_limit_storage import ProcessStorage
from observability.metrics import Metrics
from state.failover import FailoverStore

if TYPE_CHECKING:
    import redis

    from api.rate_limit_redis import SharedStorage


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """
    :ivar count_generation: counts one job.
    :ivar check_generation: counts nothing.

    Both raise :class:`flask_limiter.RateLimitExceeded` (429) when the caller has used up its limit.
    """

    limiter: Limiter
    count_generation: Callable[[], None]
    check_generation: Callable[[], None]


def create(
    app: Flask,
    *,
    everything: str,
    generation: str,
    images: str | None,
    redis_client: redis.Redis | None,
    redis_prefix: str,
    store: FailoverStore | None,
    metrics: Metrics,
) -> RateLimits:
    """
    :param everything: over all routes; :param generation: over the generation routes; as in ``10/minute;100/hour``.
    :param images: over images that are fetched, in place of ``everything``; None: they count there.
    :param redis_client: where all workers and hosts count; None: each worker for itself.
    :param redis_prefix: what the keys there begin with.
    :param store: knows whether Redis is up; None without Redis.
    """
    uri, options = "process://", {}
    if redis_client is not None:
        from api.rate_limit_redis import SharedStorage

        uri = f"{SharedStorage.STORAGE_SCHEME[0]}://"
        on_error = metrics.redis_failed("limits")
        options = {"client": redis_client, "prefix": redis_prefix, "store": store, "on_error": on_error}
    limiter = Limiter(
        lambda: caller("limits"), strategy="moving-window", storage_uri=uri, storage_options=cast("Any", options)
    )
    app.extensions.setdefault("limiter", set()).add(limiter)  # no hooks are installed for one that is there already
    limiter.init_app(app)
    of_everything = _Limit("global", everything, limiter, metrics)
    of_images = _Limit("images", images, limiter, metrics) if images else of_everything
    of_generation = _Limit("generation", generation, limiter, metrics)

    @functools.cache
    def is_exempt(endpoint: str) -> bool:
        blueprint = endpoint.rpartition(".")[0] or None
        return bool(limiter.limit_manager.exemption_scope(app, endpoint, blueprint) & ExemptionScope.APPLICATION)

    def count() -> None:
        # A browser's preflight is not a separate call: if it were refused, the page could not read the 429.
        # Requests that lead nowhere count as well: otherwise keys could be tried there without end.
        if request.method != "OPTIONS" and not is_exempt(request.endpoint or ""):
            (of_images if request.endpoint == "images.get_image" else of_everything).count()

    app.before_request(count)
    app.after_request(lambda response: _add_headers(response, limiter))
    return RateLimits(limiter=limiter, count_generation=of_generation.count, check_generation=of_generation.check)


class _Limit:
    """
    One of the operator's limits, which may have several windows: ``10/minute;100/hour``.

    :param name: the limit's in the metrics, and part of its keys.
    """

    def __init__(self, name: str, text: str, limiter: Limiter, metrics: Metrics) -> None:
        self._name = name
        windows = dict.fromkeys(limiter.shared_limit(text, scope=name))
        self._windows = sorted(windows, key=lambda window: window.limit)
        self._limiter = limiter
        self._allowed = metrics.rate_limit_decisions.labels(name, "allowed")
        self._refused = metrics.rate_limit_decisions.labels(name, "refused")

    def count(self) -> None:
        """:raises RateLimitExceeded: a window is full. Those before it have counted."""
        identifiers = self._try_each(self._limiter.limiter.hit)
        self._allowed.inc()
        g.rate_limit = self._windows[0].limit, identifiers

    def check(self) -> None:
        """:raises RateLimitExceeded: a window is full. Nothing is counted."""
        self._try_each(self._limiter.limiter.test)

    def _try_each(self, has_room: Callable[..., bool]) -> tuple[str, str]:
        identifiers = caller("limits"), self._name
        for window in self._windows:
            if not has_room(window.limit, *identifiers):
                self._refused.inc()
                g.rate_limit = window.limit, identifiers
                refused = RateLimitExceeded(window)
                refused.retry_after = max(1, math.ceil(_Left.of(self._limiter, window.limit, identifiers).seconds))
                raise refused
        return identifiers


class _Left(NamedTuple):
    """What is left of a window: calls, and seconds until there is one more."""

    calls: int
    seconds: float

    @classmethod
    def of(cls, limiter: Limiter, limit: RateLimitItem, identifiers: tuple[str, str]) -> _Left:
        window = limiter.limiter.get_window_stats(limit, *identifiers)
        # The clock that counts may be another host's: only the difference means anything to the caller.
        now = cast("ProcessStorage | SharedStorage", limiter.storage).now()
        return cls(calls=max(0, window.remaining), seconds=window.reset_time - now)


def _add_headers(response: Response, limiter: Limiter) -> Response:
    """Not those of Flask-Limiter, which put Retry-After on every response, and round it down."""
    if "rate_limit" not in g:
        return response
    limit: RateLimitItem
    limit, identifiers = g.rate_limit
    left = _Left.of(limiter, limit, identifiers)
    response.headers.add("X-RateLimit-Limit", str(limit.amount))
    response.headers.add("X-RateLimit-Remaining", str(left.calls))
    response.headers.add("X-RateLimit-Reset", str(math.ceil(time.time() + left.seconds)))
    return response
