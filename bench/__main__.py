"""
Everything side by side, in interleaved rounds: ``make bench``, or ``python -m bench``.

Writes ``bench/results/<name>.json`` and prints what :mod:`bench.report` makes of that file. Ends within ten
minutes, with ``--older`` within fifteen; on Ctrl-C or SIGTERM at once, leaving nothing running. Linux only: it reads
/proc.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import machine, memory, overload, report, starts
from bench.load import Callers
from bench.rounds import QUICK, Pace, Rounds
from bench.stage import Stage, Upstream
from bench.targets import OLDER, SERVICE, Cast, cast
from bench.workloads import workloads
from tests.running import ROOT
from tools.children import RunError

RESULTS = ROOT / "bench" / "results"

#: Seconds after which no measurement of the rounds begins.
ROUNDS_S = 330.0


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
    checkouts = {SERVICE: ROOT} | ({OLDER: args.older.resolve()} if args.older else {})
    try:
        results = measured(checkouts, quick=args.quick, litellm=not args.no_litellm)
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


def measured(checkouts: Mapping[str, Path], *, quick: bool, litellm: bool) -> dict[str, Any]:
    """Everything that is saved."""
    began = time.monotonic()
    with Stage() as stage, Callers() as callers, Callers() as prober:
        upstream = stage.upstream()
        results: dict[str, Any] = {"about": machine.about(), "quick": quick}
        say("starts")
        results["starts"] = starts.rows(checkouts, upstream, times=1 if quick else 5)
        say("memory")
        results["memory"] = memory.rows(checkouts, callers, upstream, jobs=8 if quick else 32)
        say("overload")
        results["overload"] = _overload(checkouts, callers, prober, upstream, quick=quick)
        upstream.order()  # the pauses that overload ordered would hold up each first request
        say("starting everybody")
        with Stage() as everybody:
            found = cast(everybody, upstream, litellm=litellm, older=checkouts.get(OLDER))
            rows = _rounds(callers, upstream, found, quick=quick)
    return results | {"absent": found.absent, "rows": rows, "took_s": round(time.monotonic() - began)}


def _overload(
    checkouts: Mapping[str, Path], callers: Callers, prober: Callers, upstream: Upstream, *, quick: bool
) -> list[dict[str, Any]]:
    rows = [
        {"target": name} | overload.row(situation, callers, prober, upstream, root=root)
        for situation in overload.busy_situations(window_s=2.0 if quick else 8.0)
        for name, root in checkouts.items()
    ]
    own = overload.overload_situations(job_s=2.0 if quick else 5.0, window_s=2.0 if quick else 6.0)
    return rows + [{"target": SERVICE} | overload.row(situation, callers, prober, upstream) for situation in own]


def _rounds(callers: Callers, upstream: Upstream, found: Cast, *, quick: bool) -> list[dict[str, Any]]:
    rounds = Rounds(callers, upstream, found.targets, QUICK if quick else Pace())
    everything = workloads()
    rounds.warm_up(everything)
    return rounds.run(everything, until=time.monotonic() + ROUNDS_S, say=say)


if __name__ == "__main__":
    sys.exit(main())
