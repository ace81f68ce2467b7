"""Plots of results, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.results_file import Results
from bench.tables import number
from bench.targets import A1111_DOOR, OPENAI, REDIS, SERVICE, UPSTREAM

if TYPE_CHECKING:  # importing it takes longer than a report
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, THEIRS = "#2a6f97", "#a9b4be"

#: Without them a picture would differ from run to run.
STEADY: Any = {"svg.hashsalt": "bench", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def comparison(results: Results, path: Path) -> None:
    """CPU per picture for each server in front of the WebUI."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = ("txt2img 1024²", "img2img 1024²")
    with mpl.rc_context(STEADY):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, workload in zip(figure.subplots(1, len(panels)), panels, strict=True):
            rows = [row for row in results.rows(workload, 1) if row["target"] != UPSTREAM]
            _bars(axes, workload, rows)
        figure.suptitle("CPU per picture in ms, less is better")
        save(figure, path)


def _bars(axes: Axes, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """``rows``: of one workload; without any the panel stays empty."""
    rows = sorted(rows, key=lambda row: row["cpu_ms"], reverse=True)
    names, values = [row["target"] for row in rows], [row["cpu_ms"] for row in rows]
    colours = [OURS if name in (SERVICE, OPENAI, A1111_DOOR, REDIS) else THEIRS for name in names]
    bars = axes.barh(names, values, color=colours)
    axes.bar_label(bars, [number(value) for value in values], padding=3)
    axes.margins(x=0.15)
    axes.set_title(title)
    axes.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    axes.spines["bottom"].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
