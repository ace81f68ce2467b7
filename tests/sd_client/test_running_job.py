"""One job's thread: when it gives its place back, and when it may interrupt."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sd_client.client import WebUIClient
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
from sd_client.job import Ending, Lease, Place
from sd_client.models import Capabilities, Hires, JobParams, UpscaleParams
from sd_client.running_job import RunningJob
from sd_client.trials import Trials
from sd_client.upscaler_trials import UpscalerTrials
from state.sqlite import STATE_FILE, SqliteStore
from tests.clock import Clock
from tests.sd_client.jobs import CAPABILITIES, job, job_request
from tests.sd_client.servers import (
    Answer,
    PaintingServer,
    Received,
    as_json,
    closed_port,
    encoded_image,
    wait_for,
)


class RecordingPlace:
    """A place that no other process sees."""

    ticket, webui = "key", "w"

    def __init__(self, *, alone: Iterable[bool] = ()) -> None:
        self.endings: list[Ending] = []
        self.counted: list[tuple[int, int]] = []
        self._alone = iter(alone)

    def is_alone(self) -> bool:
        return next(self._alone, True)

    def is_cancelled(self) -> bool:
        return False

    def abandon(self) -> None:
        """Nobody is told."""

    def disclaim(self) -> bool:
        return True

    def count(self, painted: int, pictures: int) -> None:
        self.counted.append((painted, pictures))

    def give_back(self, ending: Ending) -> None:
        self.endings.append(ending)


def running(
    url: str,
    place: RecordingPlace,
    *,
    params: JobParams | None = None,
    capabilities: Capabilities = CAPABILITIES,
    timeout_s: float = 20,
    **settings: Any,
) -> RunningJob:
    running = RunningJob(job_request(params), WebUIClient(url), capabilities, place, **settings)
    running.start(timeout_s=timeout_s)
    return running


def test_the_place_is_back_when_the_picture_is_there(painting_server: PaintingServer) -> None:
    place = RecordingPlace()
    job_thread = running(painting_server.url, place)
    assert len(job_thread.result.result(20)) == 1
    (ending,) = place.endings
    assert ending.ran_s is not None
    assert ending.webui_to_blame is None


def test_an_ended_job_is_not_interrupted(painting_server: PaintingServer) -> None:
    job_thread = running(painting_server.url, RecordingPlace())
    job_thread.result.result(20)
    job_thread.abandon()
    assert not [thread for thread in threading.enumerate() if thread.name == "interrupt"]
    assert painting_server.interrupts == 0


def test_an_abandoned_job_is_interrupted_and_its_time_does_not_count(painting_server: PaintingServer) -> None:
    painting_server.gate.clear()
    place = RecordingPlace()
    job_thread = running(painting_server.url, place)
    wait_for(lambda: painting_server.running == 1, "the job")
    job_thread.abandon()
    job_thread.result.result(20)
    assert place.endings == [Ending(ran_s=None, webui_to_blame=None)]
    assert painting_server.interrupts == 1


def test_the_place_is_not_given_back_under_an_interrupt(painting_server: PaintingServer) -> None:
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
    place = RecordingPlace()
    place.give_back = lambda ending: events.append("place given back")
    job_thread = running(painting_server.url, place)
    wait_for(lambda: painting_server.running == 1, "the job")
    job_thread.abandon()
    assert asked.wait(20)
    painting_server.gate.set()
    wait_for(lambda: painting_server.painted == 1, "the job's end")
    answer.set()
    job_thread.result.result(20)
    assert events == ["interrupt answered", "place given back"]


def test_a_job_that_is_not_alone_is_looked_at_again(painting_server: PaintingServer) -> None:
    painting_server.gate.clear()
    place = RecordingPlace(alone=[False, False])
    job_thread = running(painting_server.url, place, interrupt_again_s=0.01)
    wait_for(lambda: painting_server.running == 1, "the job")
    job_thread.abandon()
    job_thread.result.result(20)
    assert painting_server.interrupts >= 1  # once more, if the answer takes longer than the pause


ENLARGES = replace(CAPABILITIES, upscales=True, upscalers=("Sharp",), hires_upscalers=("Sharp",))
ENLARGEMENT = UpscaleParams(
    image=encoded_image((64, 64)), from_width=64, from_height=64, width=128, height=128, upscaler="Sharp"
)
SECOND_PASS = job(hires=Hires(width=128, height=128, upscaler="Sharp", steps=5, strength=0.6))


@pytest.mark.parametrize("params", [ENLARGEMENT, SECOND_PASS], ids=["a job's", "a trial's"])
def test_an_enlargement_is_not_interrupted(painting_server: PaintingServer, tmp_path: Path, params: JobParams) -> None:
    """An interrupt could end somebody else's job."""
    begun, gate = threading.Event(), threading.Event()

    def enlarge(received: Received) -> Answer:
        begun.set()
        gate.wait(20)
        return as_json({})

    painting_server.routes["POST /sdapi/v1/extra-single-image"] = enlarge
    with closing(SqliteStore(tmp_path / STATE_FILE)) as store:
        trials = UpscalerTrials(Trials(store, "upscaler", start_of=lambda webui: "its start", now=Clock()))
        place = RecordingPlace()
        job_thread = running(painting_server.url, place, params=params, capabilities=ENLARGES, upscalers=trials)
        assert begun.wait(20)
        job_thread.abandon()
        assert not [thread for thread in threading.enumerate() if thread.name == "interrupt"]
        assert not job_thread.result.done()
        gate.set()
        assert isinstance(job_thread.result.exception(20), WebUIError)
    assert (painting_server.interrupts, painting_server.jobs()) == (0, [])
    assert place.endings == [Ending(ran_s=None, webui_to_blame=None)]


TELLS_TASKS = replace(CAPABILITIES, reports_tasks=True)


def task(*, active: bool = False, queued: bool = False, completed: bool = False) -> Answer:
    return as_json({"active": active, "queued": queued, "completed": completed, "progress": None})


@pytest.mark.parametrize(
    "expected",
    [
        [task(queued=True), task(queued=True), task(active=True)],
        [task(), task(), task()],
        [Answer(status=500), Answer(status=500), Answer(status=500)],
        [task(), task(queued=True), task(active=True)],
    ],
    ids=["it waits", "our ids are not noted", "it does not tell any more", "it has only just come"],
)
def test_only_the_own_job_is_interrupted(painting_server: PaintingServer, expected: list[Answer]) -> None:
    left = iter(expected)
    asked: list[object] = []

    def answer(received: Received) -> Answer:
        assert painting_server.interrupts == 0
        asked.append(received.json["id_task"])
        return next(left)

    painting_server.routes["POST /internal/progress"] = answer
    painting_server.gate.clear()
    place = RecordingPlace()
    job_thread = running(painting_server.url, place, capabilities=TELLS_TASKS, interrupt_again_s=0.01)
    wait_for(lambda: painting_server.running == 1, "the job")
    job_thread.abandon()
    job_thread.result.result(20)
    assert painting_server.interrupts == 1
    assert asked == ["t"] * 3


def test_a_webui_that_cannot_interrupt_is_asked_once(painting_server: PaintingServer) -> None:
    painting_server.routes["POST /sdapi/v1/interrupt"] = Answer(status=404)
    painting_server.gate.clear()
    place = RecordingPlace()
    job_thread = running(painting_server.url, place)
    wait_for(lambda: painting_server.running == 1, "the job")
    job_thread.abandon()
    wait_for(lambda: not any(t.name == "interrupt" for t in threading.enumerate()), "the interrupting thread's end")
    assert place.endings == []
    painting_server.gate.set()
    job_thread.result.result(20)
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
    place = RecordingPlace()
    job_thread = running(painting_server.url, place)
    assert isinstance(job_thread.result.exception(20), error)
    assert [(ending.ran_s, ending.webui_to_blame) for ending in place.endings] == [(None, blame)]


def test_no_connection_is_the_webuis_fault() -> None:
    place = RecordingPlace()
    job_thread = running(f"http://127.0.0.1:{closed_port()}", place)
    assert isinstance(job_thread.result.exception(20), WebUIConnectError)
    assert place.endings == [Ending(ran_s=None, webui_to_blame="silent")]


def test_a_place_that_cannot_be_given_back_does_not_cost_the_picture(painting_server: PaintingServer) -> None:
    def full_disk(lease: Lease, ending: Ending) -> None:
        raise QueueUnavailableError from OSError(28, "No space left on device")

    lease = Lease(ticket="t", webui="w", switches=False, model="m", proven=True, before="", sound=False)
    job_thread = running(painting_server.url, Place(lease, None, full_disk, crowded=False))
    assert len(job_thread.result.result(20)) == 1


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


def test_a_job_is_ended_by_hanging_up_and_holds_its_place_until_the_webui_is_idle() -> None:
    server = HangUpServer()
    place = RecordingPlace()
    able = replace(CAPABILITIES, can_interrupt=False, ends_on_hang_up=True, progress_by_genkey=True)
    job_thread = running(server.url, place, capabilities=able)
    wait_for(lambda: server.running == 1, "the job")
    job_thread.abandon()
    wait_for(lambda: server.paths().count("/sdapi/v1/progress") >= 2, "looks whether it has ended")
    assert (place.endings, job_thread.result.done()) == ([], False)
    server.ended.set()
    assert isinstance(job_thread.result.exception(20), WebUIReadError)
    assert place.endings == [Ending(ran_s=None, webui_to_blame=None)]
    assert server.jobs()[0].json["genkey"] == "key"
    assert server.interrupts == 0
    server.close()


def test_where_nothing_ends_a_job_a_batch_ends_with_the_picture_that_is_painted(
    painting_server: PaintingServer,
) -> None:
    painting_server.gate.clear()
    place = RecordingPlace()
    able = replace(CAPABILITIES, can_interrupt=False, paints_batches=False)
    job_thread = running(painting_server.url, place, params=job(batch_size=3), capabilities=able)
    wait_for(lambda: painting_server.running == 1, "the first picture")
    job_thread.abandon()
    assert place.endings == []
    painting_server.gate.set()
    assert isinstance(job_thread.result.exception(20), JobCancelledError)
    assert place.endings == [Ending(ran_s=None, webui_to_blame=None)]
    assert [received.json["seed"] for received in painting_server.jobs()] == [42]
    assert place.counted == [(0, 3), (1, 3)]
    assert painting_server.interrupts == 0


def test_a_batch_that_is_painted_one_by_one_has_one_time(painting_server: PaintingServer) -> None:
    painting_server.gate.clear()
    able = replace(CAPABILITIES, can_interrupt=False, paints_batches=False)
    job_thread = running(
        painting_server.url, RecordingPlace(), params=job(batch_size=3), capabilities=able, timeout_s=0.5
    )
    assert isinstance(job_thread.result.exception(20), WebUITimeoutError)
    assert len(painting_server.jobs()) == 1
    painting_server.gate.set()
