"""Jobs over one and several WebUIs, with real servers and a real folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sd_client import schedule
from sd_client.errors import (
    DrainingError,
    JobCancelledError,
    LimitError,
    NoGPUError,
    NoWebUIError,
    QueueFullError,
    QueueTimeoutError,
    WebUIError,
    WebUIReadError,
    WebUIStatusError,
    WebUITimeoutError,
)
from sd_client.models import Checkpoint, GenerationParams, PaintedImage
from sd_client.pool import WebUIPool
from sd_client.queue import KEEP_S
from sd_client.routing import GpuPolicy, candidates, webui_id
from sd_client.shared_schedule import ScheduleJson
from sd_client.states import WebUIState
from state.sqlite import STATE_FILE, SqliteStore
from tests.pools import OwnPool, stored_schedule
from tests.sd_client.jobs import CAPABILITIES, INIT_IMAGE, INPAINTING, job, job_request
from tests.sd_client.servers import (
    A1111_CPU,
    A1111_CUDA,
    Answer,
    PaintingServer,
    Received,
    WebServer,
    as_json,
    closed_port,
    wait_for,
)

Images = tuple[PaintedImage, ...]


class CallerLeftError(Exception):
    """What the caller's check raises."""


class Site:
    """Makes servers and pools on one folder, and closes them; runs jobs in threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list[PaintingServer] = []
        self._pools: list[WebUIPool] = []
        self._threads = ThreadPoolExecutor(24)
        self._number = 0

    def server(self, *, memory: object = A1111_CUDA, held: bool = False) -> PaintingServer:
        server = PaintingServer(memory=memory)
        if held:
            server.gate.clear()
        self._servers.append(server)
        return server

    def pool(self, *servers: WebServer, urls: tuple[str, ...] = (), **settings: Any) -> WebUIPool:
        defaults: dict[str, Any] = {"slots": 1, "queue_limit": 20, "use_gpu": True, "cpu_fallback": True}
        pool = OwnPool([server.url for server in servers] + list(urls), folder=self._folder, **(defaults | settings))
        self._pools.append(pool)
        pool.start()
        assert pool.ready_view().states
        return pool

    def submit(self, pool: WebUIPool, params: GenerationParams | None = None, **kwargs: Any) -> Future[Images]:
        return self._threads.submit(self.run, pool, params, **kwargs)

    def run(self, pool: WebUIPool, params: GenerationParams | None = None, **kwargs: Any) -> Images:
        self._number += 1
        kwargs = {"task_id": f"t{self._number}", "since": pool.now(), **kwargs}
        return pool.run(job_request(params, **kwargs))

    def close(self) -> None:
        for server in self._servers:
            server.gate.set()
        self._threads.shutdown(wait=True)
        for pool in self._pools:
            wait_for(lambda pool=pool: not pool.view().schedule.running, "the end of all jobs")
            pool.close()
        for server in self._servers:
            server.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def running(pool: WebUIPool) -> int:
    return len(pool.view().schedule.running)


def waiting(pool: WebUIPool) -> int:
    return len(pool.view().schedule.waiting)


# --- One WebUI ------------------------------------------------------------------------------------------------------


def test_a_job_is_painted(site: Site) -> None:
    server = site.server()
    pool = site.pool(server)
    images = site.run(pool, job(batch_size=2), task_id="mine")
    assert [image.seed for image in images] == [42, 43]
    assert [received.json["force_task_id"] for received in server.jobs()] == ["mine"]
    assert (running(pool), waiting(pool)) == (0, 0)
    assert pool.view().schedule.job_seconds is not None


@pytest.mark.parametrize(
    ("params", "path"),
    [
        (job(), "/sdapi/v1/txt2img"),
        (job(init_image=INIT_IMAGE, strength=0.5), "/sdapi/v1/img2img"),
        (job(init_image=INIT_IMAGE, strength=0.5, inpainting=INPAINTING), "/sdapi/v1/img2img"),
    ],
)
def test_each_kind_of_job_has_its_route(site: Site, params: GenerationParams, path: str) -> None:
    server = site.server()
    site.run(site.pool(server), params)
    assert [received.path for received in server.jobs()] == [path]


def test_one_at_a_time_over_two_workers(site: Site) -> None:
    server = site.server()
    pools = [site.pool(server), site.pool(server)]
    jobs = [site.submit(pools[number % 2], job(seed=number)) for number in range(10)]
    assert [result.result(30)[0].seed for result in jobs] == list(range(10))
    assert server.most_at_once == 1
    assert server.painted == 10
    assert server.interrupts == 0


def test_two_slots_are_two_at_a_time(site: Site) -> None:
    server = site.server(held=True)
    pools = [site.pool(server, slots=2), site.pool(server, slots=2)]
    jobs = [site.submit(pools[number % 2]) for number in range(5)]
    wait_for(lambda: server.running == 2 and waiting(pools[0]) == 3, "two jobs running, three waiting")
    server.gate.set()
    for result in jobs:
        result.result(30)
    assert server.most_at_once == 2


def test_first_come_first_served_over_two_workers(site: Site) -> None:
    server = site.server(held=True)
    pools = [site.pool(server), site.pool(server)]
    jobs = []
    for number in range(6):
        jobs.append(site.submit(pools[number % 2], job(seed=number)))
        wait_for(lambda number=number: waiting(pools[0]) + running(pools[0]) == number + 1, "the job in the queue")
    server.gate.set()
    for result in jobs:
        result.result(30)
    assert [received.json["seed"] for received in server.jobs()] == list(range(6))


def test_the_queue_has_a_limit_over_all_workers(site: Site) -> None:
    server = site.server(held=True)
    one, other = (site.pool(server, queue_limit=1) for _ in range(2))
    first = site.submit(one)
    wait_for(lambda: server.running == 1, "the first job")
    second = site.submit(one)
    wait_for(lambda: waiting(other) == 1, "the second job in the queue")
    with pytest.raises(QueueFullError) as caught:
        site.run(other)
    assert caught.value.retry_after_s >= 1
    server.gate.set()
    assert first.result(30)
    assert second.result(30)
    assert server.painted == 2


def test_no_queue_at_all(site: Site) -> None:
    server = site.server(held=True)
    pool = site.pool(server, queue_limit=0)
    first = site.submit(pool)
    wait_for(lambda: server.running == 1, "the first job")
    with pytest.raises(QueueFullError):
        site.run(pool)
    server.gate.set()
    assert first.result(30)


def test_what_no_webui_can_do_is_left_to_the_job_itself_where_the_queue_is_full(site: Site) -> None:
    server = site.server(held=True)
    pool = site.pool(server, queue_limit=0)
    first = site.submit(pool)
    wait_for(lambda: server.running == 1, "the first job")
    with pytest.raises(QueueFullError):
        pool.check_room(job_request(since=pool.now()))
    pool.check_room(job_request(job(width=68), since=pool.now()))
    server.gate.set()
    assert first.result(30)


def test_an_idle_process_leaves_the_schedule_alone(site: Site, tmp_path: Path) -> None:
    site.pool(site.server())
    time.sleep(2 * KEEP_S)
    assert SqliteStore(tmp_path / STATE_FILE).get("pool:schedule") is None


@pytest.mark.parametrize("wait_s", [0, 0.05])
def test_a_job_that_waits_too_long_is_never_sent(site: Site, wait_s: float) -> None:
    server = site.server(held=True)
    pool = site.pool(server)
    first = site.submit(pool)
    wait_for(lambda: server.running == 1, "the first job")
    with pytest.raises(QueueTimeoutError) as caught:
        site.run(pool, wait_s=wait_s)
    assert caught.value.retry_after_s >= 1
    assert waiting(pool) == 0
    server.gate.set()
    assert first.result(30)
    assert len(server.jobs()) == 1


def test_without_time_to_wait_an_idle_webui_is_still_taken(site: Site) -> None:
    assert site.run(site.pool(site.server()), wait_s=0)


def test_errors_of_the_webui_rise_and_free_it(site: Site) -> None:
    server = site.server()
    pool = site.pool(server)
    paint = server.routes["POST /sdapi/v1/txt2img"]
    server.routes["POST /sdapi/v1/txt2img"] = as_json({"error": "NansException", "detail": ""}, 500)
    with pytest.raises(WebUIStatusError):
        site.run(pool)
    assert running(pool) == 0
    server.routes["POST /sdapi/v1/txt2img"] = paint
    assert site.run(pool)


# --- Deadlines and callers that leave -------------------------------------------------------------------------------


def test_at_its_deadline_a_job_is_interrupted_and_its_webui_stays_taken_until_it_answers(site: Site) -> None:
    server = site.server(held=True)
    server.heeds_interrupts = False
    pool, other = site.pool(server), site.pool(server)
    with pytest.raises(WebUITimeoutError):
        site.run(pool, run_s=2)
    wait_for(lambda: server.interrupts >= 1, "the interrupt")
    assert (running(pool), running(other)) == (1, 1)
    with pytest.raises(QueueTimeoutError):
        site.run(other, wait_s=0)
    server.gate.set()
    assert site.run(other)
    assert server.most_at_once == 1
    assert server.interrupts_while_idle == 0


def test_an_interrupt_that_is_heeded_frees_the_webui(site: Site) -> None:
    server = site.server(held=True)
    pool = site.pool(server)
    with pytest.raises(WebUITimeoutError):
        site.run(pool, run_s=0.1)
    wait_for(lambda: running(pool) == 0, "the WebUI free")
    assert (server.painted, server.interrupts) == (1, 1)


def test_the_whole_time_may_be_shorter_than_both_parts(site: Site) -> None:
    server = site.server(held=True)
    pool = site.pool(server)
    with pytest.raises(WebUITimeoutError):
        site.run(pool, wait_s=3600, run_s=3600, total_s=0.3)
    wait_for(lambda: running(pool) == 0, "the WebUI free")
    server.heeds_interrupts = False
    first = site.submit(pool)
    wait_for(lambda: server.running == 1, "a job")
    with pytest.raises(QueueTimeoutError):
        site.run(pool, wait_s=3600, run_s=3600, total_s=0.1)
    server.gate.set()
    first.result(30)


def test_a_webui_that_never_answers_is_given_up_after_as_long_again(site: Site) -> None:
    server = site.server(held=True)
    server.heeds_interrupts = False
    pool = site.pool(server)
    with pytest.raises(WebUITimeoutError):
        site.run(pool, run_s=0.4)
    wait_for(lambda: running(pool) == 0, "the lease given up")
    assert server.running == 1


def leave() -> None:
    raise CallerLeftError


def test_a_caller_that_leaves_while_waiting_is_dropped(site: Site) -> None:
    server = site.server(held=True)
    pool = site.pool(server)
    first = site.submit(pool)
    wait_for(lambda: server.running == 1, "the first job")
    with pytest.raises(CallerLeftError):
        site.run(pool, check=leave)
    assert waiting(pool) == 0
    assert server.interrupts == 0
    server.gate.set()
    assert first.result(30)
    assert len(server.jobs()) == 1


def test_a_caller_that_leaves_while_its_job_runs_interrupts_it(site: Site) -> None:
    server = site.server(held=True)
    pool = site.pool(server)
    with pytest.raises(CallerLeftError):
        site.run(pool, check=leave)
    wait_for(lambda: running(pool) == 0, "the WebUI free")
    assert (server.interrupts, server.painted) == (1, 1)


def test_a_job_can_be_cancelled_by_another_worker(site: Site) -> None:
    server = site.server(held=True)
    pool, other = site.pool(server), site.pool(server)
    first = site.submit(pool, request="first")
    wait_for(lambda: server.running == 1, "the first job")
    second = site.submit(pool, request="second")
    wait_for(lambda: waiting(other) == 1, "the second job")
    assert other.cancel("second")
    with pytest.raises(JobCancelledError):
        second.result(30)
    assert server.interrupts == 0
    assert other.cancel("first")
    with pytest.raises(JobCancelledError):
        first.result(30)
    wait_for(lambda: running(pool) == 0, "the WebUI free")
    assert not other.cancel("first")
    assert len(server.jobs()) == 1


def test_the_status_of_a_job(site: Site) -> None:
    server = site.server(held=True)
    pool, other = site.pool(server), site.pool(server)
    first = site.submit(pool, request="first")
    wait_for(lambda: server.running == 1, "the first job")
    second = site.submit(pool, request="second")
    wait_for(lambda: waiting(other) == 1, "the second job")
    server.routes["GET /sdapi/v1/progress"] = as_json({"progress": 0.5, "eta_relative": 3.0})
    status = other.status("first")
    assert status is not None
    assert (status.waiting_behind, status.progress) == (None, 0.5)
    behind = other.status("second")
    assert behind is not None
    assert (behind.waiting_behind, behind.progress) == (0, 0.0)
    assert other.status("third") is None
    server.gate.set()
    first.result(30)
    second.result(30)
    assert other.status("first") is None


def test_draining_drops_who_waits_and_lets_end_who_runs(site: Site) -> None:
    server = site.server(held=True)
    pool = site.pool(server)
    first = site.submit(pool)
    wait_for(lambda: server.running == 1, "the first job")
    second = site.submit(pool)
    wait_for(lambda: waiting(pool) == 1, "the second job")
    pool.drain()
    with pytest.raises(DrainingError):
        second.result(30)
    with pytest.raises(DrainingError):
        site.run(pool)
    server.gate.set()
    assert first.result(30)
    assert pool.view().draining


# --- The schedule is lost -------------------------------------------------------------------------------------------


def test_jobs_survive_the_loss_of_the_schedule(site: Site, tmp_path: Path) -> None:
    server = site.server(held=True)
    pool, other = site.pool(server), site.pool(server)
    first = site.submit(pool)
    wait_for(lambda: server.running == 1, "the first job")
    second = site.submit(other)
    wait_for(lambda: waiting(pool) == 1, "the second job")
    (tmp_path / STATE_FILE).unlink()
    wait_for(lambda: (running(pool), waiting(pool)) == (1, 1), "both jobs put back")
    server.gate.set()
    assert first.result(30)
    assert second.result(30)
    assert server.most_at_once == 1


def test_a_job_waits_for_what_can_do_it_whatever_schedule_comes_back(site: Site, tmp_path: Path) -> None:
    """As from a Redis that was cut off, and has what nobody could do then."""
    server, store = site.server(held=True), SqliteStore(tmp_path / STATE_FILE)
    pool = site.pool(server)
    jobs = [site.submit(pool) for _ in range(2)]
    wait_for(lambda: server.running == 1 and waiting(pool) == 1, "one job running, one waiting")

    def with_none(raw: bytes | None) -> bytes:
        state = ScheduleJson().load(raw)
        return ScheduleJson().dump(schedule.retarget(state, {job.ticket: () for job in state.waiting}))

    for _ in range(2):  # the first time may be before any judgement
        store.update("pool:schedule", with_none, ttl_s=60)
        wait_for(lambda: all(job.webuis for job in stored_schedule(store).waiting), "its WebUI named again")
    server.gate.set()
    for result in jobs:
        assert result.result(30)


# --- Several WebUIs -------------------------------------------------------------------------------------------------


def test_two_webuis_paint_at_the_same_time(site: Site) -> None:
    servers = [site.server(held=True), site.server(held=True)]
    pool = site.pool(*servers)
    jobs = [site.submit(pool) for _ in range(4)]
    wait_for(lambda: [server.running for server in servers] == [1, 1], "a job on each")
    for server in servers:
        server.gate.set()
    for result in jobs:
        result.result(30)
    assert [server.most_at_once for server in servers] == [1, 1]


def test_jobs_of_an_unreachable_webui_go_to_another_one(site: Site) -> None:
    lost, server = site.server(), site.server(held=True)
    pool = site.pool(lost, server)
    lost.close()
    jobs = [site.submit(pool) for _ in range(2)]
    wait_for(lambda: server.running == 1, "a job")
    wait_for(lambda: not pool.view().states[webui_id(lost.url)].available, "the other one found missing")
    server.gate.set()
    for result in jobs:
        assert result.result(30)
    assert server.painted == 2
    assert lost.jobs() == []


def test_every_webui_is_tried_once_at_most(site: Site) -> None:
    servers = [site.server() for _ in range(3)]
    pool = site.pool(*servers)
    for server in servers:
        server.close()
    with pytest.raises(NoWebUIError) as caught:
        site.run(pool)
    assert caught.value.retry_after_s >= 1
    assert (running(pool), waiting(pool)) == (0, 0)


def test_a_lost_answer_is_never_sent_again(site: Site) -> None:
    lossy, other = site.server(), site.server()
    pool = site.pool(lossy, other)
    for server in (lossy, other):
        server.routes["POST /sdapi/v1/txt2img"] = Answer(body=b"abcd", headers={"Content-Encoding": "gzip"})
    with pytest.raises(WebUIReadError):
        site.run(pool)
    assert len(lossy.jobs()) + len(other.jobs()) == 1


def test_a_job_goes_where_its_model_is(site: Site) -> None:
    usual, special = site.server(), site.server()
    model = {"title": "special.ckpt", "model_name": "special", "hash": None, "filename": "special.ckpt"}
    special.routes["GET /sdapi/v1/sd-models"] = as_json([model])

    def paint(received: Received) -> Answer:
        answer = special._paint(received)
        return Answer(body=answer.body.replace(b"v1-5-pruned-emaonly", b"special").replace(b"6ce0161689", b""))

    special.routes["POST /sdapi/v1/txt2img"] = paint
    pool = site.pool(usual, special)
    assert site.run(pool, job(checkpoint=Checkpoint(title="special.ckpt", model_name="special")))
    assert site.run(pool)
    assert (len(usual.jobs()), len(special.jobs())) == (1, 1)


def test_jobs_for_the_same_webuis_name_them_in_one_order() -> None:
    """Processes see them in different ones, and each set is written once."""
    seen = {webui: WebUIState(available=True, seen=0.0, capabilities=CAPABILITIES) for webui in ("b", "c", "a")}
    policy = GpuPolicy(use_gpu=False, cpu_fallback=True)
    found = {candidates(job_request(), states, (), policy, {}) for states in (seen, dict(reversed(seen.items())))}
    assert found == {("a", "b", "c")}


@pytest.mark.parametrize(
    ("params", "error"),
    [
        (job(checkpoint=Checkpoint(title="unknown.ckpt", model_name="unknown")), NoWebUIError),
        (job(sampler="PLMS"), NoWebUIError),
        (job(scheduler="beta"), NoWebUIError),
        (job(width=68), LimitError),
        (job(seed=2**63), NoWebUIError),
        (job(seed=2**63 - 2, batch_size=3), NoWebUIError),
    ],
)
def test_what_no_webui_can_do_is_never_sent(site: Site, params: GenerationParams, error: type[WebUIError]) -> None:
    server = site.server()
    with pytest.raises(error):
        site.run(site.pool(server), params)
    assert server.jobs() == []


def test_without_any_webui(site: Site) -> None:
    pool = site.pool(urls=(f"http://127.0.0.1:{closed_port()}",))
    with pytest.raises(NoWebUIError):
        site.run(pool)
    view = pool.view()
    assert (view.total, view.capabilities()) == (1, ())


# --- GPU and CPU ----------------------------------------------------------------------------------------------------

DOES_NOT_TELL = {"ram": {}}


@pytest.mark.parametrize(
    ("use_gpu", "cpu_fallback", "memories", "painters"),
    [
        (True, True, [A1111_CUDA, A1111_CPU], {0}),
        (True, True, [A1111_CPU, A1111_CUDA], {1}),
        (True, True, [A1111_CPU], {0}),
        (True, True, [DOES_NOT_TELL, A1111_CPU], {0}),
        (True, False, [A1111_CPU, A1111_CUDA], {1}),
        (True, False, [DOES_NOT_TELL], {0}),
        (True, False, [A1111_CPU], set()),
        (False, True, [A1111_CPU, A1111_CUDA], {0, 1}),
        (False, False, [A1111_CPU], {0}),
    ],
)
def test_gpu_rules(site: Site, use_gpu: bool, cpu_fallback: bool, memories: list[object], painters: set[int]) -> None:
    servers = [site.server(memory=memory, held=True) for memory in memories]
    pool = site.pool(*servers, use_gpu=use_gpu, cpu_fallback=cpu_fallback)
    assert {
        number for number, s in enumerate(servers) if webui_id(s.url) in pool.usable(pool.view().states)
    } == painters
    if not painters:
        with pytest.raises(NoGPUError):
            site.run(pool)
        return
    jobs = [site.submit(pool) for _ in range(len(painters) + 1)]
    busy = [int(number in painters) for number in range(len(servers))]
    wait_for(lambda: [server.running for server in servers] == busy and waiting(pool) == 1, "one job on each")
    for server in servers:
        server.gate.set()
    for result in jobs:
        result.result(30)
    assert {number for number, server in enumerate(servers) if server.jobs()} == painters


@pytest.mark.parametrize("cpu_fallback", [True, False])
def test_the_cpu_serves_when_the_gpu_is_away(site: Site, cpu_fallback: bool) -> None:
    gpu, cpu = site.server(), site.server(memory=A1111_CPU)
    pool = site.pool(gpu, cpu, cpu_fallback=cpu_fallback)
    gpu.close()
    if cpu_fallback:
        assert site.run(pool)
        assert len(cpu.jobs()) == 1
    else:
        with pytest.raises(NoGPUError):
            site.run(pool)
        assert cpu.jobs() == []


# --- Names and views ------------------------------------------------------------------------------------------------


def test_a_webuis_name_gives_nothing_away() -> None:
    name = webui_id("http://user:secret@gpu.example:7860/sd/")
    assert name == webui_id("http://gpu.example:7860/sd") == webui_id("http://other:words@gpu.example:7860/sd")
    assert name != webui_id("http://gpu.example:7861/sd")
    assert webui_id("http://localhost:7860") == webui_id("http://127.0.0.1:7860/") == webui_id("http://[::1]:7860")
    assert webui_id("http://gpu.example") == webui_id("http://GPU.example:80") != webui_id("https://gpu.example")
    assert len(name) == 12
    assert set(name) <= set("0123456789abcdef")


def test_a_pool_that_was_not_started_has_seen_nothing(site: Site, tmp_path: Path) -> None:
    server = site.server()
    pool = OwnPool([server.url], slots=1, queue_limit=1, folder=tmp_path / "other", use_gpu=True, cpu_fallback=True)
    view = pool.view()
    assert (view.states, view.total, view.draining) == ({}, 1, False)
    assert server.received == []
    pool.close()


def test_concurrent_callers_of_many_kinds_lose_no_webui(site: Site) -> None:
    """Whatever callers do, in the end all leases are back and no two jobs ran on one WebUI."""
    servers = [site.server(), site.server()]
    pools = [site.pool(*servers), site.pool(*servers)]
    kinds: list[Callable[[int], Future[Images]]] = [
        lambda n: site.submit(pools[n % 2]),
        lambda n: site.submit(pools[n % 2], wait_s=0),
        lambda n: site.submit(pools[n % 2], total_s=0.005),
        lambda n: site.submit(pools[n % 2], total_s=0.02),
    ]
    results = [kinds[number % 4](number) for number in range(32)]
    outcomes = [result.exception(60) for result in results]
    assert [e for e in outcomes if not isinstance(e, QueueTimeoutError | WebUITimeoutError | None)] == []
    assert [outcomes[number] for number in range(0, 32, 4)] == [None] * 8
    wait_for(lambda: running(pools[0]) == 0, "all leases back")
    assert [server.most_at_once for server in servers] == [1, 1]
