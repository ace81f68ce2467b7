"""Following and cancelling one's own requests."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from flask import Flask

from simulator import Simulator
from tests.api.answers import Answer, problem_of
from tests.conftest import MakeApp
from tests.running import PREFIX, service_in_process, wait_until

SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, shared_simulator: Simulator) -> Iterator[Flask]:
    with service_in_process(tmp_path_factory.mktemp("jobs"), shared_simulator.url, API_KEYS="mine,other") as made:
        yield made


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Caller:
    """Somebody with a key."""

    def __init__(self, app: Flask, threads: ThreadPoolExecutor, key: str = "mine") -> None:
        self._app = app
        self._threads = threads
        self._key = {"X-API-Key": key}

    def paint(self, request_id: str, *, key: str | None = None, **fields: object) -> Future[Answer]:
        """:param key: an ``Idempotency-Key``."""
        headers = {**self._key, "X-Request-ID": request_id, **({"Idempotency-Key": key} if key else {})}
        return self._threads.submit(
            self._app.test_client().post, f"{PREFIX}/txt2img", json={**SMALL, **fields}, headers=headers
        )

    def ask(self, request_id: str, method: str = "GET") -> Answer:
        return self._app.test_client().open(f"{PREFIX}/requests/{request_id}", method=method, headers=self._key)

    def wait_for(self, request_id: str, status: str) -> dict[str, object]:
        def says() -> bool:
            answer = self.ask(request_id)
            return answer.status_code == 200 and answer.get_json()["status"] == status

        wait_until(says, f"{request_id} is {status}")
        return dict(self.ask(request_id).get_json())


@pytest.fixture
def caller(app: Flask, simulator: Simulator, threads: ThreadPoolExecutor) -> Iterator[Caller]:
    yield Caller(app, threads)
    simulator.clear_faults()


def test_from_the_queue_to_the_end(caller: Caller, simulator: Simulator) -> None:
    simulator.set_fault("hang-before")
    first = caller.paint("first")
    running = caller.wait_for("first", "running")
    assert (running["queue_position"], running["image_ids"]) == (None, [])
    second = caller.paint("second", batch_size=2)
    queued = caller.wait_for("second", "queued")
    assert (queued["queue_position"], queued["progress"]) == (1, 0.0)
    third = caller.paint("third")
    assert caller.wait_for("third", "queued")["queue_position"] == 2

    simulator.clear_faults()
    for job, name in ((first, "first"), (second, "second"), (third, "third")):
        answer = job.result()
        assert answer.status_code == 200
        done = caller.wait_for(name, "done")
        images = answer.get_json().get("images", [answer.get_json()])
        assert done["image_ids"] == [image["image_id"] for image in images]
        assert done["progress"] == 1.0


def test_a_failed_one(caller: Caller, simulator: Simulator) -> None:
    simulator.set_fault("oom", times=1)
    assert caller.paint("fails").result().status_code == 503
    assert caller.wait_for("fails", "failed")["image_ids"] == []


def test_cancel_one_that_waits(caller: Caller, simulator: Simulator) -> None:
    simulator.set_fault("hang-before")
    first, second = caller.paint("runs"), None
    caller.wait_for("runs", "running")
    wait_until(lambda: len(simulator.generations) == 1, "the WebUI paints")
    second = caller.paint("waits")
    caller.wait_for("waits", "queued")
    assert caller.ask("waits", "DELETE").status_code == 204
    problem = problem_of(second.result())
    assert (problem["status"], problem["code"], problem["request_id"]) == (409, "cancelled", "waits")
    caller.wait_for("waits", "cancelled")
    simulator.clear_faults()
    assert first.result().status_code == 200
    assert len(simulator.generations) == 1


def test_cancel_one_that_runs(caller: Caller, simulator: Simulator) -> None:
    simulator.set_fault("hang-before")
    job = caller.paint("runs2")
    wait_until(lambda: len(simulator.generations) == 1, "the WebUI paints")
    assert caller.ask("runs2", "DELETE").status_code == 204
    assert caller.ask("runs2").get_json()["status"] == "cancelled", "at once"
    assert problem_of(job.result())["code"] == "cancelled"
    assert caller.ask("runs2").get_json()["status"] == "cancelled", "though the WebUI still paints"
    assert caller.ask("runs2", "DELETE").status_code == 404, "it has its answer"
    wait_until(lambda: any(one.route == "interrupt" for one in simulator.requests), "the job is interrupted")
    simulator.clear_faults()
    caller.wait_for("runs2", "cancelled")
    assert caller.paint("after").result().status_code == 200


def test_one_that_ran_too_long_has_failed_though_the_webui_still_paints(
    app: Flask, simulator: Simulator, threads: ThreadPoolExecutor
) -> None:
    simulator.set_fault("hang-before")
    headers = {"X-API-Key": "mine", "X-Request-ID": "late", "Prefer": "wait=1"}
    answer = app.test_client().post(f"{PREFIX}/txt2img", json=SMALL, headers=headers)
    assert problem_of(answer)["code"] == "webui_timeout"
    assert Caller(app, threads).ask("late").get_json()["status"] == "failed"
    assert app.test_client().get(f"{PREFIX}/health").get_json()["webuis"]["busy"] == 1, "its place is still taken"
    simulator.clear_faults()
    wait_until(lambda: app.test_client().get(f"{PREFIX}/health").get_json()["webuis"]["busy"] == 0, "it has ended")


def test_another_caller_sees_and_cancels_nothing(
    app: Flask, caller: Caller, simulator: Simulator, threads: ThreadPoolExecutor
) -> None:
    simulator.set_fault("hang-before")
    job = caller.paint("private")
    caller.wait_for("private", "running")
    stranger = Caller(app, threads, key="other")
    for method in ("GET", "DELETE"):
        problem = problem_of(stranger.ask("private", method))
        assert (problem["status"], problem["code"]) == (404, "request_not_found")
    simulator.clear_faults()
    assert job.result().status_code == 200


@pytest.mark.parametrize("request_id", ["unknown", "x" * 5000, "..%2f..%2fetc", "%00", "%E2%82%AC"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_no_such_request(caller: Caller, method: str, request_id: str) -> None:
    problem = problem_of(caller.ask(request_id, method))
    assert problem["status"] == 404
    assert problem["code"] in ("request_not_found", "not_found")


def test_what_has_ended_cannot_be_cancelled(caller: Caller) -> None:
    assert caller.paint("ended").result().status_code == 200
    caller.wait_for("ended", "done")
    assert problem_of(caller.ask("ended", "DELETE"))["code"] == "request_not_found"
    assert caller.ask("ended").get_json()["status"] == "done"


def test_without_keys_a_caller_is_an_address(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url).test_client()
    headers = {"X-Request-ID": "shared"}
    assert client.post(f"{PREFIX}/txt2img", json=SMALL, headers=headers).status_code == 200
    assert client.get(f"{PREFIX}/requests/shared").get_json()["status"] == "done"
    elsewhere = client.get(f"{PREFIX}/requests/shared", environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert problem_of(elsewhere)["code"] == "request_not_found"


@pytest.mark.parametrize(
    "request_id", ["0b9f1c1e-6a57-4d7e-9a53-0d2f8f6f4b11", "0B9F1C1E6A574D7E9A530D2F8F6F4B11", None]
)
def test_an_id_that_nobody_guesses_is_followed_from_any_address(
    make_app: MakeApp, simulator: Simulator, request_id: str | None
) -> None:
    """A phone goes from Wi-Fi to mobile, or has both kinds of address: what it knows is the id."""
    client = make_app(simulator.url).test_client()
    answer = client.post(f"{PREFIX}/txt2img", json=SMALL, headers={"X-Request-ID": request_id or ""})
    assert answer.status_code == 200
    given = answer.headers["X-Request-ID"]
    elsewhere = client.get(f"{PREFIX}/requests/{given}", environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert elsewhere.get_json()["status"] == "done"
    other = given.lower().replace("0b", "0c") if request_id else "f" * 32
    assert problem_of(client.get(f"{PREFIX}/requests/{other}"))["code"] == "request_not_found"


def test_one_key_does_not_follow_what_another_made(app: Flask, caller: Caller, threads: ThreadPoolExecutor) -> None:
    request_id = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
    assert caller.paint(request_id).result().status_code == 200
    assert problem_of(Caller(app, threads, key="other").ask(request_id))["code"] == "request_not_found"


def test_several_with_one_id_are_one_to_whoever_asks(caller: Caller, simulator: Simulator) -> None:
    """Ids are often a trace's: two calls of one trace are no mistake."""
    simulator.set_fault("hang-before")
    runs = caller.paint("trace")
    wait_until(lambda: len(simulator.generations) == 1, "the WebUI paints")
    waits = caller.paint("trace", seed=2)
    caller.wait_for("trace", "queued")
    assert caller.ask("trace", "DELETE").status_code == 204
    assert [problem_of(job.result())["code"] for job in (runs, waits)] == ["cancelled", "cancelled"]
    simulator.clear_faults()
    assert len(simulator.generations) == 1


def test_a_retry_stands_where_its_first_attempt_does(caller: Caller, simulator: Simulator) -> None:
    simulator.set_fault("hang-before")
    other = caller.paint("other")
    wait_until(lambda: len(simulator.generations) == 1, "the WebUI paints")
    first = caller.paint("attempt", key="stands")
    assert caller.wait_for("attempt", "queued")["queue_position"] == 1
    retry = caller.paint("retry", key="stands")
    assert caller.wait_for("retry", "queued")["queue_position"] == 1
    simulator.clear_faults()
    answers = [job.result() for job in (other, first, retry)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[2].headers["Idempotency-Replayed"] == "true"
    image_id = answers[1].get_json()["image_id"]
    assert [caller.wait_for(name, "done")["image_ids"] for name in ("attempt", "retry")] == [[image_id]] * 2
    assert caller.paint("later", key="stands").result().status_code == 200
    assert caller.wait_for("later", "done")["image_ids"] == [image_id], "one that need not wait, too"
    assert len(simulator.generations) == 2


def test_cancelling_a_retry_leaves_its_first_attempt(caller: Caller, simulator: Simulator) -> None:
    simulator.set_fault("hang-before")
    first = caller.paint("stays", key="leaves")
    wait_until(lambda: len(simulator.generations) == 1, "the WebUI paints")
    retry = caller.paint("goes", key="leaves")
    caller.wait_for("goes", "running")
    assert caller.ask("goes", "DELETE").status_code == 204
    assert problem_of(retry.result())["code"] == "cancelled"
    caller.wait_for("goes", "cancelled")
    assert problem_of(caller.ask("goes", "DELETE"))["code"] == "request_not_found"
    simulator.clear_faults()
    assert first.result().status_code == 200


def test_cancelling_a_first_attempt_makes_its_retry_the_next(caller: Caller, simulator: Simulator) -> None:
    simulator.set_fault("hang-before", times=1)
    first = caller.paint("gives-up", key="next")
    wait_until(lambda: len(simulator.generations) == 1, "the WebUI paints")
    retry = caller.paint("takes-over", key="next")
    caller.wait_for("takes-over", "running")
    assert caller.ask("gives-up", "DELETE").status_code == 204
    assert problem_of(first.result())["code"] == "cancelled"
    simulator.clear_faults()
    answer = retry.result()
    assert (answer.status_code, answer.headers.get("Idempotency-Replayed")) == (200, None)
    assert caller.wait_for("takes-over", "done")["image_ids"] == [answer.get_json()["image_id"]]
