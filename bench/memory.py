"""Memory: what a worker holds for each job that waits, and for each of many answers that come in the same instant."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bench import accounting
from bench.load import Callers, Work
from bench.stage import Server, Stage, Upstream
from bench.workloads import Mode, Request, generation

#: Long enough for all jobs to be there, their bodies included, before the first answer.
UPSTREAM_S = 3.0
#: A worker that has had a burst gives memory back, if it does, within this.
CALM_S = 1.0


Row = dict[str, Any]


def steps(callers: Callers, upstream: Upstream, *, jobs: int) -> dict[str, Callable[[], list[Row]]]:
    """What is measured, by name: with ``jobs`` at a time, on one worker, started anew where earlier jobs would show."""

    def at_once(*asked: tuple[str, Mode, int]) -> list[Row]:
        with Stage() as stage:
            burst = _Burst(callers, upstream, stage.service("service", upstream.webuis(jobs), workers=1), jobs)
            return [burst.row(name, mode, count) for name, mode, count in asked]

    def queued(name: str, mode: Mode) -> list[Row]:
        with Stage() as stage:
            burst = _Burst(callers, upstream, stage.service("service", upstream.webuis(1), workers=1), jobs)
            return [burst.queued_row(name, mode)]

    return {
        "txt2img": partial(at_once, ("txt2img 1024²", "txt2img", 1), ("txt2img 4 × 1024²", "txt2img", 4)),
        "img2img": partial(at_once, ("img2img 1024²", "img2img", 1)),
        "inpainting": partial(at_once, ("inpainting 1024²", "inpainting", 1)),
        "txt2img in the queue": partial(queued, "txt2img 1024², in the queue", "txt2img"),
        "img2img in the queue": partial(queued, "img2img 1024², in the queue", "img2img"),
    }


class _Burst:
    """So many jobs at once for a service of one worker."""

    def __init__(self, callers: Callers, upstream: Upstream, service: Server, jobs: int) -> None:
        self._callers = callers
        self._upstream = upstream
        self._service = service
        self._jobs = jobs
        callers.run(self._work(generation("txt2img", 512, 1, "service"), clients=4))
        self._idle_mb = self._rss_mb()

    def row(self, name: str, mode: Mode, count: int) -> Row:
        """All run, and are answered in the same instant."""
        self._upstream.order(seconds=UPSTREAM_S, together=self._jobs)
        before_mb = self._rss_mb()
        self._callers.begin(self._work(generation(mode, 1024, count, "service"), clients=self._jobs))
        self._wait_for_jobs(self._jobs)
        waiting_mb = self._rss_mb()
        accounting.forget_peak(self._worker())
        outcome = self._callers.outcome()
        peak_mb = accounting.peak_mb(self._worker())
        time.sleep(CALM_S)
        return {
            "what": name,
            "jobs": self._jobs,
            "failed": self._jobs - len(outcome.good),
            "idle_mb": round(self._idle_mb, 1),
            "waiting_mb_per_job": round((waiting_mb - before_mb) / self._jobs, 3),
            "peak_mb_per_job": round((peak_mb - before_mb) / self._jobs, 3),
            "after_mb": round(self._rss_mb(), 1),
        }

    def queued_row(self, name: str, mode: Mode) -> Row:
        """One runs, the others wait in the queue; then all hang up."""
        self._upstream.order(seconds=UPSTREAM_S)
        before_mb = self._rss_mb()
        request = generation(mode, 1024, 1, "service")
        with Callers() as impatient:
            impatient.begin(self._work(request, clients=self._jobs + 1))
            self._wait_for_jobs(1)
            time.sleep(UPSTREAM_S / 2)
            waiting_mb = self._rss_mb()
        return {
            "what": name,
            "jobs": self._jobs,
            "failed": 0,
            "idle_mb": round(self._idle_mb, 1),
            "waiting_mb_per_job": round((waiting_mb - before_mb) / self._jobs, 3),
            "peak_mb_per_job": None,
            "after_mb": None,
        }

    def _work(self, request: Request, *, clients: int) -> Work:
        return Work(
            port=self._service.port,
            path=request.path,
            method=request.method,
            body=request.body,
            headers=request.headers,
            clients=clients,
            seconds=0,
        )

    def _wait_for_jobs(self, count: int) -> None:
        """Until so many are at the WebUIs, or could not get there in time: the row then tells of failures."""
        deadline = time.monotonic() + 60
        while self._upstream.counts().painting < count and time.monotonic() < deadline:
            time.sleep(0.05)

    def _worker(self) -> list[int]:
        """Without gunicorn's master."""
        return accounting.tree(self._service.pids[0])[1:]

    def _rss_mb(self) -> float:
        return accounting.rss_mb(self._worker())
