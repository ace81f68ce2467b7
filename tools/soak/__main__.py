"""
Hours of trouble in minutes: ``make soak``, or ``python -m tools.soak --seconds 1200``.

It starts one service as in production (gunicorn, two workers), a real Redis and four simulated WebUIs, sends requests
of every kind, and lets things fail at random (``trouble.py``). Every minute the trouble pauses until no job waits or
runs, and a census is taken. The last seconds are without trouble; Redis must then have counted exactly what was
answered.

It exits with 1 unless in the end every request has had an answer, except those of a worker that was killed; every
image that an answer named is whole and on the disk with its record; no place on a WebUI is taken; and the oldest
worker has not grown.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Container, Sequence
from contextlib import ExitStack
from pathlib import Path

import redis
from PIL import Image

from config import Config
from tests.pool.callers import wait_for_no_lease, wait_for_webuis, when
from tests.pool.webuis import SimulatorProcess
from tests.running import RedisServer, Service, running_service
from tools.soak.census import Census, census, workers_of
from tools.soak.traffic import COUNTABLE, Caller, Counts, Tally
from tools.soak.trouble import Trouble, repair

WEBUIS = 4
CALLERS = 16
ROUND_S = 60.0

#: A request whose connection breaks within this after a worker was killed was that worker's.
_KILLED_S = 2.0

#: How much the oldest worker may grow between the second round and the end. The allocator keeps memory that the
#: largest pictures took, and pools add threads and connections when more than before are needed at once.
MOST_GROWTH = {"rss_mb": 40.0, "threads": 24.0, "files": 16.0, "sockets": 16.0}

#: Seconds of traffic without trouble at the end.
CALM_S = 15.0

#: Never reached, and with windows so long that every hit is still there at the end.
_LIMITS = {"RATE_LIMIT_GLOBAL": "900000/day", "RATE_LIMIT_GENERATION": "800000/day"}
_SETTINGS = _LIMITS | {
    "SD_TIMEOUT": "20",
    "SD_QUEUE_TIMEOUT": "30",
    "SD_QUEUE_LIMIT": "24",
    "SD_MODEL": "v1-5-pruned-emaonly",
}


class Soak:
    """One run."""

    def __init__(self, stack: ExitStack, folder: Path, seed: int) -> None:
        self._draw = random.Random(seed)
        self.tally = Tally()
        self.calm = Tally()
        self.rounds: list[list[Census]] = []
        self.trouble: list[Trouble] = []
        self._mutex = threading.Lock()
        self._redis = RedisServer(folder)
        self._redis.start()
        stack.callback(self._redis.stop)
        self.redis_url = self._redis.url
        self._webuis = [SimulatorProcess() for _ in range(WEBUIS)]
        for webui in self._webuis:
            webui.start()
            stack.callback(webui.kill)
        settings = {**_SETTINGS, "REDIS_URL": self._redis.url}
        urls = ",".join(webui.url for webui in self._webuis)
        self.service: Service = stack.enter_context(running_service(folder / "service", urls, workers=2, **settings))
        self.most_threads = Config.from_env({**settings, "SD_WEBUI_URL": urls}).threads
        self.service.wait_until_answering()

    def round(self, seconds: float) -> None:
        """Traffic and trouble for some seconds, then rest."""
        ended = threading.Event()
        calm = threading.Event()
        callers = self._callers(self.tally, ended)
        trouble = Trouble(self.service, self._webuis, self._redis, calm, self._draw.getrandbits(32))
        self.trouble.append(trouble)
        for thread in (*callers, trouble):
            thread.start()
        time.sleep(seconds)
        calm.set()
        trouble.join()
        repair(self._webuis)
        ended.set()
        for caller in callers:
            caller.join()
        self._rest()
        self.rounds.append([census(pid) for pid in workers_of(self.service.process.pid)])

    def calm_rounds(self, seconds: float) -> None:
        """Repeat until no call to Redis was late: on a busy machine one may be, and it is then not counted there."""
        for _ in range(5):
            before = self.service.printed.count("counted in each process")
            self.calm.counts = Counts()
            self._calm_round(seconds)
            if self.service.printed.count("counted in each process") == before:
                return

    def _calm_round(self, seconds: float) -> None:
        """Traffic without trouble, on a Redis that was emptied and to which the service has pushed its records."""
        self._redis.empty()
        when(lambda: self.answered_with_key() <= self.counted()[2], "the answers for idempotency keys are put back")
        self._rest()
        ended = threading.Event()
        callers = self._callers(self.calm, ended, COUNTABLE)
        for caller in callers:
            caller.start()
        time.sleep(seconds)
        ended.set()
        for caller in callers:
            caller.join()
        self._rest()

    def counted(self) -> tuple[int, int, set[str]]:
        """The number of calls and of generations that Redis has counted, and the pictures that its keys lead to."""
        with redis.Redis.from_url(self.redis_url, socket_timeout=5) as client:
            limits = {key: client.llen(key) for key in self._keys("*LIMIT*")}
            records = [key for key in self._keys("sd-api:idempotency:*") if b":host:" not in key]
            kept = [json.loads(client.get(key) or "{}") for key in records]
        generations = sum(count for key, count in limits.items() if b"generation" in key)
        answers = [one["answer"] for one in kept if one.get("answer")]
        images = {image["image_id"] for answer in answers for image in answer["images"]}
        return sum(limits.values()) - generations, generations, images

    def answered_with_key(self) -> set[str]:
        """The pictures that answers to requests with a key named."""
        return self.tally.counts.keyed | self.calm.counts.keyed

    def _keys(self, pattern: str) -> list[bytes]:
        with redis.Redis.from_url(self.redis_url, socket_timeout=5) as client:
            return list(client.scan_iter(pattern, count=1000))

    def _callers(self, tally: Tally, ended: threading.Event, kinds: Container[str] | None = None) -> list[Caller]:
        seeds = [self._draw.getrandbits(32) for _ in range(CALLERS)]
        return [Caller(self.service, tally, self._mutex, ended, seed, kinds) for seed in seeds]

    def _rest(self) -> None:
        wait_for_webuis(self.service, WEBUIS)
        when(lambda: self.service.get("/health").json()["redis"] == "up", "Redis is seen")
        wait_for_no_lease(self.service)
        when(lambda: len(workers_of(self.service.process.pid)) == 2, "both workers live")


def findings(soak: Soak) -> list[str]:
    """Everything that is wrong, one line each."""
    problems = [*soak.tally.findings, *soak.calm.findings, *_counts(soak)]
    problems += [f"{name}: no answer, without any trouble" for _, _, name in soak.calm.lost]
    kills = [moment for trouble in soak.trouble for moment in trouble.kills]
    for sent, broke, name in soak.tally.lost:
        if not any(sent - 0.5 <= kill <= broke and broke - kill < _KILLED_S for kill in kills):
            since = min((broke - kill for kill in kills if kill <= broke), default=float("inf"))
            problems.append(f"{name}: no answer after {broke - sent:.1f} s, {since:.1f} s after a worker was killed")
    problems += _images(soak.service.images, [*soak.tally.images, *soak.calm.images])
    problems += _leases(soak)
    problems += _growth(soak)
    printed = soak.service.printed
    problems += [
        f"in the log: {line[:400]}" for line in printed.splitlines() if '"level": "ERROR"' in line and _ours(line)
    ]
    return problems


def _ours(line: str) -> bool:
    """Not gunicorn's line about a killed worker, nor Flask-Limiter's about an unreachable Redis."""
    return '"logger": "gunicorn.error"' not in line and '"logger": "flask-limiter"' not in line


def _counts(soak: Soak) -> list[str]:
    calls, generations, keyed = soak.counted()
    answered = soak.calm.counts
    problems = []
    if (calls, generations) != (answered.calls, answered.generations):
        problems.append(
            f"Redis counted {calls} calls and {generations} generations; "
            f"{answered.calls} and {answered.generations} were answered"
        )
    if lost := soak.answered_with_key() - keyed:
        problems.append(f"{len(lost)} answers are not under their keys in Redis")
    return problems


def _images(folder: Path, answered: Sequence[str]) -> list[str]:
    problems = []
    missing = [one for one in set(answered) if not (folder / one[:2] / one[2:4] / f"{one}.png").exists()]
    problems += [f"image {one} was answered and is not on the disk" for one in missing]
    for path in folder.glob("??/??/*.png"):
        try:
            with Image.open(path) as image:
                image.load()
            json.loads(path.with_suffix(".json").read_text())
        except (OSError, ValueError) as error:
            problems.append(f"image {path.name} is not whole: {error}")
    return problems


def _leases(soak: Soak) -> list[str]:
    """Jobs left in the schedule that all hosts share."""
    with redis.Redis.from_url(soak.redis_url, socket_timeout=5) as client:
        schedules = [json.loads(client.get(key) or "{}") for key in client.scan_iter("sd-api:pool:schedule")]
    left = [job for schedule in schedules for job in (*schedule["waiting"], *schedule["running"])]
    return [f"{len(left)} jobs are left in the schedule"] if left else []


def _growth(soak: Soak) -> list[str]:
    oldest = soak.rounds[-1][0]
    lived = [one for found in soak.rounds for one in found if one.pid == oldest.pid]
    problems = []
    if oldest.threads > soak.most_threads + 32:
        problems.append(f"{oldest.threads} threads; {soak.most_threads} serve requests")
    if len(lived) < len(soak.rounds):
        problems.append("no worker lived through it all")
    if len(lived) > 2:
        for name, most in MOST_GROWTH.items():
            before, after = getattr(lived[1], name), getattr(oldest, name)
            if after - before > most:
                problems.append(f"{name} of a worker grew from {before:.0f} to {after:.0f}")
    return problems


def report(soak: Soak, found: Sequence[str]) -> None:
    out = sys.stdout.write
    out("\nround   worker  RSS MB  threads  files  sockets\n")
    for number, workers in enumerate(soak.rounds, 1):
        for one in workers:
            out(f"{number:5}  {one.pid:7}  {one.rss_mb:6.0f}  {one.threads:7}  {one.files:5}  {one.sockets:7}\n")
    out("\nrequests by kind and outcome\n")
    for (name, outcome), count in sorted(soak.tally.outcomes.items()):
        out(f"  {name:12} {outcome:20} {count:6}\n")
    out(f"  sum {sum(soak.tally.outcomes.values())}, lost with a killed worker {len(soak.tally.lost)}\n\ntrouble\n")
    done = sum((trouble.done for trouble in soak.trouble), start=Counter())
    for name, count in sorted(done.items()):
        out(f"  {name:24} {count:4}\n")
    calls, generations, keyed = soak.counted()
    out(f"\nat last, without trouble: {soak.calm.counts.calls} calls answered and {calls} counted in Redis, ")
    out(f"{soak.calm.counts.generations} generations and {generations}; {len(keyed)} pictures under their keys\n")
    kept = sum(1 for _ in soak.service.images.glob("??/??/*.png"))
    leftovers = sum(1 for _ in (soak.service.images / ".incoming").glob("*"))
    answered = len({*soak.tally.images, *soak.calm.images})
    out(f"\nimages answered {answered}, on the disk {kept}, half written by killed workers {leftovers}\n")
    out(f"slowest health check {soak.tally.slowest_health_s:.2f} s\n")
    out(f"findings: {len(found)}\n")
    for problem, count in Counter(found).most_common(50):
        out(f"{count:6} x {problem}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    arguments = parser.parse_args()
    sys.stdout.write(f"seed {arguments.seed}\n")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    with ExitStack() as stack:
        soak = Soak(stack, folder, arguments.seed)
        ends = time.monotonic() + arguments.seconds
        while (left := ends - time.monotonic()) > 0:
            soak.round(min(ROUND_S, max(left, 10)))
            sys.stdout.write(f"{len(soak.rounds)} rounds, {sum(soak.tally.outcomes.values())} requests\n")
            sys.stdout.flush()
        soak.calm_rounds(CALM_S)
        found = findings(soak)
        report(soak, found)
    if found:
        sys.exit(f"kept: {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
