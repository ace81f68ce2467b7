"""How long the stages of a generation took, and how it ended: for its caller, the metrics and the log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from flask import Blueprint, Response, g

from api.errors import CODES, code_of
from api.streams import once_over
from observability.metrics import Metrics
from sd_client.errors import JobCancelledError, PoolError, WebUIError
from services.generation import GenerationReport
from services.generation_request import Mode


@dataclass(frozen=True, kw_only=True)
class Timings:
    """A job's, as ``g.timings`` once the request asks for a WebUI."""

    mode: Mode
    report: GenerationReport = field(default_factory=GenerationReport)

    def stages(self) -> dict[str, float]:
        """Seconds by stage, without those that the job did not reach."""
        report = self.report
        stages = {"queue": report.queue_s, "webui": report.webui_s, "store": report.store_s}
        return {stage: seconds for stage, seconds in stages.items() if seconds is not None}


def register(routes: Blueprint, metrics: Metrics) -> None:
    """Adds timings to every response of these routes, errors included."""
    # increase() misses the first event of a series that does not begin at 0.
    for error, code in CODES.items():
        if issubclass(error, WebUIError) and not issubclass(error, PoolError | JobCancelledError):
            metrics.webui_failures.labels(code)
    routes.after_request(lambda response: _add_timings(response, metrics))


def _add_timings(response: Response, metrics: Metrics) -> Response:
    total_s = time.monotonic() - g.started
    timings: Timings | None = g.get("timings")
    stages = {} if timings is None else timings.stages()
    response.headers["Server-Timing"] = ", ".join(
        f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in {**stages, "total": total_s}.items()
    )
    once_over(lambda: _record(metrics))
    return response


def _record(metrics: Metrics) -> None:
    timings: Timings | None = g.get("timings")
    if timings is not None:
        stages = timings.stages()
        g.log = g.get("log", {}) | _log_fields(timings, stages)
        _count(timings, stages, time.monotonic() - g.started, metrics)


def _log_fields(timings: Timings, stages: dict[str, float]) -> dict[str, object]:
    fields: dict[str, object] = {f"{stage}_seconds": round(seconds, 4) for stage, seconds in stages.items()}
    return fields if timings.report.webui is None else {"webui": timings.report.webui, **fields}


def _count(timings: Timings, stages: dict[str, float], total_s: float, metrics: Metrics) -> None:
    outcome = g.get("error_code", "done")
    metrics.jobs.labels(timings.mode, outcome).inc()
    if "queue" in stages:
        metrics.queue_wait.labels(timings.mode).observe(stages["queue"])
    if outcome == "done":
        metrics.webui_duration.labels(timings.mode).observe(stages["webui"])
        own_s = total_s - stages["queue"] - stages["webui"]
        metrics.generation_overhead.labels(timings.mode).observe(own_s)
    for failure in timings.report.failures:
        metrics.webui_failures.labels(code_of(failure)).inc()
    if timings.report.switches:
        metrics.model_switches.inc(timings.report.switches)
