"""Requests of real programs, recorded: whatever they send unasked is taken, and what is not there is refused by name.

The recordings lie beside the project; without them these tests are skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import a1111_failure_of
from tests.api.bad_inputs import MASK, PNG, text
from tests.running import ROOT, service_in_process

RECORDINGS = ROOT.parent / "shared" / "recordings" / "clients"

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"there are no recordings at {RECORDINGS}")

#: What a user has asked for in these, and nothing of it is here.
REFUSED = {
    "sillytavern-1.19.0/generate_vae": {"alwayson_scripts", "override_settings.sd_vae"},
    "webuiapi/txt2img_hr": {"styles"},
    "webuiapi/extra_single": {"upscaler_1"},  # whose weights are not there
}
#: Neither A1111 itself in all its versions nor this service has these.
UNKNOWN = {
    *("/config", "/login", "/sdapi/v1/version", "/sdapi/v1/memory", "/sdapi/v1/skip", "/sdapi/v1/sd-modules"),
    "/sdapi/v1/interrogate",
}
_HASH = re.compile(r" \[[0-9a-f]{10}\]")


@dataclass(frozen=True)
class Exchange:
    name: str
    method: str
    path: str
    headers: dict[str, str]
    body: Any

    def __str__(self) -> str:
        return f"{self.name} {self.method} {self.path}"


@cache
def exchanges() -> tuple[Exchange, ...]:
    """Each different request of this API, once."""
    found: dict[str, Exchange] = {}
    for file in sorted(RECORDINGS.glob("*/*.json")):
        for request in json.loads(file.read_bytes())["requests"]:
            path = request["path"].partition("?")[0]
            if path.startswith("/sdapi/") or path in UNKNOWN:
                name = f"{file.parent.name}/{file.stem}"
                exchange = Exchange(name, request["method"], path, request["headers"], request.get("body"))
                found.setdefault(repr((file.parent.name, exchange.method, path, exchange.body)), exchange)
    return tuple(found.values())


def sent(client: FlaskClient, exchange: Exchange) -> Any:
    """What comes back. Pictures were cut in the recordings, and hashes are those of real models."""
    body = exchange.body
    if isinstance(body, dict):
        body = json.loads(_HASH.sub("", json.dumps(body)))
        if body.get("init_images"):
            body["init_images"] = [text(PNG)]
        if exchange.path == "/sdapi/v1/extra-single-image":
            body["image"] = text(PNG)
        if body.get("mask"):
            body["mask"] = text(MASK)
    data = body if isinstance(body, str) else json.dumps(body)
    headers = {name: value for name, value in exchange.headers.items() if name in ("Content-Type", "Authorization")}
    caller = {"REMOTE_ADDR": f"10.1.0.{exchanges().index(exchange)}"}
    return client.open(
        exchange.path, method=exchange.method, headers=headers, data=data if body else None, environ_base=caller
    )


@pytest.fixture(scope="module")
def recorded_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with Simulator() as webui, service_in_process(tmp_path_factory.mktemp("recorded"), webui.url) as app:
        yield app


def test_there_are_recordings() -> None:
    assert len(exchanges()) > 40
    assert {exchange.name for exchange in exchanges()} > REFUSED.keys()


@pytest.mark.parametrize("exchange", exchanges() if RECORDINGS.is_dir() else (), ids=str)
def test_each_is_taken_or_refused_by_name(recorded_app: Flask, exchange: Exchange) -> None:
    answer = sent(recorded_app.test_client(), exchange)
    if exchange.path in UNKNOWN:
        assert (answer.status_code, answer.text) == (404, '{"detail":"Not Found"}')
    elif exchange.path == "/sdapi/v1/options" and exchange.method == "POST" and len(exchange.body) > 1:
        assert answer.status_code == 422, "the options that another server gave, sent back"
    elif exchange.name in REFUSED and exchange.path.endswith(("2img", "extra-single-image")):
        assert answer.status_code == 422
        said = a1111_failure_of(answer)["error"]
        assert {problem.partition(":")[0] for problem in said.split("; ") if ":" in problem} == REFUSED[exchange.name]
    else:
        assert answer.status_code == 200, answer.text
        answer.get_json()
