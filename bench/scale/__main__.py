"""
Many WebUIs, many callers, several hosts, and the schedule alone: ``make bench-scale``, or ``python -m bench.scale``.

Takes some twenty minutes. ``--folder 1000000`` and ``--hour`` measure a folder with so many images, and an hour of
mixed traffic, instead. Each writes its part into ``bench/results/scale.json`` and leaves the others as they are;
``python -m bench.report bench/results/scale.json --publish`` puts them into ``docs/performance.md``. Linux only.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import machine
from bench.__main__ import RESULTS, say
from bench.scale import folder, hour, pools, report, scheduler
from tools.children import RunError

PARTS: dict[str, Callable[[], Any]] = {
    "webuis": pools.webuis_rows,
    "waiting": pools.waiting_rows,
    "hosts": pools.hosts_rows,
    "scheduler": scheduler.rows,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part of the four")
    parser.add_argument("--folder", type=int, metavar="IMAGES", help="a folder with so many images, below TMPDIR")
    parser.add_argument("--hour", type=float, nargs="?", const=3600.0, metavar="SECONDS", help="mixed traffic")
    parser.add_argument("--name", default="scale", help="of the results' file (default: %(default)s)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parts = _asked_for(args)
    path = RESULTS / f"{args.name}.json"
    saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"parts": {}}
    try:
        for name, measure in parts.items():
            say(name)
            about, began = machine.about(), time.monotonic()
            found = measure()
            saved["parts"][name] = {"about": about, "took_s": round(time.monotonic() - began), "found": found}
            _write(path, saved)
    except KeyboardInterrupt:
        say("stopped; the parts that were finished are written")
        return 130
    except RunError as error:
        say(str(error))
        return 1
    sys.stdout.write(report.text(saved))
    return 0


def _asked_for(args: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    if args.folder is not None:
        return {"folder": lambda: folder.rows(args.folder, say)}
    if args.hour is not None:
        return {"hour": lambda: hour.measured(args.hour, say)}
    return {args.only: PARTS[args.only]} if args.only else PARTS


def _write(path: Path, saved: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
