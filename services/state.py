"""The service's state for its metrics: what health tells, and each WebUI by itself."""

from __future__ import annotations

from observability.states import ServiceState, WebUIFigures
from sd_client.pool import WebUIPool
from sd_client.probing import WebUIState
from services.health import HealthService


def service_state(health: HealthService, pool: WebUIPool) -> ServiceState:
    """Asks nobody, as health does."""
    report = health.report()
    view = pool.view()
    return ServiceState(
        queue_waiting=report.queue_waiting,
        queue_limit=report.queue_limit,
        webuis_configured=report.webuis_total,
        webuis_gpu=report.webuis_gpu,
        webuis_cpu=report.webuis_cpu,
        webuis_busy=report.webuis_busy,
        webuis={place: _figures(view.states[webui]) for place, webui in enumerate(view.webuis) if webui in view.states},
        storage_up=report.storage == "ok",
        redis_up=None if report.redis == "off" else report.redis == "up",
        reasons=report.reasons,
        draining=report.status == "draining",
        version=report.version,
    )


def _figures(state: WebUIState) -> WebUIFigures:
    known = state.capabilities if state.available else None
    return WebUIFigures(
        up=state.available,
        gpu_free_bytes=known.gpu_free_bytes if known else None,
        gpu_total_bytes=known.gpu_total_bytes if known else None,
    )
