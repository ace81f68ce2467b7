"""Waiting for a decoder: in order, not for ever, not without a caller, and not where the limit has no room."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask

from api.decoders import SHORTEST_WAIT_S, Decoders, Decoding
from api.errors import CallerGoneError
from sd_client.errors import QueueTimeoutError
from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import PNG, VALID, text
from tests.clock import Clock
from tests.conftest import MakeApp
from tests.running import PREFIX, wait_until


def nothing() -> None:
    """Of a caller who is there."""


def test_those_who_wait_come_in_the_order_they_came_in() -> None:
    decoders, order = Decoders(count=1), []
    decoders.acquire(until=float("inf"), check=nothing)

    def decode(number: int) -> None:
        decoders.acquire(until=float("inf"), check=nothing)
        order.append(number)
        decoders.release()

    threads = [threading.Thread(target=decode, args=[number]) for number in range(5)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda: len(decoders) == number + 1, "it waits")  # noqa: B023 - called at once
    decoders.release()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4]


def test_a_wait_has_an_end() -> None:
    clock = Clock()
    decoders = Decoders(count=1, clock=clock)
    decoders.acquire(until=clock.now, check=nothing)
    with pytest.raises(QueueTimeoutError):
        decoders.acquire(until=clock.now, check=nothing)
    assert len(decoders) == 0
    decoders.release()
    decoders.acquire(until=clock.now, check=nothing)  # a free one is there for whoever comes late, too


def test_a_caller_who_is_gone_does_not_wait() -> None:
    def gone() -> None:
        raise CallerGoneError

    decoders = Decoders(count=1)
    decoders.acquire(until=float("inf"), check=nothing)
    with pytest.raises(CallerGoneError):
        decoders.acquire(until=float("inf"), check=gone)
    assert len(decoders) == 0


def test_who_must_not_wait_is_asked_once_and_the_wait_is_told() -> None:
    clock, asked = Clock(), []

    def later() -> None:
        clock.now += 3
        decoders.release()

    decoders = Decoders(count=1, clock=clock)
    decoding = Decoding(
        decoders, until=clock.now + 10, check=later, admit=lambda: asked.append(len(decoders)), clock=clock
    )
    with decoding():
        assert decoding.waited_s == 0
        clock.now += 5  # its own work
    decoders.acquire(until=clock.now, check=nothing)
    with decoding():
        assert decoding.waited_s == 3
    assert asked == [0]


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
    decoders: Decoders = app.view_functions["generation.img2img"].__self__.decoders  # type: ignore[attr-defined]
    for _ in range(os.cpu_count() or 1):
        decoders.acquire(until=0.0, check=nothing)
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
    told = problem_of(late)
    assert (told["code"], told["detail"]) == ("queue_timeout", "too many pictures are being decoded")
    assert late.headers["Retry-After"]
    assert len(simulator.generations) == 1
    assert client.post(f"{PREFIX}/img2img", json=SMALL).status_code == 200
