"""Memory: what a worker holds for each job that waits, and for each of many answers that come in the same instant."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import accounting
from bench.load import Callers, Work
from bench.stage import Server, Stage, Upstream
from bench.workloads import PREFIX, Mode, Request, Sent, generation

#: Long enough for all jobs, their bodies included, to arrive before the first answer.
UPSTREAM_S = 3.0
#: Seconds in which a worker gives memory back after a burst.
CALM_S = 1.5

#: Less than the upstream holds a job back for another one.
HELD_S = 50.0

#: The jobs that wait in the queue, as rows.
IN_THE_QUEUE: tuple[tuple[str, Mode, Sent], ...] = (
    ("img2img 1024², in the queue", "img2img", "answer"),
    ("inpainting of a 12 MP photo, in the queue", "inpainting", "photo"),
)

#: The jobs that come at once, each line to another service; the names are those of the rows.
AT_ONCE: tuple[dict[str, tuple[Mode, int]], ...] = (
    {"txt2img 1024²": ("txt2img", 1), "txt2img 4 × 1024²": ("txt2img", 4)},
    {"img2img 1024²": ("img2img", 1)},
    {"inpainting 1024²": ("inpainting", 1)},
)

Row = dict[str, Any]


def rows(checkouts: Mapping[str, Path], callers: Callers, upstream: Upstream, *, jobs: int) -> list[Row]:
    """With ``jobs`` at a time on one worker, the checkouts by turns."""
    found: list[Row] = []
    for burst in AT_ONCE:
        for name, root in checkouts.items():
            with Stage() as stage:
                service = stage.service("service", upstream.webuis(jobs), workers=1, root=root)
                one = _Burst(callers, upstream, service, jobs)
                found += [{"target": name, **one.row(what, mode, count)} for what, (mode, count) in burst.items()]
    for what, mode, sent in IN_THE_QUEUE:
        for name, root in checkouts.items():
            with Stage() as stage:
                service = stage.service("service", upstream.webuis(1), workers=1, root=root)
                one = _Burst(callers, upstream, service, jobs)
                found.append({"target": name, **one.queued_row(what, mode, sent)})
    return found


class _Burst:
    """Many jobs at once for a service of one worker."""

    def __init__(self, callers: Callers, upstream: Upstream, service: Server, jobs: int) -> None:
        self._callers = callers
        self._upstream = upstream
        self._service = service
        self._jobs = jobs
        callers.run(self._work(generation("txt2img", 512, 1, "service"), clients=4))
        self._idle_mb = self._rss_mb()

    def row(self, what: str, mode: Mode, count: int) -> Row:
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
        figures = self._figures(what, waiting_mb - before_mb)
        peak = round((peak_mb - before_mb) / self._jobs, 3)
        failed = self._jobs - len(outcome.good)
        return {**figures, "failed": failed, "peak_mb_per_job": peak, "after_mb": round(self._rss_mb(), 1)}

    def queued_row(self, what: str, mode: Mode, sent: Sent) -> Row:
        """One runs, the others wait in the queue; then all hang up."""
        self._upstream.order(together=2)  # which the one that runs waits for
        before_mb = self._rss_mb()
        with Callers() as impatient:
            impatient.begin(self._work(generation(mode, 1024, 1, "service", sent), clients=self._jobs + 1))
            missing = self._jobs - self._wait_for_queue()
            time.sleep(CALM_S)
            waiting_mb = self._rss_mb()
        self._upstream.order()
        row = self._figures(what, waiting_mb - before_mb)
        return {**row, "failed": missing, "peak_mb_per_job": None, "after_mb": None}

    def _figures(self, what: str, waiting_mb: float) -> Row:
        return {
            "what": what,
            "jobs": self._jobs,
            "idle_mb": round(self._idle_mb, 1),
            "waiting_mb_per_job": round(waiting_mb / self._jobs, 3),
        }

    def _work(self, request: Request, *, clients: int) -> Work:
        return request.work(self._service.port, clients=clients, seconds=0)

    def _wait_for_jobs(self, count: int) -> None:
        """Gives up after a minute; the row then shows failures."""
        deadline = time.monotonic() + 60
        while self._upstream.counts().painting < count and time.monotonic() < deadline:
            time.sleep(0.05)

    def _wait_for_queue(self) -> int:
        """How many jobs wait: all, or those that do before the one that runs would end."""
        deadline = time.monotonic() + HELD_S
        while (found := self._waiting()) < self._jobs and time.monotonic() < deadline:
            time.sleep(0.25)
        return found

    def _waiting(self) -> int:
        url = f"http://127.0.0.1:{self._service.port}{PREFIX}/health"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(json.load(answer)["queue"]["waiting"])

    def _worker(self) -> list[int]:
        """Without gunicorn's master."""
        return accounting.tree(self._service.pids[0])[1:]

    def _rss_mb(self) -> float:
        return accounting.rss_mb(self._worker())
