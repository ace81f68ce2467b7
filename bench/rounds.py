"""Interleaved rounds: in each, every server gets every workload for a moment, so that all share its noise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench import accounting
from bench.load import Call, Callers, quantile_ms
from bench.stage import Upstream
from bench.targets import Target
from bench.workloads import CLIENTS, Workload

#: After the last answer a server still writes its log and closes its files.
SETTLE_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Pace:
    """
    :param slice_s: seconds in which requests begin, for one server and workload in one round.
    :param enough_s: seconds after which a server and workload are not asked again: slow ones would take all the time.
    :param rounds: the most rounds.
    """

    slice_s: float = 0.5
    enough_s: float = 4.0
    rounds: int = 6


QUICK = Pace(slice_s=0.1, enough_s=0.3, rounds=2)


@dataclass(kw_only=True)
class Cell:
    """What one server did with one workload and a number of callers."""

    workload: Workload
    target: Target
    clients: int
    calls: list[Call] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    peak_mb: float = 0.0

    def row(self) -> dict[str, Any]:
        """As it is saved: CPU per request in each round; latency and throughput over all rounds."""
        good = [call for call in self.calls if 200 <= call.status < 300]
        return {
            "workload": self.workload.name,
            "target": self.target.name,
            "clients": self.clients,
            "requests": len(self.calls),
            "failed": len(self.calls) - len(good),
            "answer_bytes": good[-1].bytes if good else 0,
            "cpu_ms": round(statistics.median(self.cpu_ms), 3),
            "cpu_ms_rounds": [round(value, 3) for value in self.cpu_ms],
            "p50_ms": quantile_ms(good, 0.5),
            "p99_ms": quantile_ms(good, 0.99),
            "rps": round(len(good) / self.seconds, 2),
            "peak_rss_mb": round(self.peak_mb, 1),
        }


class Rounds:
    def __init__(self, callers: Callers, upstream: Upstream, targets: list[Target], pace: Pace) -> None:
        self._callers = callers
        self._upstream = upstream
        self._targets = targets
        self._pace = pace

    def warm_up(self, workloads: list[Workload]) -> None:
        """Everything once, by one caller, not measured: imports, connections, first looks at the WebUIs."""
        for workload in workloads:
            for target in self._targets:
                if target.takes(workload):
                    self._callers.run(target.work(workload, clients=1, seconds=0))

    def run(self, workloads: list[Workload], *, until: float, say: Callable[[str], None]) -> list[dict[str, Any]]:
        """
        :param until: nothing begins after this, seconds of ``time.monotonic``.
        :returns: a row for everything that was measured at least once.
        """
        cells = [
            Cell(workload=workload, target=target, clients=clients)
            for workload in workloads
            for clients in CLIENTS
            for target in self._targets
            if target.takes(workload)
        ]
        for number in range(self._pace.rounds):
            began = time.monotonic()
            if began >= until:
                break
            for cell in cells:
                if cell.seconds < self._pace.enough_s and time.monotonic() < until:
                    self.measure(cell)
            for target in self._targets:
                target.empty()
            say(f"round {number + 1} of {self._pace.rounds}: {time.monotonic() - began:.0f} s")
        return [cell.row() for cell in cells if cell.calls]

    def measure(self, cell: Cell) -> None:
        """Measure one more slice of it."""
        self._upstream.order()
        target = cell.target
        work = target.work(cell.workload, clients=cell.clients, seconds=self._pace.slice_s)
        accounting.forget_peak(target.processes())
        before = accounting.cpu_s(target.server.pids)
        outcome = self._callers.run(work)
        time.sleep(SETTLE_S)
        used_s = accounting.cpu_s(target.server.pids) - before
        cell.cpu_ms.append(1000 * used_s / len(outcome.calls))
        cell.calls += outcome.calls
        cell.seconds += outcome.seconds
        cell.peak_mb = max(cell.peak_mb, accounting.peak_mb(target.processes()))
