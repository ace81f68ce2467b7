"""``GET /metrics``: for Prometheus, from memory, never limited, never behind a key."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flask import Blueprint, Flask, Response, request
from flask_limiter import Limiter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from observability.metrics import Metrics
from services.health import HealthReport, HealthService, WebUIFigures


@dataclass(frozen=True, kw_only=True)
class MetricsRoutes:
    """A scrape asks nobody, so that it is answered while everything else is frozen."""

    metrics: Metrics
    health: HealthService

    def register(self, app: Flask, limiter: Limiter) -> None:
        routes = Blueprint("metrics", __name__)
        routes.get("/metrics")(self.get_metrics)
        limiter.exempt(routes)
        app.register_blueprint(routes)

    def get_metrics(self) -> Response:
        """What the service counts, of all its workers, and how it is now."""
        state = HealthCollector(self.health.report(), self.health.webuis())
        text, media_type = self.metrics.exposition(request.headers.get("Accept", ""), state)
        return Response(text, content_type=media_type, headers={"Cache-Control": "no-store"})


class HealthCollector(Collector):
    """
    The health report as gauges.

    :param webuis: by their place in ``SD_WEBUI_URL``.
    """

    def __init__(self, report: HealthReport, webuis: Mapping[int, WebUIFigures]) -> None:
        self._report = report
        self._webuis = webuis

    def collect(self) -> Iterator[Metric]:
        report = self._report
        yield _gauge("sd_api_queue_waiting", "Jobs that wait.", report.queue.waiting)
        yield _gauge("sd_api_queue_limit", "Jobs that may wait.", report.queue.limit)
        yield from self._of_webuis()
        yield _gauge("sd_api_storage_up", "Whether images can be stored.", report.storage == "ok")
        if report.redis != "off":
            yield _gauge("sd_api_redis_up", "Whether Redis is used.", report.redis == "up")
        yield _gauge("sd_api_draining", "Whether the service shuts down.", report.status == "draining")
        reasons: dict[str, int | None] = dict.fromkeys(report.reasons, 1)
        yield _by_label("sd_api_health_reason", "Why the service is not healthy.", "reason", reasons)
        build = GaugeMetricFamily("sd_api_build_info", "What runs.", labels=["version", "python"])
        build.add_metric([report.version, platform.python_version()], 1)
        yield build

    def _of_webuis(self) -> Iterator[Metric]:
        counts = self._report.webuis
        yield _gauge("sd_api_webuis_configured", "WebUIs in SD_WEBUI_URL.", counts.total)
        yield _gauge("sd_api_webuis_busy", "WebUIs with a job.", counts.busy)
        devices = {"gpu": counts.gpu, "cpu": counts.cpu}
        yield _by_label("sd_api_webuis_available", "WebUIs that answer.", "device", devices)
        webuis = {str(place): figures for place, figures in self._webuis.items()}
        up = {place: figures.up for place, figures in webuis.items()}
        yield _by_label("sd_api_webui_up", "Whether a WebUI answered the last probe.", "webui", up)
        free = {place: figures.gpu_free_bytes for place, figures in webuis.items()}
        yield _by_label("sd_api_webui_gpu_memory_free_bytes", "Free memory of a WebUI's GPU.", "webui", free)
        total = {place: figures.gpu_total_bytes for place, figures in webuis.items()}
        yield _by_label("sd_api_webui_gpu_memory_total_bytes", "Memory of a WebUI's GPU.", "webui", total)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _by_label(name: str, text: str, label: str, values: Mapping[str, int | None]) -> Metric:
    """:param values: by the label's value; nothing is shown for None."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for label_value, value in values.items():
        if value is not None:
            family.add_metric([label_value], float(value))
    return family
