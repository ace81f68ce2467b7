"""How long a service takes from its start until it is healthy, and its memory before the first request."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import accounting
from bench.stage import Stage, Upstream


@dataclass(frozen=True, kw_only=True)
class Start:
    """
    :param idle_mb: resident, of one worker.
    :param pss_mb: of gunicorn's master and both workers together, each shared page once.
    """

    seconds: float
    idle_mb: float
    pss_mb: float


def rows(checkouts: Mapping[str, Path], upstream: Upstream, *, times: int) -> list[dict[str, Any]]:
    """The checkouts by turns; medians."""
    measured: dict[str, list[Start]] = {name: [] for name in checkouts}
    for _ in range(times):
        for name, root in checkouts.items():
            measured[name].append(_one_start(root, upstream))
    return [
        {
            "target": name,
            "start_s": round(statistics.median(one.seconds for one in found), 2),
            "idle_mb": round(statistics.median(one.idle_mb for one in found), 1),
            "pss_mb": round(statistics.median(one.pss_mb for one in found), 1),
        }
        for name, found in measured.items()
    ]


def _one_start(root: Path, upstream: Upstream) -> Start:
    with Stage() as stage:
        began = time.monotonic()
        service = stage.service("service", upstream.webuis(4), root=root)
        took_s = time.monotonic() - began
        everybody = accounting.tree(service.pids[0])
        workers = everybody[1:]  # without gunicorn's master
        return Start(
            seconds=took_s,
            idle_mb=accounting.rss_mb(workers) / len(workers),
            pss_mb=accounting.pss_mb(everybody),
        )
