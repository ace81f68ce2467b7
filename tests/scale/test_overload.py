"""The measurement of overload measures what it says, at a size that a test can bear."""

from __future__ import annotations

import sys

import pytest

from bench import overload
from bench.load import Callers
from bench.overload import Situation
from bench.stage import Stage


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_callers_beyond_places_and_queue_are_refused_and_the_rest_is_served() -> None:
    situation = Situation(
        name="6 callers, 2 places", webuis=2, queue=1, clients=6, job_s=0.5, spread_s=0.5, window_s=1.0
    )
    with Stage() as stage, Callers() as callers, Callers() as prober:
        row = overload.row(situation, callers, prober, stage.upstream())
    assert row["statuses"].keys() == {"200", "503"}
    assert row["served_p50_ms"] >= 500
    assert row["refused_p50_ms"] < row["served_p50_ms"]
    assert row["health_failed"] == 0
    assert row["health_p99_ms"] >= row["health_p50_ms"] > 0
    assert 0 < row["busy_share"] <= 1
    assert row["peak_rss_mb"] > 20
