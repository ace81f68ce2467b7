"""One job at a time: the queue, its progress, task ids, and what interrupt and skip end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable

import pytest
import requests

from tests.simulator.pixels import until

SMALL = {"prompt": "a cat", "width": 64, "height": 64, "seed": 1}
STEP_S = 3.2  # At 64x64 a 64th of it: 0.05 s.


class Background:
    """A request that is answered some time."""

    def __init__(self, api, name: str, body: dict) -> None:
        self.answer: requests.Response | None = None
        self._thread = threading.Thread(target=self._send, args=(f"{api.sim.url}/sdapi/v1/{name}", body))
        self._thread.start()

    def _send(self, url: str, body: dict) -> None:
        self.answer = requests.post(url, json=body, timeout=60)

    def join(self) -> requests.Response:
        self._thread.join()
        assert self.answer is not None
        return self.answer


@pytest.fixture
def api(start):
    return start(step_time=STEP_S)


@pytest.fixture
def send(api) -> Callable[..., Background]:
    return lambda **body: Background(api, "txt2img", {**SMALL, **body})


def state(api) -> dict:
    return api.get("progress").json()["state"]


def task_state(api, task: str) -> dict:
    return api.session.post(f"{api.sim.url}/internal/progress", json={"id_task": task}, timeout=20).json()


def known(api, task: str) -> bool:
    found = task_state(api, task)
    return found["active"] or found["queued"] or found["completed"]


def running(api, steps: int = 1) -> None:
    until(lambda: state(api)["sampling_step"] >= steps, "it runs")


def test_a_running_job_is_seen(api, send):
    idle = api.get("progress").json()
    assert list(idle) == ["progress", "eta_relative", "state", "current_image", "textinfo"]
    assert (idle["progress"], idle["eta_relative"], idle["state"]["job_timestamp"]) == (0, 0, "0")
    job = send(steps=400, width=128)
    running(api)
    seen = api.get("progress").json()
    assert seen["state"].items() >= {"job": "scripts_txt2img", "job_count": 1, "sampling_steps": 400}.items()
    assert 0 < seen["progress"] < 1
    api.post("interrupt")
    assert job.join().status_code == 200
    assert state(api)["job_count"] == 0


def test_an_interrupted_job_answers_200_with_what_is_painted_so_far(api, send, start):
    job = send(steps=400, n_iter=3)
    running(api, 2)
    assert api.post("interrupt").json() == {}
    answer = job.join().json()
    whole = start().paint(steps=400, seed=1)
    assert len(answer["images"]) == 1
    assert answer["images"] != whole["images"]
    info = json.loads(answer["info"])
    assert (info["steps"], info["all_seeds"]) == (400, [1, 2, 3])
    assert info["infotexts"] == json.loads(whole["info"])["infotexts"]


def test_skip_ends_one_round_only(api, send):
    job = send(steps=400, n_iter=2)
    running(api)
    assert api.post("skip").json() is None
    until(lambda: state(api)["job_no"] == 1, "the second round runs")
    api.post("interrupt")
    assert len(job.join().json()["images"]) == 2


@pytest.mark.parametrize("route", ["interrupt", "skip"])
def test_flags_stay_until_the_next_job(api, send, route):
    job = send(steps=400)
    running(api)
    api.post(route)
    assert job.join().status_code == 200
    after = state(api)
    assert (after["interrupted"], after["skipped"]) == (route == "interrupt", route == "skip")
    painted = api.paint(seed=1)
    assert (state(api)["interrupted"], state(api)["skipped"]) == (False, False)
    api.post("interrupt")
    assert state(api)["interrupted"], "an interrupt while idle sets it as well"
    assert api.paint(seed=1)["images"] == painted["images"], "and does no harm"


def test_one_job_at_a_time_in_the_order_of_arrival(api, send):
    jobs = []
    for number in range(4):
        jobs.append(send(steps=2 if number else 4000, force_task_id=f"task({number})"))
        until(lambda name=f"task({number})": known(api, name), "it is queued")
    api.post("interrupt")
    for job in jobs:
        assert job.join().status_code == 200
    until(lambda: all(one.finished for one in api.sim.generations), "every answer is out")
    finished = [one.finished for one in api.sim.generations]
    assert finished == sorted(finished)
    assert api.sim.most_concurrent == 4


def test_an_interrupt_stops_the_running_job_and_not_those_that_wait(api, send, start):
    first = send(steps=400, force_task_id="task(A)")
    until(lambda: task_state(api, "task(A)")["active"], "A runs")
    second = send(steps=2, seed=9, force_task_id="task(B)")
    until(lambda: task_state(api, "task(B)")["queued"], "B waits")
    api.post("interrupt")
    assert first.join().status_code == 200
    assert second.join().json()["images"] == start().paint(steps=2, seed=9)["images"]
    assert task_state(api, "task(B)")["completed"]
    assert not known(api, "task(nope)")


def test_tasks_that_fail_are_never_tidied_up(start):
    api = start()
    api.post("txt2img", {**SMALL, "steps": 0, "force_task_id": "task(failed)"})
    assert task_state(api, "task(failed)")["active"]
    api.paint()
    assert not known(api, "task(failed)")
    api.post("img2img", {**SMALL, "init_images": ["!!!"], "force_task_id": "task(bad)"})
    assert task_state(api, "task(bad)")["queued"]


def test_a_client_that_goes_stops_nothing_not_even_what_waits(api, send):
    job = send(steps=400)
    running(api)
    body = json.dumps({**SMALL, "steps": 1, "force_task_id": "task(gone)"}).encode()
    host, port = api.sim.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        head = f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        until(lambda: task_state(api, "task(gone)")["queued"], "it waits")
    api.post("interrupt")
    job.join()
    until(lambda: task_state(api, "task(gone)")["completed"], "it was done all the same")


def test_options_with_a_model_wait_behind_the_running_job(api, send):
    job = send(steps=400)
    running(api)
    change = Background(api, "options", {"sd_model_checkpoint": "dreamshaper_8"})
    until(lambda: any(one.route == "options" and one.method == "POST" for one in api.sim.requests), "it has come")
    assert change.answer is None
    api.post("interrupt")
    assert json.loads(job.join().json()["info"])["sd_model_name"] == "v1-5-pruned-emaonly"
    assert change.join().json() is None
