"""A WebUI that people use beside the service: nobody's job is taken for somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask

from simulator import Simulator
from tests.api.answers import Answer, problem_of
from tests.running import DEADLINE_S, PREFIX, service_in_process, wait_until

#: Of 64x64: a step takes 1/64 of it, 0.05 s.
STEP_TIME_S = 3.2
SMALL = {"prompt": "a harbour", "width": 64, "height": 64, "seed": 5}
OURS = {**SMALL, "steps": 4, "sampler": "Euler", "response_format": "url"}
#: Until somebody ends it.
LONG = 150


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Stranger:
    """Somebody who uses the WebUI without the service."""

    def __init__(self, webui: Simulator, threads: ThreadPoolExecutor) -> None:
        self._url = f"{webui.url}/sdapi/v1"
        self._threads = threads

    def paint(self, **fields: Any) -> Future[requests.Response]:
        body = {**SMALL, "steps": 20, "sampler_name": "Euler", "force_task_id": "a-strangers", **fields}
        return self._threads.submit(requests.post, f"{self._url}/txt2img", json=body, timeout=DEADLINE_S)

    def ends_the_job(self, how: str) -> None:
        requests.post(f"{self._url}/{how}", timeout=DEADLINE_S).raise_for_status()

    def state(self) -> dict[str, Any]:
        return dict(requests.get(f"{self._url}/progress", timeout=DEADLINE_S).json()["state"])

    def wait_until_painting(self) -> None:
        wait_until(lambda: bool(self.state()["sampling_step"] >= 1 and self.state()["job_count"]), "the WebUI paints")


Call = Callable[..., Future[Answer]]


@pytest.fixture
def webui() -> Iterator[Simulator]:
    """Forge has the same routes for this, with the same answers."""
    with Simulator(step_time=STEP_TIME_S) as made:
        yield made


@pytest.fixture
def stranger(webui: Simulator, threads: ThreadPoolExecutor) -> Stranger:
    return Stranger(webui, threads)


@pytest.fixture
def app(webui: Simulator, tmp_path: Path) -> Iterator[Flask]:
    with service_in_process(tmp_path, webui.url) as made:
        wait_until(lambda: made.test_client().get(f"{PREFIX}/health").status_code == 200, "the WebUI has been seen")
        yield made


@pytest.fixture
def call(app: Flask, threads: ThreadPoolExecutor) -> Call:
    def paint(request_id: str, headers: dict[str, str] | None = None, **fields: Any) -> Future[Answer]:
        sent = {"X-Request-ID": request_id, **(headers or {})}
        return threads.submit(app.test_client().post, f"{PREFIX}/txt2img", json={**OURS, **fields}, headers=sent)

    return paint


def status(app: Flask, request_id: str) -> dict[str, Any]:
    return dict(app.test_client().get(f"{PREFIX}/requests/{request_id}").get_json())


def is_whole(answer: requests.Response, **fields: Any) -> bool:
    """Whether the stranger's picture is the one that comes where nobody ends its job."""
    with Simulator() as undisturbed, ThreadPoolExecutor(1) as thread:
        whole = Stranger(undisturbed, thread).paint(**fields).result()
    return bool(answer.json()["images"] == whole.json()["images"])


# --- Somebody else ends our job -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "word"), [("interrupt", "interrupted"), ("skip", "skipped")])
def test_a_half_painted_picture_is_no_result(
    app: Flask, call: Call, stranger: Stranger, tmp_path: Path, how: str, word: str
) -> None:
    job = call("ours", steps=LONG)
    stranger.wait_until_painting()
    stranger.ends_the_job(how)
    problem = problem_of(job.result(DEADLINE_S))
    assert (problem["status"], problem["code"], problem["reason"], problem["retryable"]) == (
        502,
        "webui_error",
        word,
        True,
    )
    assert problem["detail"] == f"somebody else {word} the job at the WebUI"
    assert not list(tmp_path.rglob("*.png")), "it is not kept"
    assert status(app, "ours")["status"] == "failed"
    assert call("again").result(DEADLINE_S).status_code == 200, "the flag is of the job before"


def test_an_interrupt_while_the_webui_is_idle_does_not_count(call: Call, stranger: Stranger) -> None:
    for number in range(4):
        stranger.ends_the_job("interrupt")
        assert stranger.state()["interrupted"]
        assert call(f"ours-{number}").result(DEADLINE_S).status_code == 200


def test_people_who_interrupt_do_not_put_the_webui_out(app: Flask, call: Call, stranger: Stranger) -> None:
    for number in range(4):
        job = call(f"ours-{number}", steps=LONG)
        stranger.wait_until_painting()
        stranger.ends_the_job("interrupt")
        assert job.result(DEADLINE_S).status_code == 502
    assert app.test_client().get(f"{PREFIX}/health").get_json()["status"] == "healthy"
    assert call("after").result(DEADLINE_S).status_code == 200


def test_somebody_elses_next_job_that_is_interrupted_is_not_ours(call: Call, stranger: Stranger) -> None:
    job = call("ours", steps=20)
    stranger.wait_until_painting()
    behind = stranger.paint(steps=LONG)
    assert job.result(DEADLINE_S).status_code == 200
    stranger.wait_until_painting()
    stranger.ends_the_job("interrupt")
    assert behind.result(DEADLINE_S).status_code == 200


# --- We end ours, and nobody else's ---------------------------------------------------------------------------------


def test_a_cancelled_job_does_not_end_a_strangers(app: Flask, call: Call, stranger: Stranger, webui: Simulator) -> None:
    theirs = stranger.paint()
    stranger.wait_until_painting()
    ours = call("ours", steps=LONG)
    wait_until(lambda: len(webui.generations) == 2, "ours waits inside the WebUI")
    assert app.test_client().delete(f"{PREFIX}/requests/ours").status_code == 204
    assert ours.result(DEADLINE_S).status_code == 409
    assert is_whole(theirs.result(DEADLINE_S))
    wait_until(lambda: stranger.state()["interrupted"], "ours is interrupted once it runs")
    wait_until(lambda: app.test_client().get(f"{PREFIX}/health").get_json()["webuis"]["busy"] == 0, "it has ended")
    assert call("after").result(DEADLINE_S).status_code == 200


def test_a_job_that_takes_too_long_does_not_end_a_strangers(app: Flask, call: Call, stranger: Stranger) -> None:
    theirs = stranger.paint(steps=60)
    stranger.wait_until_painting()
    ours = call("ours", headers={"Prefer": "wait=1"}, steps=LONG)
    problem = problem_of(ours.result(DEADLINE_S))
    assert (problem["status"], problem["code"]) == (504, "webui_timeout")
    assert is_whole(theirs.result(DEADLINE_S), steps=60)
    wait_until(lambda: stranger.state()["interrupted"], "ours is interrupted once it runs")


def test_a_running_job_is_interrupted_at_once(app: Flask, call: Call, stranger: Stranger) -> None:
    ours = call("ours", steps=LONG)
    stranger.wait_until_painting()
    assert app.test_client().delete(f"{PREFIX}/requests/ours").status_code == 204
    assert ours.result(DEADLINE_S).status_code == 409
    wait_until(lambda: stranger.state()["interrupted"], "it is interrupted")


def test_a_strangers_progress_is_not_told_as_ours(app: Flask, call: Call, stranger: Stranger, webui: Simulator) -> None:
    theirs = stranger.paint(steps=60)
    wait_until(lambda: stranger.state()["sampling_step"] >= 20, "the stranger's job is well on its way")
    ours = call("ours", steps=40)
    wait_until(lambda: len(webui.generations) == 2, "ours waits inside the WebUI")
    while not theirs.done():
        shown = status(app, "ours")
        if not theirs.done():
            assert shown["status"] == "running"
            assert shown["progress"] < 0.2, "theirs has come further"
    wait_until(lambda: ours.done() or status(app, "ours")["progress"] > 0.0, "ours runs")
    assert ours.result(DEADLINE_S).status_code == 200


# --- Where the WebUI does not tell whose job runs -------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{"flavour": "a1111", "has_page": False}, {"flavour": "a1111-1.6"}, {"flavour": "sdnext"}]
)
def test_without_the_route_a_cancelled_job_is_interrupted_as_well(
    tmp_path: Path, threads: ThreadPoolExecutor, settings: dict[str, Any]
) -> None:
    with (
        Simulator(step_time=STEP_TIME_S, **settings) as webui,
        service_in_process(tmp_path, webui.url) as app,
    ):
        client, body = app.test_client(), {**OURS, "steps": LONG}
        job = threads.submit(client.post, f"{PREFIX}/txt2img", json=body, headers={"X-Request-ID": "ours"})
        stranger = Stranger(webui, threads)
        stranger.wait_until_painting()
        assert 0.0 < status(app, "ours")["progress"] < 1.0
        assert app.test_client().delete(f"{PREFIX}/requests/ours").status_code == 204
        assert job.result(DEADLINE_S).status_code == 409
        wait_until(lambda: stranger.state()["interrupted"], "it is interrupted")
