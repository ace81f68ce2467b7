"""One job's thread: when it gives the lease back, and when it may interrupt."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from sd_client.client import JobCall, WebUIClient
from sd_client.errors import (
    InvalidAnswerError,
    JobCancelledError,
    OutOfMemoryError,
    QueueUnavailableError,
    WebUIConnectError,
    WebUIError,
    WebUIReadError,
    WebUITimeoutError,
)
from sd_client.painting import Ending, Painting
from tests.sd_client.jobs import CAPABILITIES, job
from tests.sd_client.servers import Answer, PaintingServer, Received, as_json, closed_port, wait_for


def painting_on(url: str, endings: list[Ending]) -> Painting:
    return Painting(WebUIClient(url), release=endings.append)


def start(painting: Painting) -> None:
    painting.start(job(), CAPABILITIES, task_id="t", timeout_s=20)


def test_the_lease_is_back_when_the_picture_is_there(painting_server: PaintingServer) -> None:
    endings: list[Ending] = []
    painting = painting_on(painting_server.url, endings)
    start(painting)
    assert len(painting.result.result(20)) == 1
    (ending,) = endings
    assert ending.ran_s is not None
    assert ending.webui_to_blame is None


def test_an_ended_job_is_not_interrupted(painting_server: PaintingServer) -> None:
    painting = painting_on(painting_server.url, [])
    start(painting)
    painting.result.result(20)
    painting.abandon()
    assert not [thread for thread in threading.enumerate() if thread.name == "interrupt"]
    assert painting_server.interrupts == 0


def test_an_abandoned_job_is_interrupted_and_its_time_does_not_count(painting_server: PaintingServer) -> None:
    painting_server.gate.clear()
    endings: list[Ending] = []
    painting = painting_on(painting_server.url, endings)
    start(painting)
    wait_for(lambda: painting_server.running == 1, "the job")
    painting.abandon()
    painting.result.result(20)
    assert endings == [Ending(ran_s=None, webui_to_blame=None)]
    assert painting_server.interrupts == 1


def test_the_lease_is_not_given_back_under_an_interrupt(painting_server: PaintingServer) -> None:
    """Else the interrupt could hit the job that gets the WebUI next."""
    events: list[str] = []
    asked, answer = threading.Event(), threading.Event()

    def interrupt(received: Received) -> Answer:
        asked.set()
        answer.wait(20)
        events.append("interrupt answered")
        return as_json({})

    painting_server.routes["POST /sdapi/v1/interrupt"] = interrupt
    painting_server.gate.clear()
    painting = Painting(WebUIClient(painting_server.url), release=lambda ending: events.append("lease given back"))
    start(painting)
    wait_for(lambda: painting_server.running == 1, "the job")
    painting.abandon()
    assert asked.wait(20)
    painting_server.gate.set()
    wait_for(lambda: painting_server.painted == 1, "the job's end")
    answer.set()
    painting.result.result(20)
    assert events == ["interrupt answered", "lease given back"]


def test_who_cannot_look_whether_the_job_is_alone_looks_again(painting_server: PaintingServer) -> None:
    looks = iter([QueueUnavailableError(), False])

    def alone() -> bool:
        look = next(looks, True)
        if isinstance(look, QueueUnavailableError):
            raise look
        return look

    painting_server.gate.clear()
    painting = Painting(WebUIClient(painting_server.url), release=lambda _: None, alone=alone, interrupt_again_s=0.01)
    start(painting)
    wait_for(lambda: painting_server.running == 1, "the job")
    painting.abandon()
    painting.result.result(20)
    assert painting_server.interrupts == 1


TELLS_TASKS = replace(CAPABILITIES, tells_tasks=True)


def task(*, active: bool = False, queued: bool = False, completed: bool = False) -> Answer:
    return as_json({"active": active, "queued": queued, "completed": completed, "progress": None})


@pytest.mark.parametrize(
    "told",
    [
        [task(queued=True), task(queued=True), task(active=True)],
        [task(), task(), task()],
        [Answer(status=500), Answer(status=500), Answer(status=500)],
        [task(), task(queued=True), task(active=True)],
    ],
    ids=["it waits", "our ids are not noted", "it does not tell any more", "it has only just come"],
)
def test_only_the_own_job_is_interrupted(painting_server: PaintingServer, told: list[Answer]) -> None:
    left = iter(told)
    asked: list[object] = []

    def answer(received: Received) -> Answer:
        assert painting_server.interrupts == 0
        asked.append(received.json["id_task"])
        return next(left)

    painting_server.routes["POST /internal/progress"] = answer
    painting_server.gate.clear()
    painting = Painting(WebUIClient(painting_server.url), release=lambda _: None, interrupt_again_s=0.01)
    painting.start(job(), TELLS_TASKS, task_id="ours", timeout_s=20)
    wait_for(lambda: painting_server.running == 1, "the job")
    painting.abandon()
    painting.result.result(20)
    assert painting_server.interrupts == 1
    assert asked == ["ours"] * 3


def test_a_webui_that_cannot_interrupt_is_asked_once(painting_server: PaintingServer) -> None:
    painting_server.routes["POST /sdapi/v1/interrupt"] = Answer(status=404)
    painting_server.gate.clear()
    endings: list[Ending] = []
    painting = painting_on(painting_server.url, endings)
    start(painting)
    wait_for(lambda: painting_server.running == 1, "the job")
    painting.abandon()
    wait_for(lambda: not any(t.name == "interrupt" for t in threading.enumerate()), "the interrupting thread's end")
    assert endings == []
    painting_server.gate.set()
    painting.result.result(20)
    assert painting_server.paths().count("/sdapi/v1/interrupt") == 1


@pytest.mark.parametrize(
    ("answer", "error", "blame"),
    [
        (as_json({"error": "NansException"}, 500), WebUIError, "answered"),
        (as_json({"error": "OutOfMemoryError"}, 500), OutOfMemoryError, "memory"),
        (as_json({"images": []}), InvalidAnswerError, "answered"),
        (Answer(body=b"abcd", headers={"Content-Encoding": "gzip"}), WebUIReadError, "silent"),
    ],
)
def test_whom_a_failure_tells_about(
    painting_server: PaintingServer, answer: Answer, error: type[WebUIError], blame: str | None
) -> None:
    painting_server.routes["POST /sdapi/v1/txt2img"] = answer
    endings: list[Ending] = []
    painting = painting_on(painting_server.url, endings)
    start(painting)
    assert isinstance(painting.result.exception(20), error)
    assert [(ending.ran_s, ending.webui_to_blame) for ending in endings] == [(None, blame)]


def test_no_connection_is_the_webuis_fault() -> None:
    endings: list[Ending] = []
    painting = painting_on(f"http://127.0.0.1:{closed_port()}", endings)
    start(painting)
    assert isinstance(painting.result.exception(20), WebUIConnectError)
    assert endings == [Ending(ran_s=None, webui_to_blame="silent")]


def test_a_lease_that_cannot_be_given_back_does_not_cost_the_picture(painting_server: PaintingServer) -> None:
    def full_disk(ending: Ending) -> None:
        raise QueueUnavailableError

    painting = Painting(WebUIClient(painting_server.url), release=full_disk)
    start(painting)
    assert len(painting.result.result(20)) == 1


# --- Servers that cannot interrupt ----------------------------------------------------------------------------------


class HangUpServer(PaintingServer):
    """Tells the progress of the job whose key is named, and ends it a while after its client has gone."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.clear()
        self.ended = threading.Event()
        self.routes["GET /sdapi/v1/progress"] = self._progress

    def _progress(self, received: Received) -> Answer:
        running = "genkey=key" in received.path and not self.ended.is_set()
        return as_json({"progress": 0.5 if running else 0.0, "state": {"job_count": int(running)}})


def test_a_job_is_ended_by_hanging_up_and_holds_its_lease_until_the_webui_is_idle() -> None:
    server = HangUpServer()
    endings: list[Ending] = []
    painting = Painting(WebUIClient(server.url), release=endings.append, call=JobCall(genkey="key"))
    able = replace(CAPABILITIES, can_interrupt=False, ends_on_hang_up=True, progress_by_genkey=True)
    painting.start(job(), able, task_id="t", timeout_s=20)
    wait_for(lambda: server.running == 1, "the job")
    painting.abandon()
    wait_for(lambda: server.paths().count("/sdapi/v1/progress") >= 2, "looks whether it has ended")
    assert (endings, painting.result.done()) == ([], False)
    server.ended.set()
    assert isinstance(painting.result.exception(20), WebUIReadError)
    assert endings == [Ending(ran_s=None, webui_to_blame=None)]
    assert server.jobs()[0].json["genkey"] == "key"
    assert server.interrupts == 0
    server.close()


def test_where_nothing_ends_a_job_a_batch_ends_with_the_picture_that_is_painted(
    painting_server: PaintingServer,
) -> None:
    painting_server.gate.clear()
    counted: list[tuple[int, int]] = []
    endings: list[Ending] = []
    call = JobCall(on_painted=lambda painted, pictures: counted.append((painted, pictures)))
    painting = Painting(WebUIClient(painting_server.url), release=endings.append, call=call)
    able = replace(CAPABILITIES, can_interrupt=False, paints_batches=False)
    painting.start(job(batch_size=3), able, task_id="t", timeout_s=20)
    wait_for(lambda: painting_server.running == 1, "the first picture")
    painting.abandon()
    assert endings == []
    painting_server.gate.set()
    assert isinstance(painting.result.exception(20), JobCancelledError)
    assert endings == [Ending(ran_s=None, webui_to_blame=None)]
    assert [received.json["seed"] for received in painting_server.jobs()] == [42]
    assert counted == [(0, 3), (1, 3)]
    assert painting_server.interrupts == 0


def test_a_batch_that_is_painted_one_by_one_has_one_time(painting_server: PaintingServer) -> None:
    painting_server.gate.clear()
    painting = painting_on(painting_server.url, [])
    able = replace(CAPABILITIES, can_interrupt=False, paints_batches=False)
    painting.start(job(batch_size=3), able, task_id="t", timeout_s=0.5)
    assert isinstance(painting.result.exception(20), WebUITimeoutError)
    assert len(painting_server.jobs()) == 1
    painting_server.gate.set()
