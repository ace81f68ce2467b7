"""Many WebUIs, many callers, several hosts: real sockets and processes, jobs so long that two cores are enough."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import redis

from bench import accounting
from bench.load import Call, Callers, Outcome, Work, quantile_ms
from bench.stage import Server, Stage, Upstream
from bench.workloads import PREFIX, generation

WEBUIS = (1, 4, 16, 50, 100, 200, 400)
#: Callers that wait while as many others as there are WebUIs have their job.
WAITING = (1, 16, 64, 128, 256, 512, 1000, 2000)
#: Callers in front of the default queue of 64 places.
REFUSED = (128, 500, 2000)
HOSTS = (1, 2, 4)

#: Pictures a second in all that two cores are asked for, with callers and WebUIs beside the service.
RATE = 16.0
SHORTEST_JOB_S = 1.0
SIDE = 64
IDLE_S = 10.0
WINDOW_S = 10.0
#: New callers a second.
ARRIVALS = 200.0
#: Within this all callers wait, or are left to arrive while the others are measured.
ENTERED_S = 120.0

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Load:
    """
    :param clients: callers, each of which asks again as soon as it has an answer, over all hosts.
    :param spread_s: they begin one after the other over this time.
    :param pause_s: after a refusal.
    :param awaited: whether their last answers are waited for. Otherwise the load is measured once as many wait as will.
    """

    clients: int
    job_s: float
    spread_s: float
    window_s: float = WINDOW_S
    pause_s: float = 5.0
    awaited: bool = True


class Pool:
    """One or more hosts before the same WebUIs."""

    def __init__(self, stack: ExitStack, *, webuis: int, hosts: int = 1, redis: bool = False, queue: int) -> None:
        stage = stack.enter_context(Stage())
        self.webuis = webuis
        self.upstream: Upstream = stage.upstream()
        settings: dict[str, Any] = {"SD_QUEUE_LIMIT": str(queue), "SD_QUEUE_TIMEOUT": "600"}
        self._redis_pid, self._redis_url = stage.redis() if redis else (0, "")
        if redis:
            settings["REDIS_URL"] = self._redis_url
        urls = self.upstream.webuis(webuis)
        self.hosts: Sequence[Server] = [stage.service(f"host-{n}", urls, **settings) for n in range(hosts)]
        self._stack = stack

    def idle_ms_per_s(self) -> float:
        """CPU of all hosts before the first job."""
        began = self._cpu_s()
        time.sleep(IDLE_S)
        return round(1000 * (self._cpu_s() - began) / IDLE_S, 2)

    def row(self, load: Load) -> Row:
        """What the hosts cost and the callers see under a load, over its window."""
        self.upstream.order(seconds=load.job_s)
        accounting.forget_peak(self._processes())
        with ExitStack() as stack:
            crews = [stack.enter_context(Callers()) for _ in self.hosts]
            prober = stack.enter_context(Callers())
            for number, (crew, host) in enumerate(zip(crews, self.hosts, strict=True)):
                crew.begin(self._work(load, host, load.clients // len(crews) + (number < load.clients % len(crews))))
            time.sleep(load.spread_s + min(load.job_s, 2.0))
            entering = {} if load.awaited else {"entered_s": self._until_all_wait(load)}
            prober.begin(_probing(self.hosts[0], load.window_s))
            before, began = self._counters(), time.monotonic()
            time.sleep(load.window_s)
            after, ended = self._counters(), time.monotonic()
            health = prober.outcome()
            outcomes = [crew.outcome() for crew in crews] if load.awaited else []
        calls = [call for outcome in outcomes for call in outcome.calls]
        return {
            **self._figures(load, before, after, ended - began),
            **_answers(calls, load, within=(began, ended)),
            **entering,
            "health_p50_ms": quantile_ms(health.good, 0.5),
            "health_p99_ms": quantile_ms(health.good, 0.99),
            "health_failed": len(health.calls) - len(health.good),
            "peak_rss_mb": round(accounting.peak_mb(self._processes()), 1),
        }

    def _until_all_wait(self, load: Load) -> float:
        """Seconds since the first caller, until all but a few that are on their way wait or have a place."""
        began = time.monotonic()
        while time.monotonic() - began < ENTERED_S and self._waiting() < 0.97 * (load.clients - self.webuis):
            time.sleep(0.5)
        return round(load.spread_s + time.monotonic() - began, 1)

    def _waiting(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.hosts[0].port}{PREFIX}/health", timeout=60) as answer:
            return int(json.load(answer)["queue"]["waiting"])

    def _figures(self, load: Load, before: Row, after: Row, window_s: float) -> Row:
        spent = {name: after[name] - before[name] for name in before}
        jobs = max(1, spent["done"])
        idle_s = self.webuis * window_s - spent["busy_s"]
        found = {
            "webuis": self.webuis,
            "clients": load.clients,
            "hosts": len(self.hosts),
            "job_s": load.job_s,
            "jobs": spent["done"],
            "cpu_ms": round(1000 * spent["cpu_s"] / jobs, 2),
            "busy_share": round(spent["busy_s"] / (self.webuis * window_s), 3),
            "idle_ms_per_job": round(1000 * idle_s / jobs, 1),
        }
        if self._redis_pid:
            found["redis_cpu_ms"] = round(1000 * spent["redis_cpu_s"] / jobs, 2)
            found["redis_calls_per_job"] = round(spent["redis_calls"] / jobs, 1)
            found["redis_kb_per_job"] = round(spent["redis_bytes"] / 1000 / jobs, 1)
        return found

    def _counters(self) -> Row:
        counts = self.upstream.counts()
        found: Row = {"cpu_s": self._cpu_s(), "done": counts.done, "busy_s": counts.busy_s}
        if self._redis_pid:
            with redis.Redis.from_url(self._redis_url) as client:
                stats = client.info("stats")
            found["redis_cpu_s"] = accounting.cpu_s([self._redis_pid])
            found["redis_calls"] = stats["total_commands_processed"]
            found["redis_bytes"] = stats["total_net_output_bytes"] + stats["total_net_input_bytes"]
        return found

    def _cpu_s(self) -> float:
        return accounting.cpu_s(pid for host in self.hosts for pid in host.pids)

    def _processes(self) -> list[int]:
        return [pid for host in self.hosts for root in host.pids for pid in accounting.tree(root)]

    def _work(self, load: Load, host: Server, clients: int) -> Work:
        asked = generation("txt2img", SIDE, 1, "service")
        return asked.work(
            host.port,
            clients=clients,
            seconds=load.spread_s + min(load.job_s, 2.0) + load.window_s + (0.0 if load.awaited else ENTERED_S),
            pause_s=load.pause_s,
            spread_s=load.spread_s,
        )


def webuis_rows(counts: Sequence[int] = WEBUIS) -> list[Row]:
    """Each number of WebUIs twice: with a caller for each, and with a quarter more, so that some always wait."""
    found: list[Row] = []
    for count in counts:
        job_s = max(SHORTEST_JOB_S, count / RATE)
        with ExitStack() as stack:
            pool = Pool(stack, webuis=count, queue=max(64, count))
            idle = {"idle_ms_per_s": pool.idle_ms_per_s()}
            for clients in (count, count + count // 4 + 1):
                load = Load(clients=clients, job_s=job_s, spread_s=job_s, window_s=max(WINDOW_S, job_s))
                found.append({"what": "webuis", **pool.row(load), **idle})
    return found


def waiting_rows(counts: Sequence[int] = WAITING, refused: Sequence[int] = REFUSED) -> list[Row]:
    """Before 16 WebUIs with jobs of a second: a queue that has room for all, and then the default one of 64 places."""
    found: list[Row] = []
    for waiting in counts:
        clients = 16 + waiting
        with ExitStack() as stack:
            pool = Pool(stack, webuis=16, queue=max(64, waiting))
            load = Load(clients=clients, job_s=1.0, spread_s=max(1.0, clients / ARRIVALS), awaited=waiting <= 64)
            found.append({"what": "waiting", "waiting": waiting, "queue": max(64, waiting), **pool.row(load)})
    for clients in refused:
        with ExitStack() as stack:
            pool = Pool(stack, webuis=16, queue=64)
            load = Load(clients=clients, job_s=1.0, spread_s=max(1.0, clients / ARRIVALS))
            found.append({"what": "refused", "waiting": 64, "queue": 64, **pool.row(load)})
    return found


def hosts_rows(counts: Sequence[int] = HOSTS) -> list[Row]:
    """50 WebUIs and 70 callers, shared by more and more hosts of two workers over one Redis."""
    found: list[Row] = []
    for hosts in counts:
        job_s = 50 / RATE
        with ExitStack() as stack:
            pool = Pool(stack, webuis=50, hosts=hosts, redis=True, queue=64)
            idle = {"idle_ms_per_s": pool.idle_ms_per_s()}
            load = Load(clients=70, job_s=job_s, spread_s=job_s)
            found.append({"what": "hosts", **pool.row(load), **idle})
    return found


def _answers(calls: Sequence[Call], load: Load, *, within: tuple[float, float]) -> Row:
    """
    Statuses of all answers, and what those of the window took beyond the job: waiting for a place included, which
    nobody has to where there are no more callers than WebUIs.
    """
    good = [call for call in calls if call.status == 200 and within[0] <= call.began + call.seconds <= within[1]]
    times = sorted(1000 * (call.seconds - load.job_s) for call in good)
    refused = [call for call in calls if call.status in (429, 503)]
    return {
        "statuses": Outcome(calls=tuple(calls), seconds=0.0).statuses,
        "beyond_p50_ms": _at(times, 0.5),
        "beyond_p99_ms": _at(times, 0.99),
        "refused_p50_ms": quantile_ms(refused, 0.5),
        "refused_p99_ms": quantile_ms(refused, 0.99),
    }


def _at(times: Sequence[float], share: float) -> float | None:
    return round(times[min(len(times) - 1, int(share * len(times)))], 1) if times else None


def _probing(host: Server, seconds: float) -> Work:
    """Ten health checks a second, each over a new connection."""
    return Work(
        port=host.port, path=f"{PREFIX}/health", clients=5, seconds=seconds, period_s=0.5, spread_s=0.5, fresh=True
    )
