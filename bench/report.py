"""
Tables, goals and plot, made from a file of results and nothing else.

``python -m bench.report [FILE]`` prints; ``--publish`` puts the tables into ``docs/performance.md`` and the plot into
``docs/images/bench.svg``. With ``bench/results/scale.json`` the same for its tables and ``docs/images/scale.svg``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import goals, last_run, plot
from bench.results_file import Results
from bench.scale import report as scale_report
from bench.tables import NONE, Table, as_markdown, as_text, number
from bench.targets import NGINX, SERVICE, STATIC

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "bench.json"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "images" / "bench.svg"
BEGIN, END = "<!-- bench: made by `python -m bench.report --publish` -->", "<!-- /bench -->"
SCALE_PLOT = ROOT / "docs" / "images" / "scale.svg"
SCALE_BEGIN = "<!-- scale: made by `python -m bench.report bench/results/scale.json --publish` -->"
SCALE_END = "<!-- /scale -->"


def tables(results: Results) -> list[Table]:
    found = [_comparison(results), goals.table(results), last_run.table(results)]
    rest = (_starts(results), _idle(results), _memory(results), _overload(results))
    return [table for table in (*found, *rest) if table]


def about(results: Results) -> str:
    found = results.saved["about"]
    machine, versions = found["machine"], found["versions"]
    lines = [
        f"{found['date']}, commit {found['commit']}; {machine['cores']} cores of {machine['cpu']}, "
        f"{number(machine['memory_gb'])} GB, {machine['system']}; load before: {machine['load_before']}.",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        *(f"Not measured: {name} ({why})." for name, why in results.saved["absent"].items()),
    ]
    if results.saved["quick"]:
        lines.append("A quick run, to see that it works: its figures mean little.")
    return "\n".join(lines) + "\n"


def text(saved: Mapping[str, Any]) -> str:
    results = Results(saved)
    return "\n".join([about(results), *map(as_text, tables(results))])


def markdown(saved: Mapping[str, Any]) -> str:
    results = Results(saved)
    return "\n".join([about(results), *map(as_markdown, tables(results))])


def _comparison(results: Results) -> Table:
    """Ratios are to nginx, which passes the request on or serves the file, if it was measured with the workload."""
    header = ["workload, clients, who", "CPU ms", "CPU × nginx", "CPU × this service"]
    header += ["p50 ms", "p99 ms", "requests/s", "peak RSS MB", "failed"]
    rows: list[list[str]] = []
    for workload, clients in results.workloads():
        rows += [[], [f"{workload}, {clients} client{'s' if clients > 1 else ''}", *[""] * 8]]
        reference = STATIC if results.row(workload, STATIC, clients) else NGINX
        for row in results.rows(workload, clients):
            name = row["target"]
            rows.append(
                [
                    f"  {name}",
                    number(row["cpu_ms"], 2),
                    number(results.ratio(workload, name, reference, clients), 2),
                    number(results.ratio(workload, name, SERVICE, clients), 2),
                    number(row["p50_ms"]),
                    number(row["p99_ms"]),
                    number(row["rps"]),
                    number(row["peak_rss_mb"], 0),
                    str(row["failed"]) if row["failed"] else NONE,
                ]
            )
    return Table(title="Side by side: CPU per request, latency, throughput, memory", header=header, rows=rows[1:])


def _starts(results: Results) -> Table:
    header = ("two workers", "from start to healthy, s", "RSS of an idle worker, MB", "PSS of all, MB")
    rows = [
        [row["target"], number(row["start_s"], 2), number(row["idle_mb"]), number(row.get("pss_mb"))]
        for row in results.saved["starts"]
    ]
    return Table(title="Start", header=header, rows=rows)


def _idle(results: Results) -> Table | None:
    header = ("two workers, no request", "WebUIs", "CPU ms a second")
    rows = [
        [row["target"], str(row["webuis"]), number(row["cpu_ms_per_s"], 2)] for row in results.saved.get("idle", [])
    ]
    return Table(title="Idle", header=header, rows=rows) if rows else None


def _memory(results: Results) -> Table:
    header = ("one worker", "jobs at once", "idle MB", "waiting, MB a job", "answers at once, MB a job", "after MB")
    keys = ("idle_mb", "waiting_mb_per_job", "peak_mb_per_job", "after_mb")
    rows = [
        [_named(row, "what"), str(row["jobs"]), *(number(row[key], 2) for key in keys)]
        for row in results.saved["memory"]
    ]
    return Table(title="Memory", header=header, rows=rows)


def _overload(results: Results) -> Table:
    header = ["two workers", "queue", "job s", "answers", "served p50 ms", "refused p50 ms", "refused p99 ms"]
    header += ["health p50 ms", "health p99 ms", "WebUIs busy", "peak RSS MB"]
    keys = ("served_p50_ms", "refused_p50_ms", "refused_p99_ms", "health_p50_ms", "health_p99_ms")
    rows = []
    for row in results.saved["overload"]:
        answers = ", ".join(f"{count} × {status}" for status, count in row["statuses"].items())
        figures = [number(row[key]) for key in keys] + [
            f"{100 * row['busy_share']:.0f} %",
            number(row["peak_rss_mb"], 0),
        ]
        rows.append([_named(row, "situation"), str(row["queue"]), number(row["job_s"], 0), answers, *figures])
    return Table(title="Overload", header=header, rows=rows)


def _named(row: Mapping[str, Any], key: str) -> str:
    return row[key] if row["target"] == SERVICE else f"{row[key]}, {row['target']}"


def publish(saved: Mapping[str, Any], *, page: Path, picture: Path) -> None:
    """:raises ValueError: the page has no place for the tables."""
    _put(page, BEGIN, markdown(saved), END)
    plot.comparison(Results(saved), picture)


def publish_scale(saved: Mapping[str, Any], *, page: Path, picture: Path) -> None:
    """:raises ValueError: the page has no place for the tables."""
    _put(page, SCALE_BEGIN, scale_report.markdown(saved), SCALE_END)
    scale_report.draw(saved, picture)


def _put(page: Path, begin: str, tables: str, end: str) -> None:
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{page.name} has no place for the tables: {begin} … {end}")
    page.write_text(f"{before}{begin}\n\n{tables}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--publish", action="store_true", help="write documentation and plot")
    args = parser.parse_args()
    saved = json.loads(args.file.read_text(encoding="utf-8"))
    is_scale = "parts" in saved
    sys.stdout.write(scale_report.text(saved) if is_scale else text(saved))
    if args.publish and is_scale:
        publish_scale(saved, page=PAGE, picture=SCALE_PLOT)
    elif args.publish:
        publish(saved, page=PAGE, picture=PLOT)


if __name__ == "__main__":
    main()
