"""Another worker of the host: run by test_leases.py and test_probing.py as a process of its own."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from sd_client.client import WebUIClient
from sd_client.granting import grant
from sd_client.leases import SharedSchedule
from sd_client.probing import Pace, Probing
from sd_client.schedule import Job, enter

PACE = Pace(interval_s=0.05, first_pause_s=0.02, longest_pause_s=0.1, refresh_s=0.02)


def say(text: str) -> None:
    print(text, flush=True)


def hold(folder: Path, ticket: str) -> None:
    """Enters a job, takes a place for it if one is free, and lives until it is killed or told to end."""
    shared = SharedSchedule(folder)
    now = time.monotonic()
    job = Job(ticket=ticket, holder=shared.holder, webuis=("webui",), model="sd15", since=now)
    shared.update(lambda before: grant(enter(before, job), slots=1, patience_s=0, now=now))
    say("entered")
    sys.stdin.readline()
    shared.close()


def count(folder: Path, name: str, times: int) -> None:
    shared = SharedSchedule(folder)
    say("ready")
    sys.stdin.readline()
    for number in range(times):
        shared.update(
            lambda before, key=f"{name}-{number:03}": replace(
                before, loaded={**before.loaded, key: "x"}, job_seconds=(before.job_seconds or 0) + 1
            )
        )
    shared.close()


def probe(folder: Path, url: str) -> None:
    probing = Probing({"webui": WebUIClient(url)}, folder, is_busy=lambda webui: False, pace=PACE)
    probing.start()
    probing.wait_for_first_look(20)
    say("looked")
    sys.stdin.readline()
    probing.close()


if __name__ == "__main__":
    command, folder, *rest = sys.argv[1:]
    if command == "hold":
        hold(Path(folder), rest[0])
    elif command == "count":
        count(Path(folder), rest[0], int(rest[1]))
    else:
        probe(Path(folder), rest[0])
