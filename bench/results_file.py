"""Reading what was measured: one file of results, and the questions that tables, goals and plots ask it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from bench.targets import SERVICE


def quotient(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None, key: str) -> float | None:
    """Of the same figure in two rows; None where a row is missing or does not have it."""
    if one is None or other is None:
        return None
    mine, theirs = one.get(key), other.get(key)
    return mine / theirs if mine is not None and theirs else None


class Results:
    """:param saved: the JSON of a file in ``bench/results/``."""

    def __init__(self, saved: Mapping[str, Any]) -> None:
        self.saved = saved
        self._rows = {(row["workload"], row["clients"], row["target"]): row for row in saved["rows"]}

    def workloads(self) -> list[tuple[str, int]]:
        """Each with its number of clients, in the order in which they were measured."""
        return list(dict.fromkeys((row["workload"], row["clients"]) for row in self.saved["rows"]))

    def rows(self, workload: str, clients: int) -> list[Mapping[str, Any]]:
        return [row for row in self.saved["rows"] if (row["workload"], row["clients"]) == (workload, clients)]

    def row(self, workload: str, target: str, clients: int = 1) -> Mapping[str, Any] | None:
        """None if it was not measured."""
        return self._rows.get((workload, clients, target))

    def ratio(self, workload: str, target: str, to: str, clients: int = 1) -> float | None:
        """
        CPU per request of the one divided by that of the other: the median over the rounds in which both took part.
        None if one was not measured, or failed a request: failing is cheap.
        """
        one, other = self.row(workload, target, clients), self.row(workload, to, clients)
        if one is None or other is None or one["failed"] or other["failed"]:
            return None
        pairs = zip(one["cpu_ms_rounds"], other["cpu_ms_rounds"], strict=False)
        return float(statistics.median(mine / theirs for mine, theirs in pairs))

    def start(self, target: str) -> Mapping[str, Any] | None:
        return next((row for row in self.saved["starts"] if row["target"] == target), None)

    def idle(self, webuis: int, target: str) -> Mapping[str, Any] | None:
        """CPU without a request, before so many WebUIs. Files of before it was measured have none."""
        rows = self.saved.get("idle", [])
        return next((row for row in rows if (row["webuis"], row["target"]) == (webuis, target)), None)

    def memory(self, what: str, target: str = SERVICE) -> Mapping[str, Any] | None:
        rows = self.saved["memory"]
        return next((row for row in rows if (row["what"], row["target"]) == (what, target)), None)

    def overload(self, situation: str, target: str = SERVICE) -> Mapping[str, Any] | None:
        rows = self.saved["overload"]
        return next((row for row in rows if (row["situation"], row["target"]) == (situation, target)), None)
