import json
import random
import socket
import threading
from collections.abc import Callable

import pytest
import requests

from simulator.fields import PydanticV1
from simulator.forms import TXT2IMG_FIELDS, job_of
from simulator.samplers import SplitSamplers
from simulator.webui import step_time
from tests.simulator.pixels import encoded, opened, sample, until

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


def interrupt_when_running(api, steps: int = 2) -> None:
    until(lambda: state(api)["sampling_step"] >= steps, "some steps are done")
    assert api.post("interrupt").json() == {}


def test_idle(api):
    answer = api.get("progress").json()
    assert list(answer) == ["progress", "eta_relative", "state", "current_image", "textinfo"]
    assert answer["progress"] == answer["eta_relative"] == 0
    assert answer["state"]["job_timestamp"] == "0"


def test_a_running_job_is_seen_with_a_preview_after_ten_steps(api, send):
    job = send(steps=400, width=128)
    until(lambda: state(api)["sampling_step"] >= 1, "it runs")
    early = api.get("progress").json()
    assert early["state"]["job"] == "scripts_txt2img"
    assert early["state"]["job_count"] == 1
    assert early["state"]["sampling_steps"] == 400
    assert 0 < early["progress"] < 1
    until(lambda: api.get("progress").json()["current_image"], "there is a preview")
    assert opened(api.get("progress").json()["current_image"]).size == (32, 16)
    assert api.get("progress", params={"skip_current_image": "true"}).json()["current_image"] is None
    api.post("interrupt")
    assert job.join().status_code == 200
    assert state(api)["job_count"] == 0


def test_an_interrupted_job_answers_200_with_what_is_painted_so_far(api, send, start):
    job = send(steps=400)
    interrupt_when_running(api)
    answer = job.join().json()
    whole = start().paint(steps=400, seed=1)
    assert len(answer["images"]) == 1
    assert answer["images"] != whole["images"]
    info = json.loads(answer["info"])
    assert info["steps"] == 400
    assert info["infotexts"] == json.loads(whole["info"])["infotexts"]


def test_interrupted_in_its_first_round_it_has_one_image_but_all_seeds(api, send):
    job = send(steps=400, n_iter=3)
    interrupt_when_running(api)
    answer = job.join().json()
    assert len(answer["images"]) == 1
    assert json.loads(answer["info"])["all_seeds"] == [1, 2, 3]


def test_skip_ends_one_round_only(api, send):
    job = send(steps=400, n_iter=2)
    until(lambda: state(api)["sampling_step"] >= 1, "the first round runs")
    assert api.post("skip").json() is None
    until(lambda: state(api)["job_no"] == 1, "the second round runs")
    api.post("interrupt")
    assert len(job.join().json()["images"]) == 2


def test_an_interrupt_while_idle_does_no_harm(api, start):
    api.post("interrupt")
    assert api.paint(seed=1)["images"] == start().paint(seed=1)["images"]


def test_one_job_at_a_time_in_the_order_of_arrival(api, send):
    jobs = []
    for number in range(4):
        jobs.append(send(steps=2, force_task_id=f"task({number})"))
        until(lambda count=number + 1: len(api.sim.generations) == count, "it has come")
        until(lambda name=f"task({number})": known(api, name), "it is queued")
    for job in jobs:
        assert job.join().status_code == 200
    until(lambda: all(one.finished for one in api.sim.generations), "every answer is out")
    finished = [one.finished for one in api.sim.generations]
    assert finished == sorted(finished)
    assert api.sim.most_concurrent == 4


def known(api, task: str) -> bool:
    found = task_state(api, task)
    return found["active"] or found["queued"] or found["completed"]


def task_state(api, task: str) -> dict:
    return api.session.post(f"{api.sim.url}/internal/progress", json={"id_task": task}, timeout=20).json()


def test_an_interrupt_stops_the_running_job_and_not_those_that_wait(api, send, start):
    first = send(steps=400, force_task_id="task(A)")
    until(lambda: task_state(api, "task(A)")["active"], "A runs")
    second = send(steps=2, seed=9, force_task_id="task(B)")
    until(lambda: task_state(api, "task(B)")["queued"], "B waits")
    waiting = task_state(api, "task(B)")
    assert waiting["textinfo"] == "In queue: 1/1"
    pending = api.session.get(f"{api.sim.url}/internal/pending-tasks", timeout=20).json()
    assert pending == {"size": 1, "tasks": ["task(B)"]}
    api.post("interrupt")
    assert first.join().status_code == 200
    assert second.join().json()["images"] == start().paint(steps=2, seed=9)["images"]
    assert task_state(api, "task(B)")["completed"]
    assert task_state(api, "task(nope)")["textinfo"] == "Waiting..."


def test_a_task_that_fails_stays_active_until_another_starts(start):
    api = start()
    api.post("txt2img", {**SMALL, "steps": 0, "force_task_id": "task(failed)"})
    assert task_state(api, "task(failed)")["active"]
    api.paint()
    failed = task_state(api, "task(failed)")
    assert (failed["active"], failed["completed"]) == (False, False)


def test_a_task_whose_picture_is_bad_is_pending_for_ever(start):
    api = start()
    api.post("img2img", {**SMALL, "init_images": ["!!!"], "force_task_id": "task(bad)"})
    pending = api.session.get(f"{api.sim.url}/internal/pending-tasks", timeout=20).json()
    assert pending["tasks"] == ["task(bad)"]


def test_a_client_that_goes_stops_nothing_not_even_what_waits(api, send):
    job = send(steps=400)
    until(lambda: state(api)["sampling_step"] >= 1, "it runs")
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
    until(lambda: state(api)["sampling_step"] >= 1, "it runs")
    change = Background(api, "options", {"sd_model_checkpoint": "dreamshaper_8"})
    until(lambda: any(one.route == "options" and one.method == "POST" for one in api.sim.requests), "it has come")
    assert change.answer is None
    api.post("interrupt")
    assert json.loads(job.join().json()["info"])["sd_model_name"] == "v1-5-pruned-emaonly"
    assert change.join().json() is None


def test_img2img_runs_under_its_own_name(api):
    body = {**SMALL, "init_images": [encoded(sample())], "steps": 400}
    job = Background(api, "img2img", body)
    until(lambda: state(api)["job"] == "scripts_img2img", "it runs")
    api.post("interrupt")
    assert job.join().status_code == 200


def test_time_grows_with_pixels_and_batch():
    def seconds(**body):
        fields = PydanticV1().read(TXT2IMG_FIELDS, body)
        return step_time(0.1, job_of("job", fields, SplitSamplers().resolve("Euler", None), random.Random(1)))

    assert seconds() == pytest.approx(0.1)
    assert seconds(width=1024, height=1024) == pytest.approx(0.4)
    assert seconds(batch_size=3) == pytest.approx(0.3)
    assert seconds(n_iter=3) == pytest.approx(0.1)
