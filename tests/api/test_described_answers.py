"""What comes is what is described: status, media type, body and every header."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.bad_inputs import MASK, PNG, text
from tests.api.description import assert_described, description
from tests.conftest import MakeApp
from tests.running import PREFIX, service_in_process

SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1}


@pytest.fixture(scope="module")
def keyed(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("keyed")
    with service_in_process(folder, shared_simulator.url, API_KEYS="secret") as app:
        yield app


def test_generations(app: Flask, client: FlaskClient) -> None:
    document = description(app)
    path = f"{PREFIX}/txt2img"
    for extra in ({}, {"response_format": "url"}, {"batch_size": 2}):
        assert_described(document, client.post(path, json={**SMALL, **extra}), 200)
    for headers in ({"Idempotency-Key": "k", "Prefer": "wait=60"}, {"Idempotency-Key": "k"}, {"Accept": "image/png"}):
        assert_described(document, client.post(path, json=SMALL, headers=headers), 200)
    assert_described(document, client.post(path, json={"prompt": "b"}, headers={"Idempotency-Key": "k"}), 422)
    assert_described(document, client.post(path, json={**SMALL, "model": "none"}), 422)
    assert_described(document, client.post(path, json={**SMALL, "steps": 0, "seeed": 1}), 422)
    assert_described(document, client.post(path, data=b"{", content_type="application/json"), 400)
    assert_described(document, client.post(path, data=b"{}", content_type="text/plain"), 415)


def test_pictures(app: Flask, client: FlaskClient) -> None:
    document = description(app)
    image, mask = text(PNG), text(MASK)
    assert_described(document, client.post(f"{PREFIX}/img2img", json={**SMALL, "image": image}), 200)
    assert_described(document, client.post(f"{PREFIX}/inpainting", json={**SMALL, "image": image, "mask": mask}), 200)
    assert_described(document, client.post(f"{PREFIX}/inpainting", json={**SMALL, "image": image, "mask": image}), 422)
    assert_described(document, client.post(f"{PREFIX}/img2img", json={**SMALL, "image": "no"}), 422)


def test_images(app: Flask, client: FlaskClient) -> None:
    document = description(app)
    url = client.post(f"{PREFIX}/txt2img", json=SMALL).get_json()["image_url"]
    whole = client.get(url)
    assert_described(document, whole, 200)
    assert_described(document, client.head(url), 200)
    for form in ("png", "jpeg", "webp"):
        assert_described(document, client.get(f"{url}?format={form}&width=32"), 200)
    assert_described(document, client.get(url, headers={"Range": "bytes=0-9"}), 206)
    assert_described(document, client.get(url, headers={"Range": "bytes=999999-"}), 416)
    assert_described(document, client.get(url, headers={"If-None-Match": whole.headers["ETag"]}), 304)
    assert_described(document, client.get(f"{url}?width=100000"), 422)
    assert_described(document, client.get(f"{PREFIX}/image/{uuid4()}"), 404)
    assert_described(document, client.head(f"{PREFIX}/image/{uuid4()}"), 404)
    assert_described(document, client.delete(url), 403)


def test_deleting(keyed: Flask) -> None:
    document = description(keyed)
    client = keyed.test_client()
    key = {"X-API-Key": "secret"}
    assert_described(document, client.post(f"{PREFIX}/txt2img", json=SMALL), 401)
    url = client.post(f"{PREFIX}/txt2img", json=SMALL, headers=key).get_json()["image_url"]
    assert_described(document, client.delete(url), 401)
    assert_described(document, client.delete(url, headers=key), 204)
    assert_described(document, client.delete(url, headers=key), 404)


def test_the_rest(app: Flask, client: FlaskClient) -> None:
    document = description(app)
    client.post(f"{PREFIX}/txt2img", json=SMALL, headers={"X-Request-ID": "mine"})
    for path in ("models", "options", "health", "health/live", "requests/mine"):
        assert_described(document, client.get(f"{PREFIX}/{path}"), 200)
        assert_described(document, client.head(f"{PREFIX}/{path}"), 200)
    for method in ("GET", "HEAD", "DELETE"):
        assert_described(document, client.open(f"{PREFIX}/requests/nobodys", method=method), 404)
    assert_described(document, client.get("/metrics"), 200)
    answer = client.get("/openapi.json")
    assert_described(document, answer, 200)
    assert_described(document, client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]}), 304)


def test_too_many(make_app: MakeApp, simulator: Simulator) -> None:
    app = make_app(simulator.url, RATE_LIMIT_GLOBAL="1/hour")
    document = description(app)
    client = app.test_client()
    assert_described(document, client.get(f"{PREFIX}/models"), 200)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answer = client.open(path.replace("{image_id}", "x").replace("{request_id}", "x"), method=method.upper())
            assert (answer.status_code == 429) == ("429" in operation["responses"]), (method, path)
            if answer.status_code == 429:
                assert_described(document, answer, 429)


def test_nothing_to_paint_on(make_app: MakeApp) -> None:
    with Simulator() as webui:
        app = make_app(webui.url)
        document = description(app)
        assert app.test_client().get(f"{PREFIX}/models").status_code == 200  # it has been looked at
    client = app.test_client()
    assert_described(document, client.post(f"{PREFIX}/txt2img", json=SMALL), 503)
