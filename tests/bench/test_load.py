"""The callers do what they are told, and what they tell is true: against the ready-made WebUI, in this process."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from bench.load import Call, Callers, Outcome, Work, carried_out, quantile_ms
from bench.stage import Stage, Upstream
from bench.upstream import picture
from bench.workloads import generation, workloads
from tests.conftest import MakeApp
from tests.running import wait_until


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Stage() as stage:
        yield stage.upstream()


def work(upstream: Upstream, **settings: Any) -> Work:
    return Work(port=upstream.server.port, path="/sdapi/v1/sd-models", **settings)


def test_every_caller_makes_one_request_at_least(upstream: Upstream) -> None:
    outcome = carried_out(work(upstream, clients=5, seconds=0))
    assert outcome.statuses == {"200": 5}
    assert all(call.bytes > 100 for call in outcome.good)


def test_no_more_than_asked_for(upstream: Upstream) -> None:
    assert carried_out(work(upstream, clients=2, seconds=60, most=3)).statuses == {"200": 6}


def test_requests_at_a_fixed_pace_do_not_come_sooner(upstream: Upstream) -> None:
    began = sorted(call.began for call in carried_out(work(upstream, seconds=60, most=3, period_s=0.5)).calls)
    # The first may come late on a loaded machine, and those after it are still on time.
    assert began[2] - began[0] >= 0.7


def test_who_is_refused_waits(upstream: Upstream) -> None:
    missing = Work(port=upstream.server.port, path="/nothing", seconds=60, most=2, pause_s=0.2)
    first, second = carried_out(missing).calls
    assert first.status == 404
    assert second.began - first.began >= 0.2


def test_no_answer_is_told_as_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hang_up = threading.Thread(target=lambda: listener.accept()[0].close())
        hang_up.start()
        outcome = carried_out(Work(port=listener.getsockname()[1], path="/", seconds=0))
        hang_up.join()
    assert outcome.statuses == {"0": 1}


def test_an_answer_that_is_cut_off_does_not_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_half() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

        server = threading.Thread(target=answer_half)
        server.start()
        outcome = carried_out(Work(port=listener.getsockname()[1], path="/", seconds=0))
        server.join()
    assert outcome.statuses == {"0": 1}


def test_a_process_of_callers_works_again_and_again(upstream: Upstream) -> None:
    with Callers() as callers:
        for _ in range(2):
            assert callers.run(work(upstream, seconds=0)).statuses == {"200": 1}


def test_quantiles() -> None:
    calls = [Call(began=0, seconds=second / 100, status=200, bytes=0) for second in range(100, 0, -1)]
    assert quantile_ms(calls, 0.5) == 510
    assert quantile_ms(calls, 0.99) == 1000
    assert quantile_ms([], 0.5) is None
    assert Outcome(calls=tuple(calls), seconds=1).refused == []


def test_the_upstream_sends_the_pictures_that_were_asked_for(upstream: Upstream) -> None:
    asked = generation("txt2img", 512, 2, "webui")
    url = f"http://127.0.0.1:{upstream.server.port}"
    answer = requests.post(f"{url}/3{asked.path}", asked.body, timeout=60).json()
    assert [b64decode(image) for image in answer["images"]] == [picture(512, 512)] * 2
    assert json.loads(answer["info"])["all_seeds"] == [7, 8]
    asked = generation("upscale", 1024, 1, "webui")
    answer = requests.post(url + asked.path, asked.body, timeout=60).json()
    assert b64decode(answer["image"]) == picture(1024, 1024)
    asked = generation("txt2img", 512, 1, "openai")
    answer = requests.post(url + asked.path, asked.body, timeout=60).json()
    assert [b64decode(one["b64_json"]) for one in answer["data"]] == [picture(512, 512)]


def test_the_service_takes_what_is_measured(upstream: Upstream, make_app: MakeApp) -> None:
    """Each generation, in both dialects, with the ready-made WebUI behind it."""
    client = make_app(upstream.webuis(1)).test_client()
    for one in workloads():
        if one.mode not in ("image", "health"):
            for dialect in ("service", "webui"):
                asked = generation(one.mode, one.side, one.count, dialect)
                answer = client.post(asked.path, data=asked.body, headers=dict(asked.headers))
                assert answer.status_code == 200, (one.name, dialect, answer.text[:500])


def test_the_upstream_holds_answers_back_until_all_are_there(upstream: Upstream) -> None:
    upstream.order(together=3)
    asked = generation("txt2img", 512, 1, "webui")
    one = Work(port=upstream.server.port, path=asked.path, method="POST", body=asked.body, seconds=0)
    with Callers() as first, Callers() as others:
        first.begin(one)
        wait_until(lambda: upstream.counts().painting == 1, "the first job is there")
        assert upstream.counts().done == 0
        others.begin(Work(**{**vars(one), "clients": 2}))
        assert first.outcome().statuses == {"200": 1}
        assert others.outcome().statuses == {"200": 2}
    upstream.order()
