"""What a generation took, and what became of it: for its caller, for the metrics and for the log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from flask import Blueprint, Response, g

from api.errors import CODES, code_of
from observability.metrics import Metrics
from sd_client.errors import JobCancelledError, PoolError, WebUIError
from services.generation import GenerationCourse, Mode


@dataclass(frozen=True, kw_only=True)
class Account:
    """Of a job that asks for a WebUI; ``g.account`` where the request came to that."""

    mode: Mode
    course: GenerationCourse = field(default_factory=GenerationCourse)

    def stages(self) -> dict[str, float]:
        """Seconds, without the stages that it did not come to."""
        course = self.course
        told = {"queue": course.queue_s, "webui": course.webui_s, "store": course.store_s}
        return {stage: seconds for stage, seconds in told.items() if seconds is not None}


def register(routes: Blueprint, metrics: Metrics) -> None:
    """For the generation routes: every answer of theirs, errors included, goes through this."""
    # increase() misses the first event of a series that begins with it.
    for error, code in CODES.items():
        if issubclass(error, WebUIError) and not issubclass(error, PoolError | JobCancelledError):
            metrics.webui_failures.labels(code)
    routes.after_request(lambda response: _tell(response, metrics))


def _tell(response: Response, metrics: Metrics) -> Response:
    total_s = time.monotonic() - g.started
    account: Account | None = g.get("account")
    stages = {} if account is None else account.stages()
    timings = ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in {**stages, "total": total_s}.items())
    response.headers["Server-Timing"] = timings
    if account is not None:
        g.log = g.get("log", {}) | _log_fields(account, stages)
        _count(account, stages, total_s, metrics)
    return response


def _log_fields(account: Account, stages: dict[str, float]) -> dict[str, object]:
    fields: dict[str, object] = {f"{stage}_seconds": round(seconds, 4) for stage, seconds in stages.items()}
    return fields if account.course.webui is None else {"webui": account.course.webui, **fields}


def _count(account: Account, stages: dict[str, float], total_s: float, metrics: Metrics) -> None:
    outcome = g.get("error_code", "done")
    metrics.jobs.labels(account.mode, outcome).inc()
    if "queue" in stages:
        metrics.queue_wait.labels(account.mode).observe(stages["queue"])
    if outcome == "done":
        metrics.webui_duration.labels(account.mode).observe(stages["webui"])
        own_s = total_s - stages["queue"] - stages["webui"]
        metrics.generation_overhead.labels(account.mode).observe(own_s)
    for failure in account.course.failures:
        metrics.webui_failures.labels(code_of(failure)).inc()
    if account.course.switches:
        metrics.model_switches.inc(account.course.switches)
