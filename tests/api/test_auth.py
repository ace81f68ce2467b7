"""API keys, browsers of other origins, and who a caller behind proxies is."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import problem_of
from tests.conftest import MakeApp
from tests.running import PREFIX

BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1}
ORIGIN = "https://shop.example"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}


@pytest.fixture(scope="module")
def locked_app(make_shared_app: MakeApp, shared_simulator: Simulator) -> Flask:
    return make_shared_app(shared_simulator.url, API_KEYS="k1, kéy2", CORS_ORIGINS=ORIGIN)


@pytest.fixture
def locked(locked_app: Flask, simulator: Simulator) -> FlaskClient:
    return locked_app.test_client()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "txt2img"),
        ("POST", "img2img"),
        ("POST", "inpainting"),
        ("GET", "models"),
        ("GET", "options"),
        ("DELETE", f"image/{UUID('0b9f1c1e-6a57-4d7e-9a53-0d2f8f6f4b11')}"),
        ("DELETE", "image/x"),
        ("GET", "nowhere"),
        ("TRACE", "nowhere"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "wrong"},
        {"X-API-Key": "K1"},
        {"X-API-Key": "k1, kéy2".encode().decode("latin-1")},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic k1"},
        {"Authorization": "k1"},
        {"Cookie": "api_key=k1"},
        {"X-API-Key": "k1 kéy2".encode().decode("latin-1"), "Authorization": "Bearer wrong"},
    ],
)
def test_without_a_valid_key(
    locked: FlaskClient, simulator: Simulator, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = locked.open(f"{PREFIX}/{path}?api_key=k1", method=method, headers=headers, json=BODY)

    problem = problem_of(answer)
    assert (problem["status"], problem["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert simulator.generations == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", f"{PREFIX}/txt2img", {"POST", "OPTIONS"}),
        ("GET", f"{PREFIX}/txt2img", {"POST", "OPTIONS"}),
        ("TRACE", f"{PREFIX}/models", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", f"{PREFIX}/models", {"GET", "HEAD", "OPTIONS"}),
        ("POST", f"{PREFIX}/image/x", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("TRACE", f"{PREFIX}/health", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/docs", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_method_that_no_route_has_needs_no_key_to_be_told_so(
    locked: FlaskClient, method: str, path: str, allowed: set[str]
) -> None:
    for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": "k1"}):
        answer = locked.open(path, method=method, headers=headers)
        problem = problem_of(answer)
        assert (problem["status"], problem["code"]) == (405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "k1"},
        {"Authorization": "Bearer k1"},
        {"Authorization": "bearer   k1 "},
        {"X-API-Key": "kéy2".encode().decode("latin-1")},
        {"X-API-Key": "of the gateway", "Authorization": "Bearer k1"},
        {"X-API-Key": "k1", "Authorization": "Basic b2Y6cHJveHk="},
        {"X-API-Key": "k1", "Authorization": "Bearer of the gateway"},
        {"Authorization": "Bearer " + "kéy2".encode().decode("latin-1")},
    ],
)
def test_with_a_key(locked: FlaskClient, headers: dict[str, str]) -> None:
    assert locked.post(f"{PREFIX}/txt2img", json=BODY, headers=headers).status_code == 200
    assert locked.get(f"{PREFIX}/models", headers=headers).status_code == 200


def test_what_stays_open(locked: FlaskClient) -> None:
    assert locked.get(f"{PREFIX}/health/live").status_code == 200
    assert locked.get(f"{PREFIX}/health").status_code in (200, 503)
    assert locked.head(f"{PREFIX}/health").status_code in (200, 503)
    url = locked.post(f"{PREFIX}/txt2img", json=BODY, headers={"X-API-Key": "k1"}).get_json()["image_url"]
    assert locked.get(url, buffered=True).status_code == 200
    assert locked.head(url, buffered=True).status_code == 200


def test_without_keys_any_header_is_well(client: FlaskClient) -> None:
    assert client.get(f"{PREFIX}/models", headers={"X-API-Key": "whatever"}).status_code == 200


def test_cors_on_answers_and_errors(locked: FlaskClient) -> None:
    for path in ("models", "nowhere", f"image/{uuid4()}", "health/live"):
        answer = locked.get(f"{PREFIX}/{path}", headers={"Origin": ORIGIN})
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN, path
        exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
        assert {"X-Request-ID", "X-Seed", "X-Image-Id", "Location", "Retry-After", "X-RateLimit-Remaining"} <= exposed
    bad = locked.post(f"{PREFIX}/txt2img", json={}, headers={"Origin": ORIGIN, "X-API-Key": "k1"})
    assert (bad.status_code, bad.headers["Access-Control-Allow-Origin"]) == (422, ORIGIN)


@pytest.mark.parametrize("origins", [ORIGIN, f"{ORIGIN},https://admin.example", "https://*.shop.example", "*"])
def test_a_cache_never_gives_a_page_the_answer_without_the_header(
    make_app: MakeApp, simulator: Simulator, origins: str
) -> None:
    client = make_app(simulator.url, CORS_ORIGINS=origins).test_client()
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "https://admin.example"}):
        answer = client.get(f"{PREFIX}/models", headers=headers)
        assert answer.headers.get("Access-Control-Allow-Origin") == "*" or answer.headers.getlist("Vary") == ["Origin"]


def test_another_origin(locked: FlaskClient, client: FlaskClient) -> None:
    for origin in ("https://evil.example", "https://shop.example.evil.example", "null", "http://shop.example"):
        answer = locked.get(f"{PREFIX}/models", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in answer.headers
    off = client.get(f"{PREFIX}/models", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in off.headers


@pytest.mark.parametrize(
    ("setting", "let_in", "kept_out"),
    [
        (
            "https://*.shop.example",
            ["https://www.shop.example", "https://a.b.shop.example"],
            [
                "https://shop.example",
                "https://evilshop.example",
                "https://www.shop.example.evil.example",
                "https://www.shop.example:8443",
                "http://www.shop.example",
                "https://www.shopxexample",
                "https://www.shop.example/",
                "https://www.shop.example\n",
                "https://evil.example#.shop.example",
                "https://.shop.example",
            ],
        ),
        ("http://*.localhost:3000", ["http://a.localhost:3000"], ["http://a.localhost", "http://localhost:3000"]),
        ("https://Shop.example:443", ["https://shop.example"], ["https://shopxexample", "https://shop.example.evil"]),
        ("http://[0::1]:3000", ["http://[::1]:3000"], ["http://[::1]"]),
        ("*", ["https://anybody.example", "null"], []),
    ],
)
def test_which_origins_are_let_in(
    make_app: MakeApp, simulator: Simulator, setting: str, let_in: list[str], kept_out: list[str]
) -> None:
    client = make_app(simulator.url, CORS_ORIGINS=setting).test_client()
    environ = {"path": f"{PREFIX}/models"}
    for origin, allowed in [*((one, True) for one in let_in), *((one, False) for one in kept_out)]:
        for method, headers in (("GET", {}), ("OPTIONS", PREFLIGHT)):
            # In the environment as WSGI has it: the test client refuses a line end in a header.
            base = {"HTTP_ORIGIN": origin}
            sent = {name: value for name, value in headers.items() if name != "Origin"}
            answer = client.open(**environ, method=method, headers=sent, environ_overrides=base)
            shown = answer.headers.getlist("Access-Control-Allow-Origin")
            assert (shown in ([origin], ["*"])) == allowed, (origin, method, shown)


@pytest.mark.parametrize(
    "name",
    [
        *("traceparent", "tracestate", "sentry-trace", "baggage", "X-Requested-With", "x-b3-traceid"),
        *("x-datadog-trace-id", "cache-control", "range", "if-none-match", "prefer", "idempotency-key"),
    ],
)
def test_headers_that_front_ends_add_pass_preflights(locked: FlaskClient, name: str) -> None:
    asked = {**PREFLIGHT, "Access-Control-Request-Headers": f"content-type,{name},x-api-key"}
    answer = locked.options(f"{PREFIX}/txt2img", headers=asked)
    allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert sorted(allowed) == sorted(["content-type", name.lower(), "x-api-key"])


def test_preflights_need_no_key_and_are_not_limited(make_app: MakeApp, simulator: Simulator) -> None:
    limits = {"RATE_LIMIT_GLOBAL": "2/hour", "RATE_LIMIT_GENERATION": "1/hour"}
    client = make_app(simulator.url, API_KEYS="k1", CORS_ORIGINS=ORIGIN, **limits).test_client()
    for _ in range(10):
        answer = client.options(f"{PREFIX}/txt2img", headers=PREFLIGHT)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Headers"].lower() == "x-api-key"
    assert client.get(f"{PREFIX}/models", headers={"X-API-Key": "k1"}).status_code == 200


def test_a_429_has_cors_headers(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, CORS_ORIGINS=ORIGIN, RATE_LIMIT_GLOBAL="1/hour").test_client()
    answers = [client.get(f"{PREFIX}/models", headers={"Origin": ORIGIN}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].headers["Access-Control-Allow-Origin"] == ORIGIN


def calls(client: FlaskClient, *forwarded: str, address: str = "10.0.0.1") -> list[int]:
    """The statuses of one call for each X-Forwarded-For."""
    environ = {"REMOTE_ADDR": address}
    return [
        client.get(f"{PREFIX}/models", headers={"X-Forwarded-For": given}, environ_base=environ).status_code
        for given in forwarded
    ]


def test_x_forwarded_for_counts_for_nothing_by_default(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="2/hour").test_client()
    assert calls(client, "1.1.1.1", "2.2.2.2", "3.3.3.3") == [200, 200, 429]
    assert calls(client, "1.1.1.1", address="10.0.0.2") == [200]


def test_behind_one_proxy_its_own_word_counts(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="2/hour", TRUSTED_PROXIES="1").test_client()
    # A proxy appends whom it saw: what stands before that is the caller's own invention.
    assert calls(client, "1.1.1.1, 9.9.9.9", "2.2.2.2, 9.9.9.9", "9.9.9.9") == [200, 200, 429]
    assert calls(client, "9.9.9.9, 8.8.8.8") == [200]


def test_behind_two_proxies(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="1/hour", TRUSTED_PROXIES="2").test_client()
    assert calls(client, "1.1.1.1, 9.9.9.9, 10.1.1.1", "2.2.2.2, 9.9.9.9, 10.1.1.2", "8.8.8.8, 10.1.1.1") == [
        200,
        429,
        200,
    ]
