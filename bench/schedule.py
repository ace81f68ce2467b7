"""
What one change of the schedule in Redis costs, by how many WebUIs there are: ``python -m bench.schedule``.

Every WebUI has a job and 64 wait, as under full load. A change ends a job and gives its place to the next, or lets a
new one wait: a picture takes two of them. With several processes all change one schedule, as replicas do; what collides
is tried again, so together they are slower than one alone.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import redis

from sd_client.board import TICK_S
from sd_client.granting import grant
from sd_client.redis_schedule import RedisSchedule
from sd_client.schedule import Job, Schedule, enter, leave
from tests.running import RedisServer

SIZES = (50, 200, 1000)
PROCESSES = (1, 4)
WAITING = 64
SECONDS = 6.0

_fresh = iter(range(10**9))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """
    :param tries: for each change; more than one where another process was faster.
    :param cpu_s: of one change, its tries together.
    """

    changes_per_s: float
    median_s: float
    tries: float
    cpu_s: float


def measure(url: str, webuis: int, processes: int) -> Measured:
    names = tuple(f"http://10.0.{number // 250}.{number % 250}:7860" for number in range(webuis))
    fill(url, names)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with context.Pool(processes, initializer=_remember, initargs=(barrier,)) as pool:
        runs = pool.starmap(turn_over, [(url, names, number) for number in range(processes)], chunksize=1)
    took = [one for run in runs for one in run.took]
    return Measured(
        changes_per_s=len(took) / SECONDS,
        median_s=statistics.median(took),
        tries=sum(run.tries for run in runs) / len(took),
        cpu_s=sum(run.cpu_s for run in runs) / len(took),
    )


def fill(url: str, webuis: tuple[str, ...]) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushall()
        schedule = RedisSchedule(client, prefix="sd-api:bench", holder="0")
        schedule.renew()

        def full(state: Schedule) -> Schedule:
            for _ in range(len(webuis) + WAITING):
                state = enter(state, _job(webuis, "0"))
            return grant(state, slots=1, patience_s=0, now=0.0)  # nobody waits for a WebUI that has its model

        filled = schedule.update(full)
        assert (len(filled.running), len(filled.waiting)) == (len(webuis), WAITING)


#: Of each process, set as it starts.
_barrier: Barrier


def _remember(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Of one process. ``took``: seconds of each change."""

    took: list[float]
    tries: int
    cpu_s: float


def turn_over(url: str, webuis: tuple[str, ...], number: int) -> _Run:
    """A process changes the schedule without a pause."""
    tries = itertools.count()
    with redis.Redis.from_url(url) as client:
        schedule = RedisSchedule(client, prefix="sd-api:bench", holder=str(number))
        schedule.renew()
        _barrier.wait()
        began = renewed = time.monotonic()
        cpu = time.process_time()
        took: list[float] = []
        while (now := time.monotonic()) < began + SECONDS:
            if now > renewed + TICK_S:
                schedule.renew()
                renewed = now
            change = _next_change(webuis, str(number), len(took))
            schedule.update(lambda state, change=change: (next(tries), change(state))[1])  # type: ignore[misc]
            took.append(time.monotonic() - now)
        return _Run(took=took, tries=next(tries), cpu_s=time.process_time() - cpu)


def _next_change(webuis: tuple[str, ...], holder: str, number: int) -> Callable[[Schedule], Schedule]:
    """In turn: a job ends, another comes."""

    def end(state: Schedule) -> Schedule:
        state = leave(state, random.choice(state.running).ticket, ran_s=5.0)
        return grant(state, slots=1, patience_s=5, now=0.0)

    job = _job(webuis, holder)
    return (lambda state: grant(enter(state, job), slots=1, patience_s=5, now=0.0)) if number % 2 else end


def _job(webuis: tuple[str, ...], holder: str) -> Job:
    ticket = f"{holder}-{next(_fresh)}-{random.getrandbits(96):024x}"
    return Job(ticket=ticket, holder=holder, webuis=webuis, model="v1-5-pruned-emaonly", since=0.0, request=ticket * 2)


def size_of(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.strlen("sd-api:bench:schedule"))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    _say("| WebUIs | kB in Redis | processes | changes/s | median of one | tries | CPU of one |")
    _say("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="sd-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            for webuis in SIZES:
                for processes in PROCESSES:
                    one = measure(server.url, webuis, processes)
                    _say(
                        f"| {webuis} | {size_of(server.url) / 1000:.0f} | {processes} | {one.changes_per_s:.0f} "
                        f"| {one.median_s * 1000:.1f} ms | {one.tries:.1f} | {one.cpu_s * 1000:.1f} ms |",
                    )
        finally:
            server.stop()


if __name__ == "__main__":
    main()
