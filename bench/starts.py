"""How long a service takes from its start until it is healthy, and the memory of a worker that has had no request."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import accounting
from bench.stage import Stage, Upstream


def rows(checkouts: Mapping[str, Path], upstream: Upstream, *, times: int) -> list[dict[str, Any]]:
    """The checkouts by turns; medians."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    for _ in range(times):
        for name, root in checkouts.items():
            measured[name].append(_one_start(root, upstream))
    return [
        {
            "target": name,
            "start_s": round(statistics.median(seconds for seconds, _ in found), 2),
            "idle_mb": round(statistics.median(memory_mb for _, memory_mb in found), 1),
        }
        for name, found in measured.items()
    ]


def _one_start(root: Path, upstream: Upstream) -> tuple[float, float]:
    with Stage() as stage:
        began = time.monotonic()
        service = stage.service("service", upstream.webuis(4), root=root)
        took_s = time.monotonic() - began
        workers = accounting.tree(service.pids[0])[1:]  # without gunicorn's master
        return took_s, accounting.rss_mb(workers) / len(workers)
