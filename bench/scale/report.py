"""Tables and plots of ``bench/results/scale.json``, made from that file and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import plot
from bench.tables import NONE, Table, as_markdown, as_text, number

if TYPE_CHECKING:  # importing it takes longer than a report
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

#: Of each part: its title, and its columns: what they are called, the key of the value, and its decimals.
Columns = Sequence[tuple[str, str, int]]
_ANSWERED: Columns = (
    ("CPU of a job, ms", "cpu_ms", 1),
    ("WebUIs busy, %", "busy_percent", 1),
    ("a WebUI idle between two jobs, ms", "idle_ms_per_job", 0),
)
_HEALTH: Columns = (
    ("health p50 ms", "health_p50_ms", 1),
    ("health p99 ms", "health_p99_ms", 1),
    ("peak RSS MB", "peak_rss_mb", 0),
)
_BEYOND: Columns = (("answer beyond its job, p50 ms", "beyond_p50_ms", 0), ("p99 ms", "beyond_p99_ms", 0))
_TABLES: Sequence[tuple[str, str, str, Columns]] = (
    (
        "webuis",
        "webuis",
        "WebUIs: a caller for each, then a quarter more",
        (
            ("WebUIs", "webuis", 0),
            ("callers", "clients", 0),
            ("job s", "job_s", 1),
            ("idle before, CPU ms/s", "idle_ms_per_s", 1),
            *_ANSWERED,
            *_BEYOND,
            *_HEALTH,
        ),
    ),
    (
        "waiting",
        "waiting",
        "Callers that wait for 16 WebUIs, in a queue with room for all",
        (("waiting", "waiting", 0), ("s until all wait", "entered_s", 1), *_ANSWERED, *_HEALTH),
    ),
    (
        "waiting",
        "refused",
        "Callers of 16 WebUIs and the default queue of 64 places, who come again after 5 s",
        (
            ("callers", "clients", 0),
            ("answers", "answers", 0),
            ("refused p50 ms", "refused_p50_ms", 1),
            ("refused p99 ms", "refused_p99_ms", 1),
            *_ANSWERED,
            *_HEALTH,
        ),
    ),
    (
        "hosts",
        "hosts",
        "Hosts of two workers before 50 WebUIs, one Redis, 70 callers",
        (
            ("hosts", "hosts", 0),
            ("idle before, CPU ms/s", "idle_ms_per_s", 1),
            *_ANSWERED,
            ("of Redis, ms", "redis_cpu_ms", 2),
            ("calls of Redis for a job", "redis_calls_per_job", 0),
            ("kB to and from Redis for a job", "redis_kb_per_job", 0),
            *_BEYOND,
            ("health p99 ms", "health_p99_ms", 1),
        ),
    ),
    (
        "scheduler",
        "",
        "The schedule alone: one job enters and leaves",
        (
            ("WebUIs, all busy", "webuis", 0),
            ("waiting", "waiting", 0),
            ("the document, kB", "document_kb", 0),
            ("CPU where nobody else writes, ms", "alone_ms", 2),
            ("where others do, ms", "among_others_ms", 2),
            ("jobs/s of four processes over Redis", "redis_jobs_per_s", 0),
        ),
    ),
    (
        "folder",
        "",
        "A folder of images, one worker",
        (
            ("images", "images", 0),
            ("start s", "start_s", 1),
            ("du s", "du_s", 1),
            ("sweep of leftovers, CPU s", "sweep_cpu_s", 1),
            ("listing for age and size, CPU s", "expire_cpu_s", 1),
            ("memory for both, MB", "grown_mb", 1),
            ("save p50 ms", "save_p50_ms", 1),
            ("save p99 ms", "save_p99_ms", 1),
            ("GET p50 ms", "get_p50_ms", 1),
            ("GET p99 ms", "get_p99_ms", 1),
            ("health p99 ms", "health_p99_ms", 1),
            ("GET p99 ms in a sweep", "get_p99_ms_in_sweep", 1),
            ("health p99 ms in a sweep", "health_p99_ms_in_sweep", 1),
        ),
    ),
)
_HOUR: Columns = (
    ("minutes", "minutes", 0),
    ("requests", "requests", 0),
    ("RSS MB", "rss_mb", 0),
    ("PSS MB", "pss_mb", 0),
    ("descriptors", "files", 0),
    ("threads", "threads", 0),
    ("Redis MB", "redis_mb", 1),
    ("RUNTIME_DIR MB", "runtime_dir_mb", 1),
    ("health p50 ms", "health_p50_ms", 1),
    ("health p99 ms", "health_p99_ms", 1),
    ("image p50 ms", "image_p50_ms", 1),
    ("image p99 ms", "image_p99_ms", 1),
    ("refused p50 ms", "bad_p50_ms", 1),
)


def text(saved: Mapping[str, Any]) -> str:
    return "\n".join([_about(saved), *map(as_text, tables(saved))])


def markdown(saved: Mapping[str, Any]) -> str:
    return "\n".join([_about(saved), *map(as_markdown, tables(saved))])


def tables(saved: Mapping[str, Any]) -> list[Table]:
    """Of the parts that were measured."""
    found = [
        _table(title, columns, [row for row in _found(saved, part) if row.get("what", "") == what or not what])
        for part, what, title, columns in _TABLES
        if part in saved["parts"]
    ]
    return [*found, _hour(saved["parts"]["hour"]["found"])] if "hour" in saved["parts"] else found


def _about(saved: Mapping[str, Any]) -> str:
    lines = []
    for name, part in saved["parts"].items():
        about, seconds = part["about"], part["took_s"]
        cores, load = about["machine"]["cores"], about["machine"]["load_before"]
        lines.append(f"* {name}: {about['date']}, commit {about['commit']}, {cores} cores, load {load}, {seconds} s")
    return "\n".join(lines) + "\n"


def _found(saved: Mapping[str, Any], part: str) -> list[Row]:
    """A part's rows, with what a table shows and the file has in another form; none where it was not measured."""
    rows = saved["parts"].get(part, {"found": []})["found"]
    return [
        {
            **row,
            "busy_percent": 100 * row.get("busy_share", 0.0),
            "answers": ", ".join(f"{count} × {status}" for status, count in row.get("statuses", {}).items()),
        }
        for row in rows
    ]


def _table(title: str, columns: Columns, rows: Sequence[Row]) -> Table:
    header = [name for name, _, _ in columns]
    return Table(
        title=title, header=header, rows=[[_shown(row.get(key), digits) for _, key, digits in columns] for row in rows]
    )


def _shown(value: float | str | None, digits: int) -> str:
    return (value or NONE) if isinstance(value, str | None) else number(value, digits)


def _hour(found: Mapping[str, Any]) -> Table:
    rows = []
    for latency in found["latency"]:
        sample = next((one for one in found["samples"] if one["at_s"] >= latency["at_s"]), found["samples"][-1])
        rows.append({**sample, **latency, "minutes": latency["at_s"] / 60})
    rows.append({**found["samples"][-1], "minutes": found["samples"][-1]["at_s"] / 60})
    failures = sum(found["failures"].values())
    title = (
        f"{found['seconds'] / 60:.0f} minutes of mixed traffic: {found['requests']} requests, {failures} failures of "
        f"WebUIs and Redis, {found['lost']} connections without an answer, {len(found['findings'])} wrong answers"
    )
    return _table(title, _HOUR, rows)


def draw(saved: Mapping[str, Any], path: Path) -> None:
    """Panels of what was not measured stay empty."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    webuis, waiting, alone = (_found(saved, part) for part in ("webuis", "waiting", "scheduler"))
    waiting = [row for row in waiting if row["what"] == "waiting"]
    spare = [row for row in webuis if row["clients"] > row["webuis"]]
    with mpl.rc_context(plot.STEADY):
        figure = Figure(figsize=(9, 6), layout="constrained")
        first, second, third, fourth, fifth, sixth = figure.subplots(2, 3).flat
        _lines(first, "CPU of a job, ms", "WebUIs", {"": _points(spare, "webuis", "cpu_ms")})
        _lines(second, "WebUIs busy, %", "WebUIs", {"": _points(spare, "webuis", "busy_percent")})
        second.set_ylim(0, 102)
        _lines(third, "CPU of a job, ms", "waiting callers, 16 WebUIs", {"": _points(waiting, "waiting", "cpu_ms")})
        _lines(fourth, "jobs/s over Redis, the schedule alone", "WebUIs, or waiting jobs", _ceilings(alone))
        _lines(fifth, "CPU of a round of retention, s", "images", {"": _rounds(_found(saved, "folder"))})
        _over_time(sixth, saved["parts"].get("hour", {"found": {"samples": []}})["found"]["samples"])
        plot.save(figure, path)


Points = list[tuple[float, float]]


def _points(rows: Sequence[Row], x: str, y: str) -> Points:
    return [(row[x], row[y]) for row in rows]


def _ceilings(rows: Sequence[Row]) -> dict[str, Points]:
    of = {what: [row for row in rows if row["what"] == what] for what in ("webuis", "waiting")}
    return {
        "64 waiting, more WebUIs": _points(of["webuis"], "webuis", "redis_jobs_per_s"),
        "16 WebUIs, more waiting": _points(of["waiting"], "waiting", "redis_jobs_per_s"),
    }


def _rounds(rows: Sequence[Row]) -> Points:
    return [(row["images"], row["sweep_cpu_s"] + row["expire_cpu_s"]) for row in rows]


def _lines(axes: Axes, title: str, below: str, lines: Mapping[str, Points]) -> None:
    for (name, points), colour in zip(lines.items(), (plot.OURS, plot.THEIRS), strict=False):
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", color=colour, label=name)
    axes.set_title(title)
    axes.set_xlabel(below)
    if any(lines.values()):
        axes.set_xscale("log")
    if len(lines) == 1:
        axes.set_ylim(bottom=0)
        return
    if any(lines.values()):
        axes.set_yscale("log")
    axes.legend(frameon=False)


def _over_time(axes: Axes, samples: Sequence[Row]) -> None:
    for key, name, colour in (("pss_mb", "PSS, MB", plot.OURS), ("files", "descriptors", plot.THEIRS)):
        axes.plot([row["at_s"] / 60 for row in samples], [row[key] for row in samples], color=colour, label=name)
    axes.set_ylim(bottom=0)
    axes.set_title("mixed traffic")
    axes.set_xlabel("minutes")
    axes.legend(frameon=False)
