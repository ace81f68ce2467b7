"""More callers than places: what those who are refused, those who are served and a health check see meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import accounting
from bench.load import Callers, Outcome, Work, quantile_ms
from bench.stage import Server, Stage, Upstream
from bench.workloads import PREFIX, generation

#: A caller that was refused comes again after this, sooner than it was told to.
PAUSE_S = 1.0
#: Health checks, by as many callers with new connections, each four times a second: 20 a second.
PROBES = 5
PROBE_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Situation:
    """
    :param webuis: with ``slots`` places each.
    :param queue: places in the queue.
    :param job_s: how long a WebUI needs for one.
    :param spread_s: over which the callers come at first: jobs that begin together end together. Where all places are
        taken within the time of one job, they become free again one by one.
    :param window_s: what is measured of GPUs, from the first job's end on.
    """

    name: str
    webuis: int
    slots: int
    queue: int
    clients: int
    job_s: float
    spread_s: float
    window_s: float

    @property
    def seconds(self) -> float:
        return self.spread_s + self.job_s + self.window_s

    @property
    def places(self) -> int:
        return self.webuis * self.slots


def situations(*, job_s: float, window_s: float) -> list[Situation]:
    places: dict[str, Any] = {"webuis": 16, "slots": 8, "queue": 64, "job_s": job_s, "window_s": window_s}
    few: dict[str, Any] = {"webuis": 32, "slots": 1, "queue": 8, "job_s": 1.0, "window_s": window_s + 4}
    return [
        Situation(name="128 callers, 128 places", clients=128, spread_s=job_s, **places),
        Situation(name="256 callers, 128 places", clients=256, spread_s=2 * job_s, **places),
        Situation(name="128 callers, 32 places", clients=128, spread_s=4.0, **few),
        Situation(name="128 callers at once, 128 places", clients=128, spread_s=0.0, **places),
    ]


def steps(
    callers: Callers, prober: Callers, upstream: Upstream, *, quick: bool
) -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """What is measured, by name."""
    found = situations(job_s=2.0, window_s=2.0) if quick else situations(job_s=5.0, window_s=6.0)
    return {one.name: partial(rows, one, callers, prober, upstream) for one in found}


def rows(situation: Situation, callers: Callers, prober: Callers, upstream: Upstream) -> list[dict[str, Any]]:
    """Two workers; health is asked 20 times a second throughout."""
    settings: dict[str, Any] = {"SD_WEBUI_SLOTS": str(situation.slots), "SD_QUEUE_LIMIT": str(situation.queue)}
    with Stage() as stage:
        service = stage.service("service", upstream.webuis(situation.webuis), **settings)
        upstream.order(seconds=situation.job_s)
        asked = generation("txt2img", 1024, 1, "service")
        before_mb = _rss_mb(service)
        accounting.forget_peak(accounting.tree(service.pids[0]))
        callers.begin(
            Work(
                port=service.port,
                path=asked.path,
                method=asked.method,
                body=asked.body,
                headers=asked.headers,
                clients=situation.clients,
                seconds=situation.seconds,
                pause_s=PAUSE_S,
                spread_s=situation.spread_s,
            )
        )
        prober.begin(_probing(service, situation.seconds))
        time.sleep(situation.spread_s + situation.job_s)
        busy_s, began = upstream.counts().busy_s, time.monotonic()
        time.sleep(situation.window_s)
        busy_s, window_s = upstream.counts().busy_s - busy_s, time.monotonic() - began
        outcome, health = callers.outcome(), prober.outcome()
        peak_mb = accounting.peak_mb(accounting.tree(service.pids[0]))
    share = busy_s / (situation.places * window_s)
    return [_row(situation, outcome, health, share=share, before_mb=before_mb, peak_mb=peak_mb)]


def _row(
    situation: Situation, outcome: Outcome, health: Outcome, *, share: float, before_mb: float, peak_mb: float
) -> dict[str, Any]:
    return {
        "situation": situation.name,
        "places": situation.places,
        "queue": situation.queue,
        "clients": situation.clients,
        "job_s": situation.job_s,
        "statuses": outcome.statuses,
        "served_p50_ms": quantile_ms(outcome.good, 0.5),
        "served_p99_ms": quantile_ms(outcome.good, 0.99),
        "refused_p50_ms": quantile_ms(outcome.refused, 0.5),
        "refused_p99_ms": quantile_ms(outcome.refused, 0.99),
        "health_p50_ms": quantile_ms(health.good, 0.5),
        "health_p99_ms": quantile_ms(health.good, 0.99),
        "health_failed": len(health.calls) - len(health.good),
        "gpu_share": round(share, 3),
        "idle_rss_mb": round(before_mb, 1),
        "peak_rss_mb": round(peak_mb, 1),
    }


def _probing(service: Server, seconds: float) -> Work:
    return Work(
        port=service.port,
        path=f"{PREFIX}/health",
        clients=PROBES,
        seconds=seconds,
        period_s=PROBE_S,
        spread_s=PROBE_S,
        fresh=True,
    )


def _rss_mb(service: Server) -> float:
    return accounting.rss_mb(accounting.tree(service.pids[0]))
