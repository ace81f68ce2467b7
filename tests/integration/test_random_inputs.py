"""Whatever comes in, it is never our fault: random objects, random bytes, random forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from api.schemas import FIELDS
from simulator import Simulator
from tests.api.answers import shape_of
from tests.api.bad_inputs import FORM, MASK, PNG, VALID, form, part, text
from tests.running import PREFIX, service_in_process

ROUTES = sorted(FIELDS)
LEAST = {**VALID, "upscale": {"image": text(PNG), "upscaler": "Lanczos"}}
NAMES = sorted({name for fields in FIELDS.values() for name in fields.model_fields})
WORDS = ["url", "base64", "stretch", "crop", "fill", "white", "black", "alpha", "whole", "masked", "original", "noise"]
NUMBERS = st.integers() | st.floats() | st.sampled_from([-1, 0, 1, 2, 4, 8, 64, 72, 128, 0.5, 1.0, 7.5])
PICTURES = st.sampled_from([text(PNG), text(MASK), "data:image/png;base64," + text(PNG), text(PNG)[:50]])
NAMED = st.sampled_from(["Euler a", "Euler", "Karras", "sdxl", "sd-v1-5", "DPM++ 2M Karras", "none"])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text() | st.sampled_from(WORDS) | PICTURES | NAMED
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=12), VALUES, max_size=8)


@pytest.fixture(scope="module")
def small(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Pictures stay small, so that what happens to be valid is painted soon."""
    folder = tmp_path_factory.mktemp("small")
    with service_in_process(folder, shared_simulator.url, MAX_PIXELS=str(512 * 512)) as app:
        yield app


def send(app: Flask, route: str, body: bytes, kind: str) -> None:
    answer = app.test_client().post(f"{PREFIX}/{route}", data=body, content_type=kind)
    assert answer.status_code in (200, 400, 413, 415, 422), answer.text[:2000]
    if answer.status_code == 200:
        assert answer.get_json()["image_id"]
    else:
        assert len(answer.data) < 20_000
        shape_of(answer)


@settings(max_examples=200, deadline=None)
@given(route=st.sampled_from(ROUTES), values=OBJECTS, valid=st.booleans())
def test_objects(small: Flask, route: str, values: dict[str, object], valid: bool) -> None:
    body = {**LEAST[route], **values} if valid else values
    send(small, route, json.dumps(body).encode(), "application/json")


@settings(max_examples=100, deadline=None)
@given(route=st.sampled_from(ROUTES), body=st.binary(max_size=200))
def test_bytes(small: Flask, route: str, body: bytes) -> None:
    send(small, route, body, "application/json")
    send(small, route, body, FORM)


@settings(max_examples=100, deadline=None)
@given(
    route=st.sampled_from(ROUTES),
    fields=st.lists(
        st.tuples(st.sampled_from(NAMES), st.binary(max_size=30) | st.just(PNG), st.booleans()), max_size=6
    ),
)
def test_forms(small: Flask, route: str, fields: list[tuple[str, bytes, bool]]) -> None:
    parts = [part(name, value, "a.png" if is_file else None) for name, value, is_file in fields]
    send(small, route, form(part("prompt", b"a"), *parts), FORM)


@settings(max_examples=100, deadline=None)
@given(path=st.text(max_size=60), method=st.sampled_from(["GET", "HEAD", "DELETE"]))
def test_image_ids(small: Flask, path: str, method: str) -> None:
    answer = small.test_client().open(f"{PREFIX}/image/{quote(path)}", method=method)
    assert answer.status_code in (403, 404)
