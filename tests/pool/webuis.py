"""WebUIs that can be killed and frozen, and what their journals say about how they were used."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from simulator import Simulator
from simulator.journal import GENERATION_ROUTES
from tests.running import ROOT, Child, free_port, wait_until

#: A step of 64x64 pixels then takes 1/64 s: a job of 32 steps half a second.
STEP_TIME = 1.0
STEPS_PER_S = 64


@dataclass(frozen=True, kw_only=True)
class PaintedJob:
    """A job as a WebUI saw it. Times by ``time.monotonic``, which all processes of a machine share."""

    seed: int
    prompt: str
    model: str
    started: float
    finished: float | None


class SimulatorProcess(Child):
    """A simulated WebUI in a separate process, on a port that it keeps."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "simulator", "--port", str(self.port)]
        self._command += ["--step-time", str(STEP_TIME), *options]

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.DEVNULL)
        wait_until(self.answers, "the simulator answers")

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/simulator/state", timeout=1).ok
        except requests.RequestException:
            return False

    def set_fault(self, kind: str, **settings: Any) -> None:
        requests.post(f"{self.url}/simulator/faults", json={"kind": kind, **settings}, timeout=5).raise_for_status()

    def clear_faults(self) -> None:
        requests.delete(f"{self.url}/simulator/faults", timeout=5).raise_for_status()

    @property
    def most_concurrent(self) -> int:
        return int(requests.get(f"{self.url}/simulator/state", timeout=5).json()["most_concurrent"])

    @property
    def jobs(self) -> list[PaintedJob]:
        seen = requests.get(f"{self.url}/simulator/requests", timeout=5).json()
        wanted = (one for one in seen if one["method"] == "POST" and one["route"] in GENERATION_ROUTES)
        return [_job(one["body"], one["started"], one["finished"]) for one in wanted]


WebUI = Simulator | SimulatorProcess


def jobs_of(webui: WebUI) -> list[PaintedJob]:
    if isinstance(webui, SimulatorProcess):
        return webui.jobs
    return [_job(one.body, one.started, one.finished) for one in webui.generations]


def _job(body: str | bytes, started: float, finished: float | None) -> PaintedJob:
    fields = json.loads(body)
    model = fields.get("override_settings", {}).get("sd_model_checkpoint", "")
    return PaintedJob(
        seed=fields["seed"], prompt=fields["prompt"], model=model.split(".")[0], started=started, finished=finished
    )


def urls(webuis: Iterable[WebUI]) -> str:
    return ",".join(webui.url for webui in webuis)


def all_jobs(webuis: Iterable[WebUI]) -> list[PaintedJob]:
    return sorted((job for webui in webuis for job in jobs_of(webui)), key=lambda job: job.started)


def assert_never_crowded(webuis: Iterable[WebUI], *, slots: int = 1) -> None:
    assert [webui.most_concurrent for webui in webuis if webui.most_concurrent > slots] == []


def assert_no_job_twice(webuis: Iterable[WebUI]) -> None:
    seeds = [job.seed for job in all_jobs(webuis)]
    assert sorted(seeds) == sorted(set(seeds))


def switches(webui: WebUI, *, first: str) -> int:
    """How often it had to load another model."""
    models = [first, *(job.model for job in jobs_of(webui))]
    return sum(before != after for before, after in itertools.pairwise(models))


def longest_idle_while_waiting(webuis: Sequence[WebUI], waits: Iterable[tuple[float, float]]) -> float:
    """
    Seconds, at most, that one of the WebUIs did nothing within one of the waits; all could do every job.

    :param waits: of each job, from when it was sent to when a WebUI got it.
    """
    longest = 0.0
    gaps = [gap for webui in webuis for gap in _gaps(webui)]
    for began, ended in waits:
        for idle_from, idle_until in gaps:
            longest = max(longest, min(ended, idle_until) - max(began, idle_from))
    return longest


def _gaps(webui: WebUI) -> list[tuple[float, float]]:
    """When it had no job."""
    gaps, idle_from = [], 0.0
    for job in sorted(jobs_of(webui), key=lambda job: job.started):
        gaps.append((idle_from, job.started))
        idle_from = max(idle_from, job.finished or float("inf"))
    return [*gaps, (idle_from, float("inf"))]
