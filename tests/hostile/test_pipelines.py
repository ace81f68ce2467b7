"""Callers who ask and ask, and never read an answer."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from simulator import Simulator
from tests.hostile.innocent import assert_nothing_noticed, innocent_callers
from tests.hostile.wire import connect, head, is_reset, rest_of
from tests.running import ROOT, Service, started, wait_until

#: Of some 20 kB, and more of them than the system keeps for a caller (4 MB on Linux).
PAGE = head("GET", "/docs/errors")
MANY = 400
THREADS = 20


@contextmanager
def few_threads(folder: Path, webui: Simulator, worker: str = "api.worker.Worker") -> Iterator[Service]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "gunicorn", "-w", "1", "-b", f"fd://{listener.fileno()}", "-k", worker]
        command += ["-c", str(ROOT / "gunicorn.conf.py"), "--threads", str(THREADS), "stable_diffusion_api:app"]
        with started(command, folder, listener, SD_WEBUI_URL=webui.url) as service:
            service.wait_until_answering()
            yield service
            assert "Traceback" not in service.printed


def test_answers_that_nobody_reads_hold_no_thread(simulator: Simulator, tmp_path: Path) -> None:
    with few_threads(tmp_path, simulator) as service, ExitStack() as stack:
        greedy = [stack.enter_context(connect(service.port, receives_at_once=4096)) for _ in range(THREADS + 10)]
        for caller in greedy:
            caller.sendall(PAGE * MANY)
        with innocent_callers(service.root) as calls:
            time.sleep(8)
    assert_nothing_noticed(*calls)


def test_who_reads_at_last_has_them_all(simulator: Simulator, tmp_path: Path) -> None:
    with few_threads(tmp_path, simulator) as service, connect(service.port, receives_at_once=4096) as late:
        late.sendall(PAGE * (MANY - 1) + head("GET", "/docs/errors", "Connection: close"))
        time.sleep(2)
        assert rest_of(late).count(b"HTTP/1.1 200 OK") == MANY


def test_who_never_reads_is_ended(simulator: Simulator, tmp_path: Path) -> None:
    with (
        few_threads(tmp_path, simulator, "tests.integration.impatient_worker.ImpatientWorker") as service,
        connect(service.port, receives_at_once=4096) as greedy,
    ):
        greedy.sendall(PAGE * MANY)
        wait_until(lambda: is_reset(greedy), "its connection is ended")
