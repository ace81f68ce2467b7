"""Reading what was measured: one file of results, and the questions that tables, goals and plots ask it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any


class Results:
    """:param saved: the JSON of a file in ``bench/results/``."""

    def __init__(self, saved: Mapping[str, Any]) -> None:
        self.saved = saved
        self._rows = {(row["workload"], row["clients"], row["target"]): row for row in saved["rows"]}

    def workloads(self) -> list[tuple[str, int]]:
        """With their numbers of clients, in the order in which they were measured."""
        return list(dict.fromkeys((row["workload"], row["clients"]) for row in self.saved["rows"]))

    def rows(self, workload: str, clients: int) -> list[Mapping[str, Any]]:
        return [row for row in self.saved["rows"] if (row["workload"], row["clients"]) == (workload, clients)]

    def row(self, workload: str, target: str, clients: int = 1) -> Mapping[str, Any] | None:
        """None where it was not measured."""
        return self._rows.get((workload, clients, target))

    def ratio(self, workload: str, target: str, to: str, clients: int = 1) -> float | None:
        """
        CPU per request of the one in that of the other: the median of the rounds in which both took part. None where
        one was not measured, or failed a request: failing is cheap.
        """
        one, other = self.row(workload, target, clients), self.row(workload, to, clients)
        if one is None or other is None or one["failed"] or other["failed"]:
            return None
        pairs = zip(one["cpu_ms_rounds"], other["cpu_ms_rounds"], strict=False)
        return float(statistics.median(mine / theirs for mine, theirs in pairs))

    def added_ms(self, workload: str, target: str, to: str, clients: int = 1) -> float | None:
        """By how much the median latency of the one is above that of the other."""
        one, other = self.row(workload, target, clients), self.row(workload, to, clients)
        if one is None or other is None or one["p50_ms"] is None or other["p50_ms"] is None:
            return None
        return float(one["p50_ms"] - other["p50_ms"])

    def limiter_ms(self, limits: str) -> float | None:
        return next((row["ms"] for row in self.saved["limiter"] if row["limits"] == limits), None)

    def memory(self, what: str) -> Mapping[str, Any] | None:
        return next((row for row in self.saved["memory"] if row["what"] == what), None)

    def overload(self, situation: str) -> Mapping[str, Any] | None:
        return next((row for row in self.saved["overload"] if row["situation"] == situation), None)
