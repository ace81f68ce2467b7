"""
Everything side by side, in interleaved rounds: ``make bench``, or ``python -m bench``.

Writes ``bench/results/<name>.json`` and prints what :mod:`bench.report` makes of that file. Ends within ten
minutes, with one ``--older`` within fifteen, with two within twenty; on Ctrl-C or SIGTERM at once, leaving nothing
running. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import idle, last_run, machine, memory, overload, report, starts
from bench.load import Callers
from bench.results_file import Results
from bench.rounds import QUICK, Pace, Rounds
from bench.stage import Stage, Upstream
from bench.targets import SERVICE, Cast, build, cast
from bench.workloads import workloads
from tests.running import ROOT
from tools.children import RunError

RESULTS = ROOT / "bench" / "results"

#: Seconds after which no measurement of the rounds begins, and how many more for each older checkout.
ROUNDS_S = 330.0
OLDER_S = 120.0


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--name", help="of the results' file (default: bench, with --quick: quick)")
    parser.add_argument("--quick", action="store_true", help="short rounds and small bursts, to see that it works")
    parser.add_argument("--no-litellm", action="store_true", help="without it even where it is installed")
    parser.add_argument(
        "--older",
        type=Path,
        metavar="FOLDER",
        action="append",
        default=[],
        help="another checkout of this service, as a peer; may be given again",
    )
    parser.add_argument("--last", type=Path, metavar="FILE", help="the run to compare with (default: the one replaced)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path = RESULTS / f"{args.name or ('quick' if args.quick else 'bench')}.json"
    try:
        older = older_checkouts(args.older)
        last = last_summary(args.last or path, needed=args.last is not None)
    except ValueError as error:
        parser.error(str(error))
    try:
        results = {"last": last} | measured(older, quick=args.quick, litellm=not args.no_litellm)
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


def older_checkouts(folders: Sequence[Path]) -> dict[str, Path]:
    """By name, which says the commit. :raises ValueError: one is no checkout of this service, or is there twice."""
    found: dict[str, Path] = {}
    for folder in folders:
        commit = machine.commit(folder)
        if not commit or not (folder / "gunicorn.conf.py").exists():
            raise ValueError(f"--older: {folder} is not a git checkout of this service")
        if build(commit) in found:
            raise ValueError(f"--older: {folder} is at {commit}, as another one is")
        found[build(commit)] = folder.resolve()
    return found


def last_summary(path: Path, *, needed: bool) -> dict[str, Any] | None:
    """
    What is kept of an earlier run; None if there is none.

    :raises ValueError: there has to be one, or it cannot be read.
    """
    if not needed and not path.exists():
        return None
    try:
        return last_run.summary(Results(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, LookupError) as error:
        raise ValueError(f"{path} does not hold the results of a run: remove it, or name another by --last") from error


def measured(older: Mapping[str, Path], *, quick: bool, litellm: bool) -> dict[str, Any]:
    """Everything that is measured. :param older: checkouts by name."""
    began = time.monotonic()
    checkouts = {SERVICE: ROOT, **older}
    with Stage() as stage, Callers() as callers, Callers() as prober:
        upstream = stage.upstream()
        results: dict[str, Any] = {"about": machine.about(), "quick": quick}
        say("starts")
        results["starts"] = starts.rows(checkouts, upstream, times=1 if quick else 5)
        say("memory")
        results["memory"] = memory.rows(checkouts, callers, upstream, jobs=8 if quick else 32)
        say("idle")
        results["idle"] = idle.rows(checkouts, upstream, window_s=5.0 if quick else idle.WINDOW_S)
        say("overload")
        results["overload"] = _overload(checkouts, callers, prober, upstream, quick=quick)
        upstream.order()  # the pauses that overload ordered would hold up each first request
        say("starting everybody")
        with Stage() as everybody:
            found = cast(everybody, upstream, litellm=litellm, older=older)
            until = time.monotonic() + ROUNDS_S + OLDER_S * len(older)
            rows = _rounds(callers, upstream, found, until=until, quick=quick)
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


def _rounds(callers: Callers, upstream: Upstream, found: Cast, *, until: float, quick: bool) -> list[dict[str, Any]]:
    rounds = Rounds(callers, upstream, found.targets, QUICK if quick else Pace())
    everything = workloads()
    rounds.warm_up(everything)
    return rounds.run(everything, until=until, say=say)


if __name__ == "__main__":
    sys.exit(main())
