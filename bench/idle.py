"""
The CPU of a service that nobody uses, before WebUIs that nobody uses: ``make bench``, or this alone, with
``python -m bench.idle --older FOLDER``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import accounting
from bench.stage import Server, Stage, Upstream
from bench.targets import SERVICE
from tests.running import ROOT

#: How many WebUIs are before the services. The upstream is all of them.
WEBUIS = (16, 200)
#: The WebUIs are looked at for the first time, and what was imported for that settles.
SETTLE_S = 10.0
#: Everything that is done once a minute happens once.
WINDOW_S = 60.0


def rows(
    checkouts: Mapping[str, Path], upstream: Upstream, *, window_s: float, redis: bool = False
) -> list[dict[str, Any]]:
    """
    All of them at the same time, so that they share the machine's noise; each has two workers.

    :param redis: whether each has a Redis, whose CPU does not count.
    """
    with ExitStack() as stages:
        services: dict[tuple[str, int], Server] = {}
        for count in WEBUIS:
            for name, root in checkouts.items():
                stage = stages.enter_context(Stage())
                settings = {"REDIS_URL": stage.redis()[1]} if redis else {}
                services[name, count] = stage.service(
                    "service", upstream.webuis(count), workers=2, root=root, **settings
                )
        time.sleep(SETTLE_S)
        before, began = {key: accounting.cpu_s(service.pids) for key, service in services.items()}, time.monotonic()
        time.sleep(window_s)
        took_s = time.monotonic() - began
        return [
            {
                "target": name,
                "webuis": count,
                "cpu_ms_per_s": round(1000 * (accounting.cpu_s(service.pids) - before[name, count]) / took_s, 2),
            }
            for (name, count), service in services.items()
        ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--older", type=Path, metavar="FOLDER", help="another checkout of this service")
    parser.add_argument("--seconds", type=float, default=WINDOW_S, help="of the measurement (default: %(default)g)")
    parser.add_argument("--redis", action="store_true", help="each service with a Redis")
    args = parser.parse_args()
    checkouts = {SERVICE: ROOT} | ({"older build": args.older.resolve()} if args.older else {})
    with Stage() as stage:
        found = rows(checkouts, stage.upstream(), window_s=args.seconds, redis=args.redis)
    for row in found:
        sys.stdout.write(f"{row['target']}, {row['webuis']} WebUIs: {row['cpu_ms_per_s']} ms of CPU a second\n")


if __name__ == "__main__":
    main()
