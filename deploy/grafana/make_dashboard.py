"""Writes ``dashboard.json`` for Grafana from the few lines that say what is in it.

``python deploy/grafana/make_dashboard.py``; a test holds the file against this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("dashboard.json")

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
_ROUTES = "txt2img|img2img|inpainting|upscale|extra-single-image|images/generations|images/edits"
_GENERATIONS = f'job="$job",route=~".*/({_ROUTES})",method="POST"'


@dataclass(frozen=True, kw_only=True)
class Panel:
    """
    :param queries: legend -> PromQL; a legend such as ``{{status}}`` names series by a label.
    :param unit: as Grafana calls it.
    :param kind: ``timeseries``, ``stacked`` or ``stat``.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    about: str = ""


def rate(metric: str, by: str = "", labels: str = 'job="$job"') -> str:
    """Of what each replica counts for itself."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{{{labels}}}[$__rate_interval]))"


def shared(metric: str, by: str = "", labels: str = 'job="$job"') -> str:
    """Of what all replicas tell alike."""
    return f"max{f' by ({by}) ' if by else ''}({metric}{{{labels}}})"


def worst(metric: str) -> str:
    return f'min by (instance) ({metric}{{job="$job"}})'


def quantiles(metric: str, labels: str = 'job="$job"') -> dict[str, str]:
    buckets = rate(f"{metric}_bucket", "le", labels)
    return {f"p{round(q * 100)}": f"histogram_quantile({q}, {buckets})" for q in (0.5, 0.9, 0.99)}


def mean(metric: str) -> str:
    return f"{rate(f'{metric}_sum')} / {rate(f'{metric}_count')}"


_WEBUI, _QUEUE, _OVERHEAD = (
    "sd_api_webui_duration_seconds",
    "sd_api_queue_wait_seconds",
    "sd_api_generation_overhead_seconds",
)
_ALL_TIME = " + ".join(rate(f"{metric}_sum") for metric in (_WEBUI, _QUEUE, _OVERHEAD))
_AVAILABLE = 'max(sum by (instance) (sd_api_webuis_available{job="$job"}))'
_INTERNAL = rate("sd_api_http_requests_total", labels='job="$job",status="500"')
_FAILED = 'job="$job",outcome!="done"'

ROWS: dict[str, list[Panel]] = {
    "Now": [
        Panel(title="Replicas", queries={"": 'sum(up{job="$job"})'}, kind="stat", width=3),
        Panel(title="WebUIs there", queries={"": _AVAILABLE}, kind="stat", width=3),
        Panel(title="WebUIs listed", queries={"": shared("sd_api_webuis_configured")}, kind="stat", width=3),
        Panel(title="Jobs waiting", queries={"": shared("sd_api_queue_waiting")}, kind="stat", width=3),
        Panel(
            title="Images a minute", queries={"": f"60 * {rate('sd_api_images_stored_total')}"}, kind="stat", width=3
        ),
        Panel(
            title="Answers that are 500",
            queries={"": f"({_INTERNAL} or vector(0)) / {rate('sd_api_http_requests_total')}"},
            unit="percentunit",
            kind="stat",
            width=3,
        ),
        Panel(
            title="Draining",
            queries={"{{instance}}": 'max by (instance) (sd_api_draining{job="$job"})'},
            kind="stat",
            width=3,
        ),
        Panel(
            title="Version",
            queries={"{{version}} on Python {{python}}": 'sum by (version, python) (sd_api_build_info{job="$job"})'},
            kind="stat",
            width=3,
        ),
    ],
    "Traffic": [
        Panel(
            title="Requests by route", queries={"{{route}}": rate("sd_api_http_requests_total", "route")}, unit="reqps"
        ),
        Panel(
            title="Requests by status",
            queries={"{{status}}": rate("sd_api_http_requests_total", "status")},
            unit="reqps",
        ),
        Panel(
            title="Jobs a minute by mode",
            queries={"{{mode}}": f"60 * {rate('sd_api_jobs_total', 'mode')}"},
            kind="stacked",
        ),
        Panel(
            title="Rate limits: decisions",
            queries={"{{limit}} {{decision}}": rate("sd_api_rate_limit_decisions_total", "limit, decision")},
            unit="reqps",
        ),
        Panel(title="Answers given again", queries={"replays": rate("sd_api_idempotent_replays_total")}, unit="reqps"),
        Panel(
            title="Time of all requests",
            queries=quantiles("sd_api_http_request_duration_seconds"),
            unit="s",
            about="Health and lists included: a millisecond each.",
        ),
    ],
    "Errors": [
        Panel(
            title="Jobs that failed, by outcome",
            queries={"{{outcome}}": rate("sd_api_jobs_total", "outcome", _FAILED)},
            unit="reqps",
        ),
        Panel(
            title="WebUI calls that failed, by code",
            queries={"{{code}}": rate("sd_api_webui_failures_total", "code")},
            unit="reqps",
            about="Those included that another WebUI made good.",
        ),
    ],
    "Latency, and the GPU's share of it": [
        Panel(
            title="Where a job's time goes, on average",
            queries={"WebUI": mean(_WEBUI), "queue": mean(_QUEUE), "service": mean(_OVERHEAD)},
            unit="s",
            kind="stacked",
        ),
        Panel(
            title="The WebUIs' share of all time",
            queries={"WebUI": f"{rate(f'{_WEBUI}_sum')} / ({_ALL_TIME})"},
            unit="percentunit",
        ),
        Panel(
            title="Whole request, generations",
            queries=quantiles("sd_api_http_request_duration_seconds", _GENERATIONS),
            unit="s",
        ),
        Panel(title="In the WebUI", queries=quantiles(_WEBUI), unit="s", width=12),
        Panel(title="In the service itself", queries=quantiles(_OVERHEAD), unit="s", width=12),
    ],
    "Queue": [
        Panel(
            title="Jobs waiting",
            queries={"waiting": shared("sd_api_queue_waiting"), "limit": shared("sd_api_queue_limit")},
            width=12,
        ),
        Panel(title="Wait for a WebUI", queries=quantiles(_QUEUE), unit="s", width=12),
    ],
    "Pool": [
        Panel(
            title="WebUIs",
            queries={
                "there, {{device}}": shared("sd_api_webuis_available", "device"),
                "busy": shared("sd_api_webuis_busy"),
                "listed": shared("sd_api_webuis_configured"),
            },
        ),
        Panel(
            title="WebUI up, by its place in SD_WEBUI_URL", queries={"{{webui}}": shared("sd_api_webui_up", "webui")}
        ),
        Panel(
            title="GPU memory free",
            queries={"{{webui}}": shared("sd_api_webui_gpu_memory_free_bytes", "webui")},
            unit="bytes",
        ),
        Panel(
            title="GPU memory used",
            queries={
                "{{webui}}": "1 - "
                + shared("sd_api_webui_gpu_memory_free_bytes", "webui")
                + " / "
                + shared("sd_api_webui_gpu_memory_total_bytes", "webui")
            },
            unit="percentunit",
            width=12,
        ),
        Panel(
            title="Model switches a minute",
            queries={"switches": f"60 * {rate('sd_api_model_switches_total')}"},
            width=12,
            about="Each costs a GPU some seconds.",
        ),
    ],
    "Storage": [
        Panel(title="Images stored", queries={"images": rate("sd_api_images_stored_total")}, unit="wps"),
        Panel(title="Bytes stored", queries={"bytes": rate("sd_api_images_stored_bytes_total")}, unit="Bps"),
        Panel(
            title="Images removed", queries={"{{reason}}": rate("sd_api_images_removed_total", "reason")}, unit="wps"
        ),
        Panel(title="Storage up", queries={"{{instance}}": worst("sd_api_storage_up")}),
        Panel(title="Images not stored", queries={"images": rate("sd_api_images_unstored_total")}, unit="wps"),
        Panel(
            title="Storage faults",
            queries={"{{operation}}": rate("sd_api_storage_errors_total", "operation")},
            unit="ops",
        ),
    ],
    "Redis": [
        Panel(title="Redis up", queries={"{{instance}}": worst("sd_api_redis_up")}),
        Panel(title="Redis faults", queries={"{{use}}": rate("sd_api_redis_errors_total", "use")}, unit="ops"),
    ],
}


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"h": 1, "w": _COLUMNS, "x": 0, "y": top}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        top += 1
        left = 0
        for panel in row:
            height = 4 if panel.kind == "stat" else 8
            if left + panel.width > _COLUMNS:
                left, top = 0, top + height
            place = {"h": height, "w": panel.width, "x": left, "y": top}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += height
    return {
        "uid": "stable-diffusion-api",
        "title": "Stable Diffusion API",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.kind == "stacked" else {}
    return {
        "type": "stat" if panel.kind == "stat" else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind != "stat" else {},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _DATASOURCE, "expr": expression, "legendFormat": legend}
            for number, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


def _variables() -> list[dict[str, Any]]:
    query = "label_values(sd_api_build_info, job)"
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {"name": "job", "label": "Job", "type": "query", "datasource": _DATASOURCE, "query": query, "refresh": 1},
    ]


def text() -> str:
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
