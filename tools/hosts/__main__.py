"""
What callers see when a host goes: ``python -m tools.hosts``. Needs root, iproute2, nginx and some minutes.

A site of six hosts (nginx, two services, Redis, store, WebUIs), each in its network namespace, with callers
who paint and fetch without a pause. Each host in turn dies (its programs are killed, and started again later) and is
cut off (no packet comes through). Prints one row of a table for each, which ``docs/deployment.md`` publishes.

It exits with 1 if a caller got an answer that is not expected, an image that an answer named is lost, or a job was
painted twice.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.pool.callers import health, when
from tests.scale.namespaces import network, why_not
from tools.hosts.site import NAMES, WEBUIS, Site
from tools.hosts.traffic import Outcome, Traffic, counted, longest_s

#: Seconds for which a host is gone: long enough for a holder in Redis to expire (10 s).
GONE_S = 15.0
#: So many good answers in a row are no coincidence.
GOOD = 12
EVENTS = ("dies", "is cut off")

#: Possible when an API goes: its jobs are lost, or finish when nobody is left to answer. And for some seconds after
#: its return, until it has looked at its WebUIs again.
_BY_AN_API = {
    "painted, not kept",
    "502 webui_error",
    "502 service_unavailable",
    "503 webui_unavailable",
    "504 webui_timeout",
    "504 service_timeout",
}
_BY_THE_NETWORK = {"ConnectionError", "ConnectTimeout", "ReadTimeout"}

#: What callers who paint, and callers who fetch, may see besides "painted" and "fetched" while a host is gone.
EXPECTED: dict[str, tuple[set[str], set[str]]] = {
    "balancer": (_BY_THE_NETWORK, _BY_THE_NETWORK),
    "one": (_BY_AN_API, {"502 service_unavailable", "504 service_timeout"}),
    "two": (_BY_AN_API, {"502 service_unavailable", "504 service_timeout"}),
    "redis": (set(), set()),
    "store": ({"painted, not kept"}, {"503 storage_unavailable"}),
    "webuis": ({"502 webui_error", "503 webui_unavailable", "503 queue_timeout", "504 webui_timeout"}, set()),
}

TITLES = ("host", "what happens", "callers who paint", "callers who fetch", "longest waits", "well again after")


@dataclass(frozen=True, kw_only=True)
class Row:
    host: str
    event: str
    painted: list[Outcome]
    fetched: list[Outcome]
    recovered_s: float

    def cells(self) -> tuple[str, ...]:
        waits = f"{longest_s(self.painted):.1f} s, {longest_s(self.fetched):.1f} s"
        return (self.host, self.event, _sums(self.painted), _sums(self.fetched), waits, f"{self.recovered_s:.1f} s")

    def problems(self) -> list[str]:
        to_painters, to_fetchers = EXPECTED[self.host]
        unexpected = set(counted(self.painted)) - {"painted"} - to_painters
        unexpected |= set(counted(self.fetched)) - {"fetched"} - to_fetchers
        return [f"{self.host} {self.event}: {what} was not expected" for what in sorted(unexpected)]


def _sums(outcomes: list[Outcome]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counted(outcomes).items())


def played(site: Site, hosts: list[str]) -> Iterator[tuple[Row, list[str]]]:
    """Each row as soon as it is known, with everything that is wrong in it."""
    for host, event in itertools.product(hosts, EVENTS):
        traffic = Traffic(site.balancer)
        try:
            row = _row(site, traffic, host, event)
        finally:
            traffic.end()
        lost = [f"image {one} is lost" for one in _lost(site, traffic)]
        yield row, [*row.problems(), *lost, *_painted_twice(site, host)]


def _row(site: Site, traffic: Traffic, host: str, event: str) -> Row:
    _wait_for_good_answers(traffic, since=time.monotonic())
    began = time.monotonic()
    if event == "dies":
        site.machines[host].kill()
    else:
        site.network.cut(host)
    try:
        time.sleep(GONE_S)
    finally:
        back = time.monotonic()
        if event == "dies":
            site.machines[host].start()
        else:
            site.network.heal(host)
    _wait_for_good_answers(traffic, since=back)
    _wait_until_all_see_all(site)
    recovered_s = _first_good(traffic, back) - back
    traffic.end()
    return Row(
        host=host,
        event=event,
        painted=[one for one in traffic.painted if one.ended >= began and one.began <= back],
        fetched=[one for one in traffic.fetched if one.ended >= began and one.began <= back],
        recovered_s=recovered_s,
    )


def _first_good(traffic: Traffic, since: float) -> float:
    """When the first answer came after which all were good."""
    later = [one for one in (*traffic.painted, *traffic.fetched) if one.ended > since]
    answers = sorted(later, key=lambda one: one.ended, reverse=True)
    good = list(itertools.takewhile(lambda one: one.what in ("painted", "fetched"), answers))
    return (good or answers[:1])[-1].ended


def _wait_for_good_answers(traffic: Traffic, *, since: float) -> None:
    def good(outcomes: list[Outcome]) -> bool:
        last = [one.what for one in list(outcomes) if one.began > since][-GOOD:]
        return len(last) == GOOD and set(last) <= {"painted", "fetched"}

    when(lambda: good(traffic.painted) and good(traffic.fetched), "callers are served as ever")


def _wait_until_all_see_all(site: Site) -> None:
    def seen() -> bool:
        states = [health(service) for service in site.apis.values() for _ in range(4)]
        return all(
            (state["status"], state["redis"], state["storage"], state["webuis"]["available"])
            == ("healthy", "up", "ok", WEBUIS)
            for state in states
        )

    when(seen, "both APIs see everything")


def _lost(site: Site, traffic: Traffic) -> list[str]:
    return [one for one in traffic.images if not requests.head(f"{site.balancer}/image/{one}", timeout=10).ok]


def _painted_twice(site: Site, host: str) -> list[str]:
    if host == "webuis":
        return []  # what they remember of their jobs went with them
    jobs = [
        one["body"]
        for webui in site.webuis
        for one in requests.get(f"{webui}/simulator/requests", timeout=10).json()
        if one["method"] == "POST" and one["route"].endswith("txt2img")
    ]
    return [] if len(jobs) == len(set(jobs)) else [f"{len(jobs) - len(set(jobs))} jobs were painted twice"]


def one_place(site: Site) -> list[str]:
    """Whether an image and a request that one API made are known to the other, and to the balancer."""
    body = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}
    problems = []
    for maker, other in (("one", "two"), ("two", "one")):
        made = site.apis[maker].post("/txt2img", body, headers={"X-Request-ID": f"by-{maker}"}).json()
        fetched = site.apis[other].get(f"/image/{made['image_id']}")
        if (fetched.status_code, fetched.headers["Content-Type"]) != (200, "image/png"):
            problems.append(f"an image made through {maker} is not fetched through {other}")
        asked = site.apis[other].get(f"/requests/by-{maker}").json()
        if (asked.get("status"), asked.get("image_ids")) != ("done", [made["image_id"]]):
            problems.append(f"a request made through {maker} is not followed through {other}: {asked}")
        if requests.get(f"{site.balancer}/image/{made['image_id']}", timeout=10).content != fetched.content:
            problems.append(f"an image made through {maker} is another one through the balancer")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", action="append", choices=NAMES, help="one that goes; repeatable (default: all)")
    hosts: list[str] = parser.parse_args().host or list(NAMES)
    if reason := why_not():
        sys.exit(reason)
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))
    with ExitStack() as stack:
        site = Site(stack, stack.enter_context(network()), folder)
        problems = one_place(site)
        _print(TITLES)
        _print(["---"] * len(TITLES))
        for row, found in played(site, hosts):
            _print(row.cells())
            problems += found
    if problems:
        sys.exit("\n".join([*problems, f"kept: {folder}"]))
    shutil.rmtree(folder)


def _print(cells: tuple[str, ...] | list[str]) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
