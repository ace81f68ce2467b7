"""
How cost and latency grow: with callers (1 to 64) and with simulated WebUIs (1 to 50). ``make bench-scale``.

Writes ``bench/results/scale.json``, and plots that file as ``docs/images/scale.svg``. The callers come at once and
again as soon as they are answered, by WebUIs that need no time: from two callers on, the cores are full, and latency
must grow with their number. The WebUIs take a second for a job, and each has a caller.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench import accounting, machine, plot
from bench.load import Callers, Outcome, Work, quantile_ms
from bench.stage import Server, Stage, Upstream
from bench.tables import Table, as_text, number
from bench.workloads import Dialect, generation
from tests.running import ROOT
from tools.children import RunError

RESULTS = ROOT / "bench" / "results" / "scale.json"
PLOT = ROOT / "docs" / "images" / "scale.svg"

CLIENTS = (1, 4, 16, 64)
WEBUIS = (1, 4, 16, 50)
JOB_S = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--only-plot", action="store_true", help="plot the last results again")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not args.only_plot:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(measured(args.seconds), indent=1) + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        return 130
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return show(RESULTS, PLOT)


def show(results: Path, picture: Path) -> int:
    saved = json.loads(results.read_text(encoding="utf-8"))
    sys.stdout.write("\n".join(as_text(table(saved[key], key)) for key in ("clients", "webuis")))
    plot.growth(saved, picture)
    return 0


def table(rows: list[dict[str, Any]], key: str) -> Table:
    keys = ("cpu_ms", "p50_ms", "added_p50_ms", "added_p99_ms", "rps", "peak_rss_mb")
    header = (key, "CPU ms", "p50 ms", "added p50 ms", "added p99 ms", "pictures/s", "peak RSS MB", "failed")
    shown = [[str(row[key]), *(number(row[name]) for name in keys), str(row["failed"])] for row in rows]
    return Table(title=f"By {key}", header=header, rows=shown)


def measured(seconds: float) -> dict[str, Any]:
    with Stage() as stage, Callers() as callers:
        upstream = stage.upstream()
        return {
            "about": machine.about(),
            "clients": _by_clients(callers, upstream, seconds),
            "webuis": [_with_webuis(count, callers, upstream, seconds) for count in WEBUIS],
        }


def _by_clients(callers: Callers, upstream: Upstream, seconds: float) -> list[dict[str, Any]]:
    """In front of as many WebUIs as there are callers at most, whose own latency is taken off."""
    rows = []
    with Stage() as stage:
        service = stage.service("service", upstream.webuis(max(CLIENTS)))
        for count in CLIENTS:
            upstream.order()
            callers.run(_work(upstream.server, "webui", count, 0))  # warm
            direct = callers.run(_work(upstream.server, "webui", count, seconds / 2))
            row = _row(callers, service, count, seconds, less_s=(quantile_ms(direct.good, 0.5) or 0.0) / 1000)
            rows.append({"clients": count, **row})
    return rows


def _with_webuis(count: int, callers: Callers, upstream: Upstream, seconds: float) -> dict[str, Any]:
    with Stage() as stage:
        service = stage.service("service", upstream.webuis(count))
        upstream.order(seconds=JOB_S)
        return {"webuis": count, **_row(callers, service, count, max(seconds, 3 * JOB_S), less_s=JOB_S)}


def _row(callers: Callers, service: Server, clients: int, seconds: float, *, less_s: float) -> dict[str, Any]:
    callers.run(_work(service, "service", clients, 0))  # warm
    accounting.forget_peak(accounting.tree(service.pids[0]))
    before = accounting.cpu_s(service.pids)
    outcome: Outcome = callers.run(_work(service, "service", clients, seconds))
    time.sleep(0.02)
    used_s = accounting.cpu_s(service.pids) - before
    return {
        "requests": len(outcome.calls),
        "failed": len(outcome.calls) - len(outcome.good),
        "cpu_ms": round(1000 * used_s / len(outcome.calls), 3),
        "p50_ms": quantile_ms(outcome.good, 0.5),
        "added_p50_ms": _added_ms(outcome, 0.5, less_s),
        "added_p99_ms": _added_ms(outcome, 0.99, less_s),
        "rps": round(len(outcome.good) / outcome.seconds, 2),
        "peak_rss_mb": round(accounting.peak_mb(accounting.tree(service.pids[0])), 1),
    }


def _added_ms(outcome: Outcome, share: float, less_s: float) -> float | None:
    whole = quantile_ms(outcome.good, share)
    return None if whole is None else round(whole - 1000 * less_s, 2)


def _work(server: Server, dialect: Dialect, clients: int, seconds: float) -> Work:
    asked = generation("txt2img", 1024, 1, dialect)
    return Work(
        port=server.port,
        path=asked.path,
        method=asked.method,
        body=asked.body,
        headers=asked.headers,
        clients=clients,
        seconds=seconds,
    )


if __name__ == "__main__":
    sys.exit(main())
