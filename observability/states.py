"""What the service shows as it is at the moment it is asked: the queue, the WebUIs, Redis, the storage."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, kw_only=True)
class WebUIFigures:
    """``gpu_free_bytes`` and ``gpu_total_bytes``: None where it does not tell, or is away."""

    up: bool
    gpu_free_bytes: int | None
    gpu_total_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class ServiceState:
    """
    :param webuis: those that have been looked at, by their place in ``SD_WEBUI_URL``.
    :param redis_up: None where there is none.
    :param reasons: why health is not ``healthy``.
    """

    queue_waiting: int
    queue_limit: int
    webuis_configured: int
    webuis_gpu: int
    webuis_cpu: int
    webuis_busy: int
    webuis: dict[int, WebUIFigures]
    storage_up: bool
    redis_up: bool | None
    draining: bool
    reasons: tuple[str, ...]
    version: str


class StateCollector(Collector):
    """``look`` is called whenever the metrics are asked for: it must ask nobody."""

    def __init__(self, look: Callable[[], ServiceState]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        state = self._look()
        yield _gauge("sd_api_queue_waiting", "Jobs that wait.", state.queue_waiting)
        yield _gauge("sd_api_queue_limit", "Jobs that may wait.", state.queue_limit)
        yield _gauge("sd_api_webuis_configured", "WebUIs in SD_WEBUI_URL.", state.webuis_configured)
        yield _gauge("sd_api_webuis_busy", "WebUIs with a job.", state.webuis_busy)
        yield _by(
            "sd_api_webuis_available",
            "WebUIs that are there.",
            "device",
            {"gpu": state.webuis_gpu, "cpu": state.webuis_cpu},
        )
        yield from _of_webuis(state.webuis)
        yield _gauge("sd_api_storage_up", "Whether images can be stored.", state.storage_up)
        if state.redis_up is not None:
            yield _gauge("sd_api_redis_up", "Whether Redis answers.", state.redis_up)
        yield _gauge("sd_api_draining", "Whether the service shuts down.", state.draining)
        yield _by(
            "sd_api_health_reason",
            "Why the service is not healthy.",
            "reason",
            dict.fromkeys(state.reasons, 1),
        )
        build = GaugeMetricFamily("sd_api_build_info", "What runs.", labels=["version", "python"])
        build.add_metric([state.version, platform.python_version()], 1)
        yield build


def _of_webuis(webuis: dict[int, WebUIFigures]) -> Iterator[Metric]:
    yield _by(
        "sd_api_webui_up",
        "Whether a WebUI answered when it was looked at last.",
        "webui",
        {str(place): figures.up for place, figures in webuis.items()},
    )
    yield _by(
        "sd_api_webui_gpu_memory_free_bytes",
        "Free memory of a WebUI's GPU.",
        "webui",
        {str(place): figures.gpu_free_bytes for place, figures in webuis.items()},
    )
    yield _by(
        "sd_api_webui_gpu_memory_total_bytes",
        "Memory of a WebUI's GPU.",
        "webui",
        {str(place): figures.gpu_total_bytes for place, figures in webuis.items()},
    )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))


def _by(name: str, text: str, label: str, values: dict[str, int | None]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for label_value, value in values.items():
        if value is not None:
            family.add_metric([label_value], float(value))
    return family
