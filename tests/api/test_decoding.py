"""Pictures of requests wait for a decoder as long as their callers do, and not where the limit has no room."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from services.decoders import SHORTEST_WAIT_S, Decoders
from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import PNG, VALID, text
from tests.conftest import MakeApp
from tests.running import PREFIX

DAMAGED = {**VALID["img2img"], "image": text(PNG[: len(PNG) // 2])}
SMALL = {**VALID["img2img"], "steps": 1}


def test_a_full_limit_comes_before_the_pictures_and_behind_what_needs_none(
    make_app: MakeApp, simulator: Simulator
) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GENERATION="1/hour").test_client()
    assert problem_of(client.post(f"{PREFIX}/img2img", json=DAMAGED))["status"] == 422  # is not counted
    key = {"Idempotency-Key": "k1"}
    first = client.post(f"{PREFIX}/img2img", json=SMALL, headers=key)
    assert first.status_code == 200

    refused = client.post(f"{PREFIX}/img2img", json=DAMAGED)
    assert problem_of(refused)["code"] == "rate_limited"
    assert int(refused.headers["Retry-After"]) > 3000
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    another = client.post(f"{PREFIX}/img2img", json=DAMAGED, headers={"Idempotency-Key": "k2"})
    assert another.status_code == 429
    assert client.post(f"{PREFIX}/txt2img", json={"prompt": ""}).status_code == 422
    replay = client.post(f"{PREFIX}/img2img", json=SMALL, headers=key)
    assert (replay.status_code, replay.headers["Idempotency-Replayed"]) == (200, "true")
    assert len(simulator.generations) == 1


@contextmanager
def all_decoders_taken(app: Flask) -> Iterator[Decoders]:
    """As long as somebody else's pictures are decoded."""
    decoders: Decoders = app.view_functions["generation.img2img"].__self__.generations.decoders  # type: ignore[attr-defined]
    for _ in range(os.cpu_count() or 1):
        decoders.acquire(until=0.0, check=lambda: None)
    yield decoders
    for _ in range(os.cpu_count() or 1):
        decoders.release()


def test_what_needs_no_decoder_does_not_wait_and_what_does_waits_as_long_as_its_caller(
    make_app: MakeApp, simulator: Simulator
) -> None:
    app = make_app(simulator.url)
    client = app.test_client()
    begun = time.monotonic()
    with all_decoders_taken(app):
        small = {"prompt": "a", "width": 64, "height": 64, "steps": 1}
        assert client.post(f"{PREFIX}/txt2img", json=small).status_code == 200
        assert client.post(f"{PREFIX}/img2img", json={**SMALL, "image": "?"}).status_code == 422
        assert client.post(f"{PREFIX}/img2img", json={"prompt": "a"}).status_code == 422
        late = client.post(f"{PREFIX}/img2img", json=SMALL, headers={"Prefer": "wait=1"})
    assert time.monotonic() - begun < SHORTEST_WAIT_S  # what would have been waited for the settings' time
    problem = problem_of(late)
    assert (problem["code"], problem["detail"]) == ("queue_timeout", "too many pictures are being decoded")
    assert late.headers["Retry-After"]
    assert len(simulator.generations) == 1
    assert client.post(f"{PREFIX}/img2img", json=SMALL).status_code == 200
