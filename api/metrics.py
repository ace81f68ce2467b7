"""``GET /metrics``: for Prometheus, from memory, never limited, never behind a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Flask, Response, request
from flask_limiter import Limiter

from observability.metrics import Metrics
from observability.states import ServiceState, StateCollector


@dataclass(frozen=True, kw_only=True)
class MetricsRoutes:
    """``look`` asks nobody: the metrics are told while everything else is frozen."""

    metrics: Metrics
    look: Callable[[], ServiceState]

    def register(self, app: Flask, limiter: Limiter) -> None:
        routes = Blueprint("metrics", __name__)
        routes.get("/metrics")(self.get_metrics)
        limiter.exempt(routes)
        app.register_blueprint(routes)

    def get_metrics(self) -> Response:
        """What the service counts, of all its workers, and how it is now."""
        text, media_type = self.metrics.exposition(request.headers.get("Accept", ""), StateCollector(self.look))
        return Response(text, content_type=media_type, headers={"Cache-Control": "no-store"})
