"""
Everything side by side, in interleaved rounds: ``make bench``, or ``python -m bench``.

Writes ``bench/results/<name>.json`` and prints what :mod:`bench.report` makes of that file. Ends by itself within ten
minutes; on Ctrl-C or SIGTERM at once, leaving nothing running. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import limiter, machine, memory, overload, report
from bench.load import Callers
from bench.rounds import QUICK, Pace, Rounds
from bench.stage import Stage, Upstream
from bench.targets import Cast, cast
from bench.workloads import workloads
from tests.running import ROOT
from tools.children import RunError

RESULTS = ROOT / "bench" / "results"

#: Nothing begins later: with the slowest cell and all that is to be ended, within ten minutes.
LAST_ROUND_S = 480.0
#: Of it for the WebUI that takes its time.
SLOW_S = 100.0
#: A quiet machine needs half of these.
MEMORY_UNTIL_S = 120.0
OVERLOAD_UNTIL_S = 240.0


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--name", help="of the results' file (default: bench, with --quick: quick)")
    parser.add_argument("--quick", action="store_true", help="short rounds and small bursts, to see that it works")
    parser.add_argument("--no-litellm", action="store_true", help="without it even where it is installed")
    parser.add_argument("--older", type=Path, metavar="FOLDER", help="another checkout of this service, as a peer")
    args = parser.parse_args()
    if args.older and not (args.older / "gunicorn.conf.py").exists():
        parser.error(f"--older: {args.older} is not a checkout of this service")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path = RESULTS / f"{args.name or ('quick' if args.quick else 'bench')}.json"
    try:
        results = measured(quick=args.quick, litellm=not args.no_litellm, older=args.older and args.older.resolve())
    except KeyboardInterrupt:
        say("stopped; nothing was written")
        return 130
    except RunError as error:
        say(str(error))
        return 1
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    say(f"written: {path.relative_to(ROOT)}")
    sys.stdout.write(report.text(results))
    return 0


def measured(*, quick: bool, litellm: bool, older: Path | None) -> dict[str, Any]:
    """All that is saved."""
    began = time.monotonic()
    with Stage() as stage, Callers() as callers, Callers() as prober:
        results: dict[str, Any] = {"about": machine.about(), "quick": quick, "absent": {}}
        upstream = stage.upstream()
        results["limiter"] = limiter.rows(batches=5 if quick else 40)
        steps = memory.steps(callers, upstream, jobs=8 if quick else 32)
        results["memory"] = _in_time("memory", steps, until=began + MEMORY_UNTIL_S, absent=results["absent"])
        steps = overload.steps(callers, prober, upstream, quick=quick)
        results["overload"] = _in_time("overload", steps, until=began + OVERLOAD_UNTIL_S, absent=results["absent"])
        upstream.order()  # what overload asked for would hold up each first request
        say("starting everybody")
        with Stage() as everybody:
            found = cast(everybody, upstream, litellm=litellm, older=older)
            rounds = _rounds(callers, upstream, found, quick=quick, until=began + LAST_ROUND_S)
    rounds["absent"] |= results["absent"]
    return results | rounds | {"took_s": round(time.monotonic() - began)}


def _in_time(
    what: str, steps: Mapping[str, Callable[[], list[dict[str, Any]]]], *, until: float, absent: dict[str, str]
) -> list[dict[str, Any]]:
    """The rows of all steps that begin before their time is over."""
    rows: list[dict[str, Any]] = []
    for name, step in steps.items():
        if time.monotonic() > until:
            absent[f"{what}, {name}"] = "this machine was too slow, or too busy, for all within ten minutes"
        else:
            say(f"{what}: {name}")
            rows += step()
    return rows


def _rounds(callers: Callers, upstream: Upstream, found: Cast, *, quick: bool, until: float) -> dict[str, Any]:
    pace = QUICK if quick else Pace()
    rounds = Rounds(callers, upstream, found.targets, pace)
    everything = workloads(pace.long_s)
    rounds.warm_up(everything)
    resting = rounds.resting_mb()
    slow = [workload for workload in everything if workload.upstream_s]
    rows = rounds.run([one for one in everything if not one.upstream_s], until=until - SLOW_S, say=say)
    # Each takes as long as the WebUI, whoever stands before it: once is enough.
    rows += rounds.run(slow, until=until, say=say, rounds=1)
    absent = found.absent | rounds.left_out
    return {"absent": absent, "resting_mb": resting, "used_mb": rounds.resting_mb(), "rows": rows}


if __name__ == "__main__":
    sys.exit(main())
