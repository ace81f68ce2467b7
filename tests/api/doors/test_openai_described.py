"""What comes from OpenAI's door is what is described: status, media type, body and every header."""

from __future__ import annotations

from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.bad_inputs import PNG, part
from tests.api.description import assert_described, description
from tests.api.doors.openai_requests import HOLED, SMALL, edit
from tests.conftest import MakeApp

GENERATIONS = "/v1/images/generations"


def test_generations(make_app: MakeApp, simulator: Simulator) -> None:
    app = make_app(simulator.url, PUBLIC_URL="https://pictures.example", MAX_BODY_MB="1")
    document, client = description(app), app.test_client()
    for extra in ({}, {"n": 2, "output_format": "jpeg"}, {"response_format": "url"}, {"stream": True, "n": 2}):
        assert_described(document, client.post(GENERATIONS, json={**SMALL, **extra}), 200)
    loras = {"loras": [{"name": "add-detail"}]}
    assert_described(document, client.post(GENERATIONS, json={**SMALL, **loras}), 200)
    for headers in ({"Idempotency-Key": "k", "Prefer": "wait=60"}, {"Idempotency-Key": "k"}):
        assert_described(document, client.post(GENERATIONS, json=SMALL, headers=headers), 200)
    stream = {**SMALL, "stream": True}
    assert_described(document, client.post(GENERATIONS, json=stream, headers={"Prefer": "wait=60"}), 200)
    assert_described(document, client.post(GENERATIONS, json={}), 400)
    assert_described(
        document, client.post(GENERATIONS, json={**SMALL, "steps": 2}, headers={"Idempotency-Key": "k"}), 400
    )
    assert_described(document, client.post(GENERATIONS, json={**SMALL, "model": "none"}), 404)
    assert_described(document, client.post(GENERATIONS, data=bytes(2 * 1024**2), content_type="application/json"), 413)
    for fault, status in (("oom", 400), ("garbage", 502), ("busy", 503)):
        simulator.set_fault(fault, times=1)
        assert_described(document, client.post(GENERATIONS, json=SMALL), status)


def test_edits(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    assert_described(document, client.post("/v1/images/edits", **edit()), 200)
    assert_described(
        document, client.post("/v1/images/edits", **edit(part("mask", HOLED, "m.png"), stream="true")), 200
    )
    assert_described(document, client.post("/v1/images/edits", **edit(part("mask", PNG, "m.png"))), 400)


def test_models(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    assert_described(document, client.get("/v1/models"), 200)
    assert_described(document, client.head("/v1/models"), 200)
    assert_described(document, client.get("/v1/models/sdxl"), 200)
    assert_described(document, client.get("/v1/models/none"), 404)


def test_keys_and_limits(make_app: MakeApp, simulator: Simulator) -> None:
    app = make_app(simulator.url, API_KEYS="secret", RATE_LIMIT_GENERATION="1/hour")
    document, client = description(app), app.test_client()
    key = {"Authorization": "Bearer secret"}
    assert_described(document, client.post(GENERATIONS, json=SMALL), 401)
    assert_described(document, client.get("/v1/models"), 401)
    assert_described(document, client.post(GENERATIONS, json=SMALL, headers=key), 200)
    assert_described(document, client.post(GENERATIONS, json={**SMALL, "stream": True}, headers=key), 429)
