"""A reload costs no caller anything; a stop takes as long as its jobs, and lets nobody hang meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from simulator import Simulator
from tests.hostile.innocent import SMALL, Calls, assert_nothing_noticed, innocent_callers
from tests.hostile.wire import HEALTH, connect, head, rest_of
from tests.running import DEADLINE_S, Service, free_port, started, wait_until

GUNICORN = str(Path(sys.executable).with_name("gunicorn"))


@contextmanager
def listening(
    folder: Path, webui: Simulator, command: Sequence[str] = (GUNICORN, "stable_diffusion_api:app")
) -> Iterator[Service]:
    """On a socket that nobody else has: one that all have closed refuses."""
    port = free_port()
    whole = [*command, "-b", f"127.0.0.1:{port}", "-p", str(folder / "pid")]
    with started(whole, folder, port, SD_WEBUI_URL=webui.url) as service:
        service.wait_until_answering()
        yield service
        assert "Traceback" not in service.printed


@pytest.fixture
def held(simulator: Simulator) -> Iterator[Simulator]:
    """Its first job runs until its faults are cleared."""
    simulator.set_fault("hang-before", times=1)
    yield simulator
    simulator.clear_faults()


def workers_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def wait_for_a_worker_younger_than(service: Service, begun: float) -> None:
    """Until one serves that has started since then, by ``time.monotonic``."""

    def serves() -> bool:
        return bool(service.get("/health").json()["uptime_seconds"] < time.monotonic() - begun)

    wait_until(serves, "a new worker serves")


def test_a_reload_while_a_job_runs(held: Simulator, tmp_path: Path) -> None:
    with listening(tmp_path, held) as service, ThreadPoolExecutor(2) as threads:
        old = workers_of(service.process.pid)
        running = threads.submit(service.post, "/txt2img", SMALL)
        wait_until(lambda: len(held.generations) == 1, "the job runs")
        waiting = threads.submit(service.post, "/txt2img", SMALL)
        wait_until(lambda: service.get("/health").json()["queue"]["waiting"] == 1, "another one waits")
        with innocent_callers(service.root) as (health, jobs):
            begun = time.monotonic()
            service.process.send_signal(signal.SIGHUP)
            wait_for_a_worker_younger_than(service, begun)
            held.clear_faults()
            wait_until(lambda: not workers_of(service.process.pid) & old, "the workers are new")
            health.wait_for(10)
        assert [job.result().status_code for job in (running, waiting)] == [200, 200]
        assert_nothing_noticed(health)
        assert set(jobs.answers) == {200}


def test_reloads_that_overtake_each_other(simulator: Simulator, tmp_path: Path) -> None:
    """A worker that is stopped while it still starts takes no callers."""
    with listening(tmp_path, simulator) as service, innocent_callers(service.root) as calls:
        for _ in range(3):
            old = workers_of(service.process.pid)
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda old=old: bool(workers_of(service.process.pid) - old), "new workers start")  # type: ignore[misc]
            time.sleep(0.5)
        wait_until(lambda: not workers_of(service.process.pid) & old, "the workers are new")
        calls[0].wait_for(10)
    assert_nothing_noticed(*calls)


def test_one_worker_is_stopped(held: Simulator, tmp_path: Path) -> None:
    with listening(tmp_path, held) as service, ThreadPoolExecutor(1) as thread:
        old = workers_of(service.process.pid)
        job = thread.submit(service.post, "/txt2img", SMALL)
        wait_until(lambda: len(held.generations) == 1, "the job runs")
        with innocent_callers(service.root) as (health, _):
            begun = time.monotonic()
            os.kill(min(old), signal.SIGTERM)
            health.wait_for(10)
            held.clear_faults()
            wait_until(lambda: min(old) not in workers_of(service.process.pid), "it has ended")
            wait_for_a_worker_younger_than(service, begun)
            health.wait_for(10)
        assert job.result().status_code == 200
        assert_nothing_noticed(health)


def test_an_upgrade_that_is_taken_back_and_one_that_stays(simulator: Simulator, tmp_path: Path) -> None:
    """USR2, and TERM to either of the two once the new one serves."""
    with listening(tmp_path, simulator) as service, innocent_callers(service.root) as calls:
        taken_back = upgraded(service)
        os.kill(taken_back, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{taken_back}").exists(), "the new gunicorn has ended")
        new = upgraded(service)
        leave_to_the_new_one(service, calls)
    end(new)
    assert_nothing_noticed(*calls)


def test_an_upgrade_of_what_python_started(simulator: Simulator, tmp_path: Path) -> None:
    command = [sys.executable, "stable_diffusion_api.py"]
    with listening(tmp_path, simulator, command) as service, innocent_callers(service.root) as calls:
        new = upgraded(service)
        leave_to_the_new_one(service, calls)
    end(new)
    assert_nothing_noticed(*calls)


def upgraded(service: Service) -> int:
    """The new gunicorn, once a worker of it serves."""
    service.process.send_signal(signal.SIGUSR2)
    pid = service.folder / "pid.2"
    wait_until(pid.exists, "a new gunicorn runs")  # a worker of the old one may have started just now
    wait_for_a_worker_younger_than(service, time.monotonic())
    return int(pid.read_text())


def leave_to_the_new_one(service: Service, calls: tuple[Calls, Calls]) -> None:
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(DEADLINE_S) == 0
    for kind in calls:
        kind.wait_for(5)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_running(pid), "it has ended")


def is_running(pid: int) -> bool:
    """A zombie is not: who would reap it may be no init."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_stop_waits_for_no_silent_connection(simulator: Simulator, tmp_path: Path) -> None:
    with listening(tmp_path, simulator) as service, connect(service.port), connect(service.port) as half:
        half.sendall(b"GET / HT")
        kept = requests.Session()
        assert kept.get(f"{service.url}/health", timeout=DEADLINE_S).status_code == 200
        begun = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(DEADLINE_S) == 0
        assert time.monotonic() - begun < 15, "it took more than a minute for a connection that was never used"
        kept.close()


def test_nobody_hangs_while_it_stops(held: Simulator, tmp_path: Path) -> None:
    with listening(tmp_path, held) as service, ThreadPoolExecutor(1) as thread, connect(service.port) as early:
        job = thread.submit(service.post, "/txt2img", SMALL)
        wait_until(lambda: len(held.generations) == 1, "the job runs")
        service.process.send_signal(signal.SIGTERM)
        answers: list[int | None] = []
        while service.process.poll() is None:
            try:
                answers.append(requests.get(service.root + HEALTH, timeout=5).status_code)
            except requests.ConnectionError:
                answers.append(None)
            if answers.count(503) == 5:
                held.clear_faults()
            time.sleep(0.05)
        assert job.result().status_code == 200
        assert set(answers) <= {200, 503, None}
        assert 503 in answers, "as long as the job runs they are told"
        early.sendall(head("GET", HEALTH))
        assert rest_of(early) == b""
