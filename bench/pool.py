"""
How well the pool keeps its WebUIs busy, and what it adds to a job.

``python -m bench.pool`` measures and prints; ``--save`` also writes ``bench/results/pool.json``. All runs on this
machine: the service as in production (gunicorn, two workers), simulated WebUIs and callers share its cores, so with
many WebUIs the machine is the limit: see the column "cpu".
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import requests

from bench.virtual import Load, round_robin, scheduled
from simulator import Simulator
from tests.running import RedisServer, Service, running_service, wait_until

RESULTS = Path(__file__).parent / "results" / "pool.json"

#: Pictures of 64x64 cost the simulators next to nothing: 1 s is 8 steps of 1/8 s.
STEPS = 8
#: Of one step at 512x512, of which 64x64 is the 64th part.
STEP_TIME = 8.0
PER_PROCESS = 10
MODELS = ("v1-5-pruned-emaonly", "dreamshaper_8", "sd_xl_base_1.0")


# --- WebUIs, service, callers -----------------------------------------------------------------------------------------


def _simulate(count: int, settings: dict[str, Any], pipe: Connection) -> None:
    """In a process of its own: tells the addresses, then at every word what was asked of them since the last."""
    with ExitStack() as stack:
        webuis = [stack.enter_context(Simulator(**settings)) for _ in range(count)]
        pipe.send([webui.url for webui in webuis])
        while pipe.recv():
            pipe.send([[(one.started, one.finished, one.body) for one in webui.generations] for webui in webuis])
            for webui in webuis:
                webui.forget_requests()


class WebUIs:
    """Simulated ones, several to a process."""

    def __init__(self, count: int, **settings: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        self._processes = []
        self.urls: list[str] = []
        for start in range(0, count, PER_PROCESS):
            pipe, theirs = context.Pipe()
            arguments = (min(PER_PROCESS, count - start), settings, theirs)
            process = context.Process(target=_simulate, args=arguments, daemon=True)
            process.start()
            self._pipes.append(pipe)
            self._processes.append(process)
        for pipe in self._pipes:
            self.urls += pipe.recv()

    def generations(self) -> list[list[tuple[float, float | None, bytes]]]:
        """Of each WebUI since the last call: when each job came, when it was answered, and its body."""
        for pipe in self._pipes:
            pipe.send(True)
        return [webui for pipe in self._pipes for webui in pipe.recv()]

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(False)
            process.join()


@contextmanager
def pool(count: int, *, redis: bool, simulator: dict[str, Any] | None = None, **settings: Any) -> Iterator[Any]:
    """A service in front of so many WebUIs, all of them seen."""
    webuis = WebUIs(count, **{"step_time": STEP_TIME, **(simulator or {})})
    with ExitStack() as stack:
        stack.callback(webuis.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sd-")))
        if redis:
            server = RedisServer(folder)
            server.start()
            stack.callback(server.stop)
            settings["REDIS_URL"] = server.url
        settings = {"LOG_LEVEL": "WARNING", "SD_MODEL": MODELS[0], **settings}
        service = stack.enter_context(running_service(folder, ",".join(webuis.urls), **settings))
        service.wait_until_answering()
        wait_until(lambda: service.get("/health").json()["webuis"]["available"] == count, "all WebUIs are seen")
        yield service, webuis


class Callers:
    """Each asks again as soon as it was answered, until the end."""

    def __init__(self, service: Service, count: int, body: Callable[[], dict[str, Any]]) -> None:
        self._service = service
        self._body = body
        self._ended = threading.Event()
        self.answers: list[int] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._ended.is_set():
                answer = session.post(f"{self._service.url}/txt2img", json=self._body(), timeout=120)
                self.answers.append(answer.status_code)


def job(steps: int = STEPS, model: str = MODELS[0]) -> dict[str, Any]:
    size = {"width": 64, "height": 64, "steps": steps}
    return {"prompt": "a", **size, "seed": random.randrange(2**31), "model": model, "response_format": "url"}


# --- Measurements -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """
    :param busy: share of the time that the WebUIs had a job, as they saw it.
    :param painting: share of the time that they really painted: jobs done x 1 s.
    :param cpu: share of the machine's cores that was used, by everything on it.
    """

    webuis: int
    redis: bool
    slots: int
    jobs: int
    busy: float
    painting: float
    cpu: float
    failed: int


def saturation(count: int, *, redis: bool, seconds: float, slots: int = 1) -> Saturation:
    """More callers than places, for so long."""
    waiting = max(8, count // 2)
    settings: dict[str, Any] = {"SD_WEBUI_SLOTS": str(slots), "SD_QUEUE_LIMIT": str(2 * waiting)}
    with pool(count, redis=redis, **settings) as (service, webuis):
        callers = Callers(service, count * slots + waiting, job)
        time.sleep(3)
        began, cpu = time.monotonic(), _cpu_seconds()
        time.sleep(seconds)
        ended, cpu = time.monotonic(), _cpu_seconds() - cpu
        callers.end()
        seen = webuis.generations()
    window = ended - began
    spans = [[(max(s, began), min(e or ended, ended)) for s, e, _ in one] for one in seen]
    spans = [[(start, end) for start, end in one if end > start] for one in spans]
    done = sum(began <= (end or 0) < ended for one in seen for _, end, _ in one)
    return Saturation(
        webuis=count,
        redis=redis,
        slots=slots,
        jobs=done,
        busy=round(sum(map(_covered, spans)) / (window * count), 3),
        painting=round(done / (window * count), 3),
        cpu=round(cpu / (window * (os.cpu_count() or 1)), 2),
        failed=sum(status != 200 for status in callers.answers),
    )


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union."""
    covered, until = 0.0, 0.0
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered


def _cpu_seconds() -> float:
    """Of all processes since the start of the machine, idle and waiting for disks aside."""
    with open("/proc/stat") as stat:
        ticks = [int(word) for word in stat.readline().split()[1:]]
    return (sum(ticks[:8]) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Milliseconds. ``to_webui``: from the caller's sending to the WebUI's having it; ``added``: to a whole call."""

    redis: bool
    to_webui_p50: float
    to_webui_p95: float
    added_p50: float


def idle(*, redis: bool, calls: int = 100) -> Idle:
    """One caller, WebUIs that do nothing else and paint in no time."""
    with pool(4, redis=redis, simulator={"step_time": 0.0}) as (service, webuis):
        sent, took = [], []
        with requests.Session() as session:
            for number in range(calls):
                sent.append(time.monotonic())
                session.post(f"{service.url}/txt2img", json=job() | {"seed": number}, timeout=60).raise_for_status()
                took.append(time.monotonic() - sent[-1])
        seen = [one for webui in webuis.generations() for one in webui]
    reached = {json.loads(body)["seed"]: start for start, _, body in seen}
    to_webui = sorted(reached[number] - sent[number] for number in range(calls))
    inside = statistics.median((end or start) - start for start, end, _ in seen)
    return Idle(
        redis=redis,
        to_webui_p50=round(1000 * to_webui[calls // 2], 1),
        to_webui_p95=round(1000 * to_webui[calls * 95 // 100], 1),
        added_p50=round(1000 * (statistics.median(took) - inside), 1),
    )


@dataclass(frozen=True, kw_only=True)
class Switches:
    """``per_1000``: models loaded per 1000 jobs; ``wait_s``: what a job waited, on average."""

    how: str
    load: float
    per_1000: int
    wait_s: float


def switches_in_theory(jobs: int = 5000) -> list[Switches]:
    """Three models (60, 30, 10 %) over four WebUIs; a job takes 4 s, loading a model 8 s; patience 5 s."""
    found = []
    for load in (0.5, 0.8, 1.2):
        arrivals = Load(jobs=jobs, load=load, shares={"a": 0.6, "b": 0.3, "c": 0.1}, webuis=4, job_s=4, load_s=8)
        for how, run in (("pool", scheduled), ("round robin", round_robin)):
            loads, wait_s = run(arrivals)
            found.append(Switches(how=how, load=load, per_1000=round(1000 * loads / jobs), wait_s=round(wait_s, 1)))
    return found


def switches_for_real(*, seconds: float) -> Switches:
    """The same mix with jobs of 1 s and loading of 2 s, saturated."""
    simulator = {"load_time": 2.0}
    draw = random.Random(1)
    with pool(4, redis=False, simulator=simulator, SD_MODEL_SWITCH_PATIENCE="5") as (service, webuis):
        callers = Callers(service, 16, lambda: job(model=draw.choices(MODELS, (60, 30, 10))[0]))
        time.sleep(seconds)
        callers.end()
        seen = webuis.generations()
    models = [[json.loads(body)["override_settings"]["sd_model_checkpoint"] for _, _, body in one] for one in seen]
    changes = sum(
        before.split(".")[0] != after.split(".")[0] for one in models for before, after in itertools.pairwise(one)
    )
    jobs = sum(map(len, models))
    return Switches(how=f"real, {jobs} jobs", load=4.0, per_1000=round(1000 * changes / jobs), wait_s=0.0)


# --- Telling ----------------------------------------------------------------------------------------------------------


def _print(rows: list[Any]) -> None:
    """As a table."""
    names = list(asdict(rows[0]))
    lines = [names, *([str(value) for value in asdict(row).values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    for line in lines:
        sys.stdout.write("  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pool", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each run (default: %(default)s)")
    parser.add_argument("--webuis", type=int, nargs="+", default=[1, 4, 16, 50])
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS}")
    args = parser.parse_args()
    results: dict[str, list[Any]] = {"switches": switches_in_theory()}
    _print(results["switches"])
    results["idle"] = [idle(redis=redis) for redis in (False, True)]
    _print(results["idle"])
    results["saturation"] = []
    cases = [(count, redis, 1) for count in args.webuis for redis in (False, True)] + [(4, False, 2)]
    for count, redis, slots in cases:
        results["saturation"].append(saturation(count, redis=redis, seconds=args.seconds, slots=slots))
        _print(results["saturation"][-1:])
    results["switches"].append(switches_for_real(seconds=2 * args.seconds))
    _print(results["switches"][-1:])
    if args.save:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(
            json.dumps({name: [asdict(row) for row in rows] for name, rows in results.items()}, indent=2)
        )


if __name__ == "__main__":
    main()
