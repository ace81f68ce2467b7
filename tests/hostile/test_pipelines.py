"""Callers who ask and ask, and never read an answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from simulator import Simulator
from tests.hostile.innocent import assert_nothing_noticed, innocent_callers
from tests.hostile.wire import connect, head, is_reset, rest_of
from tests.running import Service, running_service, wait_until

#: Of some 20 kB, and more of them than the system keeps for a caller (4 MB on Linux).
PAGE = head("GET", "/docs/errors")
MANY = 400
THREADS = 20


@contextmanager
def few_threads(folder: Path, webui: Simulator, *options: str) -> Iterator[Service]:
    arguments = " ".join(["--threads", str(THREADS), *options])
    with running_service(folder, webui.url, workers=1, GUNICORN_CMD_ARGS=arguments) as service:
        service.wait_until_answering()
        yield service
        assert "Traceback" not in service.printed


def wait_until_all_are_full(service: Service) -> None:
    """Until nobody who does not read gets any more."""

    def nothing_more() -> bool:
        before = service.printed.count("/docs/")
        time.sleep(0.5)
        return 0 < before == service.printed.count("/docs/")

    wait_until(nothing_more, "no more is answered")


def test_answers_that_nobody_reads_hold_no_thread(simulator: Simulator, tmp_path: Path) -> None:
    with few_threads(tmp_path, simulator) as service, ExitStack() as stack:
        greedy = [stack.enter_context(connect(service.port, receives_at_once=4096)) for _ in range(THREADS + 10)]
        for caller in greedy:
            caller.sendall(PAGE * MANY)
        with innocent_callers(service.root) as calls:
            wait_until_all_are_full(service)
            for kind in calls:
                kind.wait_for(10)
    assert_nothing_noticed(*calls)


def test_who_reads_at_last_has_them_all(simulator: Simulator, tmp_path: Path) -> None:
    with few_threads(tmp_path, simulator) as service, connect(service.port, receives_at_once=4096) as late:
        late.sendall(PAGE * (MANY - 1) + head("GET", "/docs/errors", "Connection: close"))
        wait_until_all_are_full(service)
        assert rest_of(late).count(b"HTTP/1.1 200 OK") == MANY


def test_who_never_reads_is_ended(simulator: Simulator, tmp_path: Path) -> None:
    with (
        few_threads(tmp_path, simulator, "-k", "tests.integration.impatient_worker.ImpatientWorker") as service,
        connect(service.port, receives_at_once=4096) as greedy,
    ):
        greedy.sendall(PAGE * MANY)
        wait_until(lambda: is_reset(greedy), "its connection is ended")
