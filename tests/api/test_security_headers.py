"""What every answer carries, whatever it answers; and what none does."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.bad_inputs import VALID
from tests.conftest import MakeApp
from tests.running import PREFIX

SMALL = {"width": 64, "height": 64, "steps": 1}

REQUESTS = {
    "a picture": ("POST", "/txt2img", {"json": {**VALID["txt2img"], **SMALL}}),
    "a PNG": ("POST", "/txt2img", {"json": {**VALID["txt2img"], **SMALL}, "headers": {"Accept": "image/png"}}),
    "a refusal": ("POST", "/txt2img", {"json": {}}),
    "no JSON": ("POST", "/txt2img", {"data": b"<script>", "content_type": "application/json"}),
    "another type": ("POST", "/txt2img", {"data": b"<script>", "content_type": "text/html"}),
    "lists": ("GET", "/models", {}),
    "options": ("GET", "/options", {}),
    "health": ("GET", "/health", {}),
    "no image": ("GET", "/image/<script>alert(1)</script>", {}),
    "no request": ("GET", "/requests/<script>alert(1)</script>", {}),
    "no path": ("GET", "/<script>alert(1)</script>", {}),
    "no method": ("PUT", "/models", {}),
    "a preflight": ("OPTIONS", "/txt2img", {"headers": {"Origin": "https://a.example"}}),
    "forbidden": ("DELETE", "/image/0b9f0000-0000-4000-8000-000000000000", {}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_every_answer(client: FlaskClient, name: str) -> None:
    method, path, options = REQUESTS[name]
    answer = client.open(PREFIX + path, method=method, **options)
    assert_safe(answer.headers)
    assert b"<script>" not in answer.data
    assert not answer.data or "text/html" not in answer.headers["Content-Type"]


def test_every_answer_with_an_image(client: FlaskClient) -> None:
    url = client.post(f"{PREFIX}/txt2img", json={**VALID["txt2img"], **SMALL}).get_json()["image_url"]
    for headers in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=999999-"}, {"If-None-Match": "*"}):
        for method in ("GET", "HEAD"):
            for query in ("", "?format=webp", "?format=svg"):
                answer = client.open(url + query, method=method, headers=headers, buffered=True)
                assert_safe(answer.headers)


def test_every_answer_where_a_key_is_asked_for(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, API_KEYS="key", RATE_LIMIT_GLOBAL="2/hour").test_client()
    statuses = []
    for _ in range(3):
        answer = client.get(f"{PREFIX}/models")
        assert_safe(answer.headers)
        statuses.append(answer.status_code)
    assert statuses == [401, 401, 429]


def assert_safe(headers) -> None:
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in headers
    assert "X-Powered-By" not in headers
