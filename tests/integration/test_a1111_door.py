"""Callers behind A1111's API at once, over real gunicorn with two workers: each has its model and its jobs."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from simulator import Simulator
from tests.api.answers import a1111_failure_of
from tests.running import DEADLINE_S, RedisServer, Service, running_service, wait_until

URL = "/sdapi/v1"
SMALL: dict[str, Any] = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}
#: Longer than any test waits, if nobody ends it.
LONG = {"prompt": "a harbour", "steps": 100}
SECRET = "Geheimnis7f3a"


class Caller:
    """One API key: sent as a password, over a new connection for each request, so that either worker may answer."""

    def __init__(self, service: Service, key: str) -> None:
        self._root = service.root
        self._auth = ("anybody", key)

    def get(self, path: str) -> Any:
        answer = requests.get(f"{self._root}{URL}/{path}", auth=self._auth, timeout=DEADLINE_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, **headers: str) -> requests.Response:
        options: Any = {"auth": self._auth, "headers": headers, "timeout": DEADLINE_S}
        return requests.post(f"{self._root}{URL}/{path}", json=body, **options)

    def choose(self, model: str) -> None:
        assert self.post("options", {"sd_model_checkpoint": model}).text == "null"

    def model(self, body: Any = SMALL) -> str:
        """With which model is painted."""
        answer = self.post("txt2img", body)
        assert answer.status_code == 200, answer.text
        return str(json.loads(answer.json()["info"])["sd_model_name"])

    def job_count(self) -> int:
        return int(self.get("progress")["state"]["job_count"])


@pytest.fixture(scope="module")
def webui() -> Iterator[Simulator]:
    with Simulator(step_time=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def running(webui: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("a1111")
    with running_service(folder, webui.url, API_KEYS="one,two", LOG_LEVEL="DEBUG") as service:
        service.wait_until_answering()
        yield service


@pytest.fixture
def service(running: Service, webui: Simulator) -> Service:
    webui.clear_faults()
    webui.forget_requests()
    return running


@pytest.fixture
def one(service: Service) -> Caller:
    return Caller(service, "one")


@pytest.fixture
def two(service: Service) -> Caller:
    return Caller(service, "two")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def started(webui: Simulator, jobs: int = 1) -> None:
    wait_until(lambda: len(webui.generations) == jobs, f"{jobs} jobs run")


def test_two_callers_choose_at_once_and_each_gets_its_own(
    one: Caller, two: Caller, threads: ThreadPoolExecutor
) -> None:
    def paint(caller: Caller, model: str) -> set[str]:
        caller.choose(model)
        return {caller.model() for _ in range(6)}

    jobs = [threads.submit(paint, one, "dreamshaper_8"), threads.submit(paint, two, "sd_xl_base_1.0")]
    assert [job.result() for job in jobs] == [{"dreamshaper_8"}, {"sd_xl_base_1.0"}]
    assert one.get("options")["sd_model_checkpoint"].startswith("dreamshaper_8")
    assert two.get("options")["sd_model_checkpoint"].startswith("sd_xl_base_1.0")


def test_what_one_interrupts_leaves_the_other(
    one: Caller, two: Caller, webui: Simulator, threads: ThreadPoolExecutor
) -> None:
    jobs = [threads.submit(one.post, "txt2img", LONG)]
    started(webui)
    wait_until(lambda: one.get("progress")["progress"] > 0, "its caller sees its progress")
    assert (one.job_count(), two.job_count()) == (1, 0)
    jobs.append(threads.submit(two.post, "txt2img", SMALL))
    wait_until(lambda: two.job_count() == 1, "the other's waits")
    assert two.get("progress")["progress"] == 0
    assert two.post("interrupt").json() == {}
    assert (one.job_count(), two.job_count()) == (1, 1), "what waits is left, and so is another's"
    assert one.post("interrupt").json() == {}
    ended, painted = (job.result() for job in jobs)
    assert (ended.status_code, a1111_failure_of(ended)["code"]) == (409, "cancelled")
    assert painted.status_code == 200
    wait_until(lambda: one.job_count() == two.job_count() == 0, "nothing is left")


def test_a_webui_that_does_not_answer_holds_up_no_interrupt(
    one: Caller, webui: Simulator, threads: ThreadPoolExecutor
) -> None:
    job = threads.submit(one.post, "txt2img", LONG)
    started(webui)
    wait_until(lambda: one.job_count() == 1, "it runs")
    webui.set_fault("hang-before", route="*")
    try:
        begun = time.monotonic()
        assert one.post("interrupt").json() == {}
        assert time.monotonic() - begun < 5, "the service waits so long for what a WebUI reports"
    finally:
        webui.clear_faults()
    assert job.result().status_code == 409


def test_a_keyed_job_and_who_waits_for_it_are_interrupted(
    one: Caller, webui: Simulator, threads: ThreadPoolExecutor
) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    jobs: list[Future[requests.Response]] = []
    for number in range(3):
        jobs.append(threads.submit(one.post, "txt2img", LONG, **headers, **{"X-Request-ID": f"retry-{number}"}))
        started(webui)
    own = requests.Session()
    own.headers["X-API-Key"] = "one"
    for number in range(3):
        url = f"{one._root}/api/v1/ai/generation/requests/retry-{number}"
        wait_until(lambda url=url: own.get(url, timeout=DEADLINE_S).json().get("status") == "running", "all are open")
    own.close()
    one.post("interrupt")
    assert {job.result().status_code for job in jobs} == {409}
    assert len(webui.generations) == 1


def test_a_job_that_is_deleted_is_painted_once(
    one: Caller, service: Service, webui: Simulator, threads: ThreadPoolExecutor
) -> None:
    job = threads.submit(one.post, "txt2img", {**LONG, "force_task_id": "a-task"})
    started(webui)
    deleted = requests.delete(f"{service.url}/requests/a-task", headers={"X-API-Key": "one"}, timeout=DEADLINE_S)
    assert deleted.status_code == 204
    assert job.result().status_code == 409
    assert len(webui.generations) == 1


def test_a_hang_up_stops_the_job(service: Service, webui: Simulator, two: Caller) -> None:
    body = json.dumps(LONG).encode()
    head = f"POST {URL}/txt2img HTTP/1.1\r\nHost: x\r\nX-API-Key: two\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(head.encode() + body)
        started(webui)
    wait_until(lambda: "interrupt" in {request.route for request in webui.requests}, "the WebUI is interrupted")
    wait_until(lambda: two.job_count() == 0, "the job is gone")


def test_secrets_of_other_programs_reach_nobody(service: Service, webui: Simulator, one: Caller) -> None:
    """One program sends its address and password with each request."""
    secrets = {"auth": f"user:{SECRET}", "url": f"http://{SECRET}:7860", SECRET.lower(): {"deep": SECRET}}
    bodies = [
        {**SMALL, **secrets},
        {**SMALL, **secrets, "steps": 0},
        {**SMALL, "override_settings": {"token": SECRET}},
        {**SMALL, "alwayson_scripts": {"x": {"args": [SECRET]}}},
        {**SMALL, "controlnet_units": [SECRET]},
    ]
    answers = [one.post("txt2img", body) for body in bodies]
    answers.append(one.post("options", {"token": SECRET}))
    assert [answer.status_code for answer in answers] == [200, *[422] * 5]
    assert not [answer.text for answer in answers if SECRET in answer.text or SECRET in str(answer.headers)]
    assert SECRET not in service.printed
    sent = b"".join(request.body for request in webui.requests)
    kept = b"".join(file.read_bytes() for file in service.folder.rglob("*") if file.is_file())
    for place in (sent, kept):
        assert place
        assert SECRET.encode() not in place


def test_a_retry_gets_the_first_pictures(one: Caller, webui: Simulator) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    answers = [one.post("txt2img", {**SMALL, "batch_size": 2}, **headers) for _ in range(6)]
    assert len({answer.content for answer in answers}) == 1
    assert len(answers[0].json()["images"]) == 2
    assert base64.b64decode(answers[0].json()["images"][1]).startswith(b"\x89PNG")
    assert len(webui.generations) == 1


def test_all_that_run_are_interrupted_and_what_waits_is_painted(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(Simulator(step_time=1.0)) for _ in range(2))
        service = stack.enter_context(running_service(tmp_path, f"{first.url},{second.url}", API_KEYS="one"))
        service.wait_until_answering()
        caller = Caller(service, "one")
        jobs = [threads.submit(caller.post, "txt2img", LONG) for _ in range(2)]
        for webui in (first, second):
            started(webui)
        waiting = threads.submit(caller.post, "txt2img", SMALL, **{"X-Request-ID": "waiting"})
        url, key = f"{service.url}/requests/waiting", {"X-API-Key": "one"}
        wait_until(
            lambda: requests.get(url, headers=key, timeout=DEADLINE_S).json().get("status") == "queued", "it waits"
        )
        caller.post("interrupt")
        assert [job.result().status_code for job in jobs] == [409, 409]
        assert waiting.result().status_code == 200


def test_a_full_queue(webui: Simulator, tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    webui.forget_requests()
    with running_service(tmp_path, webui.url, API_KEYS="one", SD_QUEUE_LIMIT="0") as service:
        service.wait_until_answering()
        caller = Caller(service, "one")
        job = threads.submit(caller.post, "txt2img", LONG)
        started(webui)
        refused = caller.post("txt2img", SMALL)
        assert (refused.status_code, a1111_failure_of(refused)["code"]) == (503, "queue_full")
        assert int(refused.headers["Retry-After"]) > 0
        caller.post("interrupt")
        assert job.result().status_code == 409


def test_the_choice_outlives_a_restart(webui: Simulator, tmp_path: Path) -> None:
    for number in range(2):
        with running_service(tmp_path, webui.url, API_KEYS="one", workers=1) as service:
            service.wait_until_answering()
            caller = Caller(service, "one")
            if number == 0:
                caller.choose("dreamshaper_8")
            assert caller.model() == "dreamshaper_8"


def test_hosts_with_one_redis(
    webui: Simulator, redis_server: RedisServer, tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    """A choice and an interrupt reach the other host, and while Redis is down each host goes by the last it knows."""
    webui.forget_requests()
    settings = {"REDIS_URL": redis_server.url, "API_KEYS": "one", "workers": 1}
    with ExitStack() as stack:
        hosts = [stack.enter_context(running_service(tmp_path / name, webui.url, **settings)) for name in "ab"]
        for host in hosts:
            host.wait_until_answering()
        here, there = (Caller(host, "one") for host in hosts)
        here.choose("sd_xl_base_1.0")
        there.choose("dreamshaper_8")
        assert (here.model(), there.model()) == ("dreamshaper_8", "dreamshaper_8")
        webui.forget_requests()
        job = threads.submit(here.post, "txt2img", LONG)
        started(webui)
        wait_until(lambda: there.job_count() == 1, "the other host knows of it")
        there.post("interrupt")
        assert job.result().status_code == 409

        webui.forget_requests()
        job = threads.submit(here.post, "txt2img", LONG)
        started(webui)
        redis_server.stop()
        assert here.job_count() == 1, "its own job it knows without Redis"
        here.post("interrupt")
        assert job.result().status_code == 409
        for host in hosts:
            wait_until(lambda host=host: "redis is down" in host.printed, "it notices")
        assert (here.model(), there.model()) == ("dreamshaper_8", "dreamshaper_8")
        there.choose("v1-5-pruned-emaonly")
        redis_server.start()
        for host in hosts:
            wait_until(lambda host=host: "redis is back" in host.printed, "it notices")
        assert (here.model(), there.model()) == ("v1-5-pruned-emaonly", "v1-5-pruned-emaonly")
