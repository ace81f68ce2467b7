"""A site of six hosts under traffic: each dies, and is cut off, in turn; what callers saw is printed as a table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import requests

from tests.deploy.nginx_server import needs_nginx
from tests.hosts.site import NAMES, WEBUIS, Site
from tests.hosts.traffic import Told, Traffic, counted, longest_s
from tests.pool.callers import health, when
from tests.scale.namespaces import network, why_not

pytestmark = needs_nginx

#: How long a host is away: long enough for a holder in Redis to expire (10 s).
AWAY_S = 15.0
#: An answer in a row of so many good ones is no luck.
GOOD = 12

#: What callers may be told while an API goes: its jobs are lost, or end without anybody to tell. And once it is back,
#: as long as it has not looked at its WebUIs again.
_BY_AN_API = {
    "painted, not kept",
    "502 webui_error",
    "502 service_unavailable",
    "503 webui_unavailable",
    "504 webui_timeout",
    "504 service_timeout",
}
_BY_THE_NETWORK = {"ConnectionError", "ConnectTimeout", "ReadTimeout"}

#: What else than "painted" and "fetched" callers may be told while a host is away.
TOLD: dict[str, tuple[set[str], set[str]]] = {
    "balancer": (_BY_THE_NETWORK, _BY_THE_NETWORK),
    "one": (_BY_AN_API, {"502 service_unavailable", "504 service_timeout"}),
    "two": (_BY_AN_API, {"502 service_unavailable", "504 service_timeout"}),
    "redis": (set(), set()),
    "store": ({"painted, not kept"}, {"503 storage_unavailable"}),
    "webuis": ({"502 webui_error", "503 webui_unavailable", "503 queue_timeout", "504 webui_timeout"}, set()),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    host: str
    event: str
    painted: list[Told]
    fetched: list[Told]
    recovered_s: float

    def __str__(self) -> str:
        def told(them: list[Told]) -> str:
            return ", ".join(f"{count} {what}" for what, count in counted(them).items())

        waits = f"{longest_s(self.painted):.1f} s, {longest_s(self.fetched):.1f} s"
        cells = (self.host, self.event, told(self.painted), told(self.fetched), waits, f"{self.recovered_s:.1f} s")
        return f"| {' | '.join(cells)} |"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield Site(stack, stack.enter_context(network()), tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest) -> Iterator[list[Row]]:
    rows: list[Row] = []
    yield rows
    titles = ("host", "what happens", "callers who paint", "callers who fetch", "longest waits", "well again after")
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}", *map(str, rows)]
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print("", *lines, sep="\n")


@pytest.fixture
def traffic(site: Site) -> Iterator[Traffic]:
    made = Traffic(site.balancer)
    try:
        yield made
    finally:
        made.end()


def test_an_image_made_through_one_api_is_fetched_through_the_other(site: Site) -> None:
    body = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}
    for maker, other in (("one", "two"), ("two", "one")):
        made = site.apis[maker].post("/txt2img", body, headers={"X-Request-ID": f"by-{maker}"}).json()
        fetched = site.apis[other].get(f"/image/{made['image_id']}")
        assert (fetched.status_code, fetched.headers["Content-Type"]) == (200, "image/png")
        asked = site.apis[other].get(f"/requests/by-{maker}").json()
        assert (asked["status"], asked["image_ids"]) == ("done", [made["image_id"]])
    through_the_balancer = requests.get(f"{site.balancer}/image/{made['image_id']}", timeout=10)
    assert through_the_balancer.content == fetched.content


@pytest.mark.parametrize("event", ["dies", "is cut off"])
@pytest.mark.parametrize("host", NAMES)
def test_a_host_goes_and_comes_back(site: Site, traffic: Traffic, rows: list[Row], host: str, event: str) -> None:
    wait_for_good_answers(traffic, since=time.monotonic())
    began = time.monotonic()
    if event == "dies":
        site.machines[host].kill()
    else:
        site.network.cut(host)
    try:
        time.sleep(AWAY_S)
    finally:
        back = time.monotonic()
        if event == "dies":
            site.machines[host].start()
        else:
            site.network.heal(host)
    wait_for_good_answers(traffic, since=back)
    wait_until_all_see_all(site)
    recovered_s = first_good(traffic, back) - back
    traffic.end()
    row = Row(
        host=host,
        event=event,
        painted=[one for one in traffic.painted if one.ended >= began and one.began <= back],
        fetched=[one for one in traffic.fetched if one.ended >= began and one.began <= back],
        recovered_s=recovered_s,
    )
    rows.append(row)
    to_painters, to_fetchers = TOLD[host]
    assert set(counted(row.painted)) <= {"painted"} | to_painters
    assert set(counted(row.fetched)) <= {"fetched"} | to_fetchers
    assert_nothing_promised_is_lost(site, traffic)
    assert_no_job_twice(site, host)


def first_good(traffic: Traffic, since: float) -> float:
    """When the first of the answers came from which on all were good."""
    answers = sorted(
        (one for one in (*traffic.painted, *traffic.fetched) if one.ended > since), key=lambda one: one.ended
    )
    first = answers[-1].ended
    for one in reversed(answers):
        if one.what not in ("painted", "fetched"):
            break
        first = one.ended
    return first


def wait_for_good_answers(traffic: Traffic, *, since: float) -> None:
    def good(told: list[Told]) -> bool:
        last = [one.what for one in list(told) if one.began > since][-GOOD:]
        return len(last) == GOOD and set(last) <= {"painted", "fetched"}

    when(lambda: good(traffic.painted) and good(traffic.fetched), "callers are served as ever")


def wait_until_all_see_all(site: Site) -> None:
    def seen() -> bool:
        states = [health(service) for service in site.apis.values() for _ in range(4)]
        return all(
            (state["status"], state["redis"], state["storage"], state["webuis"]["available"])
            == ("healthy", "up", "ok", WEBUIS)
            for state in states
        )

    when(seen, "both APIs see everything")


def assert_nothing_promised_is_lost(site: Site, traffic: Traffic) -> None:
    assert traffic.images
    gone = [one for one in traffic.images if not requests.head(f"{site.balancer}/image/{one}", timeout=10).ok]
    assert gone == []


def assert_no_job_twice(site: Site, host: str) -> None:
    if host == "webuis":
        return  # what they remember of their jobs went with them
    seeds = [
        one["body"]
        for webui in site.webuis
        for one in requests.get(f"{webui}/simulator/requests", timeout=10).json()
        if one["method"] == "POST" and one["route"].endswith("txt2img")
    ]
    assert len(seeds) == len(set(seeds))
