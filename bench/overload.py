"""More callers than places: how busy the WebUIs are, and what those served, those refused and a health check see."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import accounting
from bench.load import Callers, Outcome, Work, quantile_ms
from bench.stage import Server, Stage, Upstream
from bench.workloads import PREFIX, generation
from tests.running import ROOT

#: Seconds after which a refused caller comes again, sooner than the response says.
PAUSE_S = 1.0
#: Callers that check the health over new connections, each four times a second: 20 checks a second.
PROBES = 5
PROBE_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Situation:
    """
    :param webuis: their number, each with ``slots`` places.
    :param queue: places in the queue.
    :param side: width and height of the pictures.
    :param job_s: seconds that a WebUI takes for one.
    :param spread_s: seconds over which the first requests come: jobs that begin together also end together.
    :param window_s: seconds over which the WebUIs are watched, from the end of the first job on.
    """

    name: str
    webuis: int
    slots: int = 1
    queue: int = 64
    clients: int
    side: int = 1024
    job_s: float = 1.0
    spread_s: float
    window_s: float
    redis: bool = False

    @property
    def seconds(self) -> float:
        return self.spread_s + self.job_s + self.window_s

    @property
    def places(self) -> int:
        return self.webuis * self.slots


def busy_situations(*, window_s: float) -> list[Situation]:
    """50 WebUIs with jobs of a second, without and with Redis. Small pictures: the machine must not be the limit."""
    return [
        Situation(
            name=f"50 WebUIs{', Redis' if redis else ''}",
            webuis=50,
            clients=70,
            side=64,
            spread_s=1.0,
            window_s=window_s,
            redis=redis,
        )
        for redis in (False, True)
    ]


def overload_situations(*, job_s: float, window_s: float) -> list[Situation]:
    return [
        Situation(
            name="256 callers, 128 places",
            webuis=16,
            slots=8,
            clients=256,
            job_s=job_s,
            spread_s=2 * job_s,
            window_s=window_s,
        ),
        Situation(name="128 callers, 32 places", webuis=32, queue=8, clients=128, spread_s=4.0, window_s=window_s + 4),
    ]


def row(
    situation: Situation, callers: Callers, prober: Callers, upstream: Upstream, *, root: Path = ROOT
) -> dict[str, Any]:
    """Two workers; the health is checked 20 times a second throughout."""
    settings = {"SD_WEBUI_SLOTS": str(situation.slots), "SD_QUEUE_LIMIT": str(situation.queue)}
    with Stage() as stage:
        if situation.redis:
            settings["REDIS_URL"] = stage.redis()[1]
        webuis = upstream.webuis(situation.webuis)
        service = stage.service("service", webuis, workers=2, root=root, **settings)
        upstream.order(seconds=situation.job_s)
        accounting.forget_peak(accounting.tree(service.pids[0]))
        asked = generation("txt2img", situation.side, 1, "service")
        callers.begin(
            asked.work(
                service.port,
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
    return {**_figures(situation, outcome, health), "busy_share": round(share, 3), "peak_rss_mb": round(peak_mb, 1)}


def _figures(situation: Situation, outcome: Outcome, health: Outcome) -> dict[str, Any]:
    return {
        "situation": situation.name,
        "queue": situation.queue,
        "job_s": situation.job_s,
        "statuses": outcome.statuses,
        "served_p50_ms": quantile_ms(outcome.good, 0.5),
        "refused_p50_ms": quantile_ms(outcome.refused, 0.5),
        "refused_p99_ms": quantile_ms(outcome.refused, 0.99),
        "health_p50_ms": quantile_ms(health.good, 0.5),
        "health_p99_ms": quantile_ms(health.good, 0.99),
        "health_failed": len(health.calls) - len(health.good),
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
