"""What changed since the last run: of two runs on a machine that is shared, only ratios within each can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.goals import START_KEYS
from bench.results_file import Results, quotient
from bench.tables import NONE, Table, number
from bench.targets import LITELLM_PROXY, NGINX, OPENAI, SERVICE, STATIC, STOCK_NGINX

MEMORY_KEYS = {"waiting_mb_per_job": "MB a job that waits", "peak_mb_per_job": "MB an answer at once"}


def summary(results: Results) -> dict[str, Any]:
    """What a later run keeps of this one, in its own file."""
    about = results.saved["about"]
    return {"date": about["date"], "commit": about["commit"], "ratios": ratios(results)}


def table(results: Results) -> Table | None:
    """None where there was no run before. A dash stands for what one of the two did not measure."""
    last: Mapping[str, Any] | None = results.saved.get("last")
    if last is None:
        return None
    before, now = last["ratios"], ratios(results)
    rows = []
    for what in dict.fromkeys([*now, *before]):
        mine, theirs = now.get(what), before.get(what)
        change = mine / theirs if mine is not None and theirs else None
        rows.append([what, number(theirs, 2), number(mine, 2), NONE if change is None else f"{change - 1:+.0%}"])
    title = f"Since the last run, {last['date']}, commit {last['commit']}"
    return Table(title=title, header=("this service, as a multiple", "last", "now", "change"), rows=rows)


def ratios(results: Results) -> dict[str, float]:
    """What was measured of this service, each as a multiple of the same of somebody else in the same run."""
    return {what: round(value, 3) for what, value in _ratios(results) if value is not None}


def _ratios(results: Results) -> Iterator[tuple[str, float | None]]:
    builds = [name for row in results.saved["starts"] if (name := row["target"]) != SERVICE]
    for workload in dict.fromkeys(workload for workload, _ in results.workloads()):
        reference = STATIC if results.row(workload, STATIC) else NGINX
        for other in (reference, STOCK_NGINX, *builds):
            yield f"CPU of {workload} × {other}", results.ratio(workload, SERVICE, other)
        yield f"CPU of {workload}, OpenAI's API × {LITELLM_PROXY}", results.ratio(workload, OPENAI, LITELLM_PROXY)
    for other in builds:
        for key, what in START_KEYS.items():
            yield f"{what} × {other}", quotient(results.start(SERVICE), results.start(other), key)
        for row in results.saved["memory"]:
            if row["target"] == SERVICE:
                for key, what in MEMORY_KEYS.items():
                    value = quotient(row, results.memory(row["what"], other), key)
                    yield f"{what}, {row['what']} × {other}", value
        for row in results.saved.get("idle", []):
            if row["target"] == SERVICE:
                value = quotient(row, results.idle(row["webuis"], other), "cpu_ms_per_s")
                yield f"CPU of an idle service before {row['webuis']} WebUIs × {other}", value
