"""The gate: one interleaved run of the service beside the tutorial's proxy, judged by CPU time with a wide margin."""

from __future__ import annotations

import statistics
import sys

import pytest

from bench.load import Callers
from bench.rounds import Cell, Pace, Rounds
from bench.stage import Stage
from bench.targets import N3, SERVICE, Target
from bench.workloads import Workload

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="CPU time is read from /proc")

#: On a quiet machine the service needs half of the proxy's CPU, everything on: validation, limits, leases, storage with
#: fsync, metrics, log, and every row of the picture inflated, which alone is a fifth of the proxy's. The proxy does
#: nothing of that. Neighbours change both alike.
MARGIN = 0.8
ROUNDS = 5


def test_the_service_needs_less_cpu_than_the_tutorials_proxy() -> None:
    workload = Workload(name="txt2img 1024²", mode="txt2img")
    with Stage() as stage, Callers() as callers:
        upstream = stage.upstream()
        service = Target(name=SERVICE, server=stage.service("service", upstream.webuis(2)))
        peer = Target(name=N3, server=stage.peer("without_pillow", upstream))
        rounds = Rounds(callers, upstream, [service, peer], Pace(slice_s=0.3, enough_s=60))
        rounds.warm_up([workload])
        cells = [Cell(workload=workload, target=target, clients=1) for target in (service, peer)]
        for _ in range(ROUNDS):
            for cell in cells:
                rounds.measure(cell)
    ours, theirs = (cell.row() for cell in cells)
    assert ours["failed"] == theirs["failed"] == 0
    assert ours["answer_bytes"] == pytest.approx(theirs["answer_bytes"], rel=0.01)
    ratio = statistics.median(ours["cpu_ms_rounds"]) / statistics.median(theirs["cpu_ms_rounds"])
    assert ratio < MARGIN, f"{ours['cpu_ms_rounds']} ms beside {theirs['cpu_ms_rounds']} ms"
