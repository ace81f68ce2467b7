"""Who the caller is: one spelling for each address, one caller for each key, and nobody where that does no harm."""

from __future__ import annotations

import pytest
from flask import Flask, g
from hypothesis import given
from hypothesis import strategies as st

from api.identity import caller
from simulator import Simulator
from tests.conftest import MakeApp
from tests.running import PREFIX

UUID = "0b9f1c1e-6a57-4d7e-9a53-0d2f8f6f4b11"
BARE = Flask(__name__)


def of_address(address: str | None) -> str:
    environ = {} if address is None else {"REMOTE_ADDR": address}
    with BARE.test_request_context(environ_overrides=environ):
        return caller("limits")


SAME = {
    "198.51.100.7": ["198.51.100.7:50123", " 198.51.100.7 ", "::ffff:198.51.100.7", "[::FFFF:c633:6407]:443"],
    "2001:db8:0:1::7": [
        *("2001:DB8:0:1::7", "2001:db8:0000:0001:0:0:0:7", "[2001:db8:0:1::7]", "[2001:db8:0:1::7]:50123"),
        *("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1:a:b:c:d%eth0", "[2001:db8:0:1::9%1]:80"),
    ],
    "unknown": [
        "",
        "_hidden",
        "unknown:80",
        "1.2.3",
        "01.2.3.4",
        "1.2.3.4.5",
        "[::1",
        "[]:80",
        ":80",
        "x" * 9000,
        "::g",
    ],
}


@pytest.mark.parametrize("address", SAME)
def test_one_caller_in_any_spelling(address: str) -> None:
    assert {of_address(other) for other in SAME[address]} == {of_address(address)}


def test_other_addresses_are_other_callers() -> None:
    others = ["198.51.100.7", "198.51.100.8", "2001:db8:0:1::7", "2001:db8:0:2::7", "::1", "unknown"]
    assert len({of_address(address) for address in others}) == len(others)


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1), st.integers(1, 65535))
def test_a_64_is_one_caller(address, host: int, port: int) -> None:
    if address.ipv4_mapped is None:
        neighbour = type(address)(int(address) >> 64 << 64 | host)
        if neighbour.ipv4_mapped is None:
            assert of_address(str(address)) == of_address(f"[{neighbour.exploded}]:{port}")


@given(st.text(max_size=60))
def test_rubbish_is_one_caller_and_no_fault(text: str) -> None:
    assert of_address(text).startswith("address:")


def test_a_key_is_a_caller_for_every_purpose() -> None:
    names = set()
    for address in ("198.51.100.7", "203.0.113.9"):
        with BARE.test_request_context(environ_overrides={"REMOTE_ADDR": address}):
            g.api_key = "s3cr3t"
            names |= {caller("limits"), caller("idempotency"), caller("following", request_id=UUID)}
            names |= {caller("following", request_id="1")}
    (name,) = names
    assert name.startswith("key:")
    assert "s3cr3t" not in name


@pytest.mark.parametrize(
    ("request_id", "open_to_all"),
    [
        *((UUID, True), (UUID.upper(), True), ("0b9f1c1e6a574d7e9a530d2f8f6f4b11", True)),
        *(("1", False), ("", False), (UUID[:-1], False), (f"{UUID}0", False), (f"{UUID}\n", False), ("z" * 32, False)),
    ],
)
def test_who_may_follow(request_id: str, open_to_all: bool) -> None:
    names = set()
    for address in ("198.51.100.7", "203.0.113.9"):
        with BARE.test_request_context(environ_overrides={"REMOTE_ADDR": address}):
            names.add(caller("following", request_id=request_id))
    assert (len(names) == 1) == open_to_all


@pytest.mark.parametrize(
    "addresses",
    [
        [f"198.51.100.7:{port}" for port in range(50_000, 50_004)],
        [f"[2001:db8::{n}]:{50_000 + n}" for n in range(4)],
        ["198.51.100.7", "::ffff:198.51.100.7", "[::ffff:198.51.100.7]:443", "198.51.100.7:1"],
        [f"rubbish-{n}" for n in range(4)],
    ],
)
def test_limits_hold_whatever_a_proxy_writes(make_app: MakeApp, simulator: Simulator, addresses: list[str]) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="3/hour", TRUSTED_PROXIES="1").test_client()
    answers = [client.get(f"{PREFIX}/models", headers={"X-Forwarded-For": address}) for address in addresses]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert client.get(f"{PREFIX}/models", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 200
