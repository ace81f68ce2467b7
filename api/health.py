"""``GET health`` and ``GET health/live``: for balancers, from memory, never limited, never behind a key."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flask import Blueprint, Flask
from flask_limiter import Limiter

from api.schemas.answers import HealthAnswer, LiveAnswer, QueueAnswer, WebUIsAnswer
from services.health import HealthReport, HealthService


@dataclass(frozen=True, kw_only=True)
class HealthRoutes:
    """A health check takes milliseconds with every WebUI frozen: it asks nobody."""

    service: HealthService

    def register(self, app: Flask, prefix: str, limiter: Limiter) -> None:
        routes = Blueprint("health", __name__, url_prefix=prefix)
        routes.get("/health")(self.get_health)
        routes.get("/health/live")(self.get_live)
        limiter.exempt(routes)
        app.register_blueprint(routes)

    def get_health(self) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Whether this service can paint now: 200, or 503."""
        report = self.service.report()
        return asdict(_answer(report)), 200 if report.serves else 503, {"Cache-Control": "no-store"}

    def get_live(self) -> tuple[dict[str, Any], int, dict[str, str]]:
        """200 while the process lives."""
        return asdict(LiveAnswer(status="alive")), 200, {"Cache-Control": "no-store"}


def _answer(report: HealthReport) -> HealthAnswer:
    return HealthAnswer(
        status=report.status,
        version=report.version,
        uptime_seconds=round(report.uptime_s, 1),
        device=report.device,
        webuis=WebUIsAnswer(
            total=report.webuis_total,
            available=report.webuis_available,
            busy=report.webuis_busy,
            gpu=report.webuis_gpu,
            cpu=report.webuis_cpu,
        ),
        queue=QueueAnswer(waiting=report.queue_waiting, limit=report.queue_limit),
        redis=report.redis,
        storage=report.storage,
    )
