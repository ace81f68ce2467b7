"""``GET health`` and ``GET health/live``: for balancers, from memory, never limited, never behind a key."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Flask, Response
from flask_limiter import Limiter
from pydantic_core import to_json

from services.health import HealthReport, HealthService


@dataclass(frozen=True, kw_only=True)
class HealthRoutes:
    """A health check takes milliseconds even if every WebUI hangs: it asks none of them."""

    service: HealthService

    def register(self, app: Flask, prefix: str, limiter: Limiter) -> None:
        routes = Blueprint("health", __name__, url_prefix=prefix)
        routes.get("/health")(self.get_health)
        routes.get("/health/live")(self.get_live)
        limiter.exempt(routes)
        app.register_blueprint(routes)

    def get_health(self) -> Response:
        """Whether this service can generate images now: 200, or 503."""
        report = self.service.report()
        return _fresh(report, status=200 if report.serves else 503)

    def get_live(self) -> Response:
        """200 while the process is alive."""
        return _fresh({"status": "alive"}, status=200)


def _fresh(body: HealthReport | dict[str, str], *, status: int) -> Response:
    return Response(to_json(body), status, {"Cache-Control": "no-store"}, mimetype="application/json")
