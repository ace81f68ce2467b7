"""Every way a WebUI can fail, on every route, under every kind of worker, with Redis and without: real processes."""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from PIL import Image

from simulator import Simulator
from tests.api.answers import problem_of
from tests.api.bad_inputs import VALID
from tests.integration.test_faults import ANSWERS, HARMLESS, TOO_LATE, assert_problem
from tests.running import ROOT, RedisServer, Service, started, wait_until

PROMPT = "a secret harbour"
SIZE = 64
FIELDS = {"prompt": PROMPT, "width": SIZE, "height": SIZE, "steps": 1, "sampler": "Euler"}

#: gunicorn's options. Its plain gthread is served, too; it lacks what ``api/worker.py`` adds.
WORKERS = {"own_1": ["-w", "1"], "own_2": ["-w", "2"], "gthread_2": ["-w", "2", "-k", "gthread"]}
COLUMNS = [f"{workers}-{redis}" for workers in WORKERS for redis in ("redis", "alone")]


@dataclass(frozen=True, kw_only=True)
class Column:
    service: Service
    webui: Simulator


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in COLUMNS])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Column]:
    workers, _, with_redis = request.param.partition("-")
    command = [sys.executable, "-m", "gunicorn", *WORKERS[workers], "-c", str(ROOT / "gunicorn.conf.py")]
    with (
        TemporaryDirectory(prefix="sd-", dir="/tmp" if os.path.isdir("/tmp") else None) as short,
        Simulator(has_page=False) as webui,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        redis_server = RedisServer(Path(short))
        settings = {"SD_WEBUI_URL": webui.url, "LOG_LEVEL": "WARNING"}
        if with_redis == "redis":
            redis_server.start()
            settings["REDIS_URL"] = redis_server.url
        try:
            command += ["-b", f"fd://{listener.fileno()}", "stable_diffusion_api:app"]
            with started(command, tmp_path_factory.mktemp("column"), listener, **settings) as service:
                service.wait_until_answering()
                yield Column(service=service, webui=webui)
                assert "Traceback" not in service.printed
        finally:
            redis_server.stop()


@pytest.fixture
def column(running: Column) -> Column:
    """The WebUI has no faults and no past."""
    running.webui.clear_faults()
    running.webui.forget_requests()
    return running


def paint(column: Column, route: str, **headers: str):
    return column.service.post(f"/{route}", {**VALID[route], **FIELDS}, headers=headers)


def assert_whole(column: Column, route: str) -> None:
    """The next job succeeds, and no place is left taken."""
    answer = paint(column, route)
    assert answer.status_code == 200, answer.text
    assert column.service.get(f"/image/{answer.json()['image_id']}").status_code == 200

    def nothing_is_left() -> bool:
        state = column.service.get("/health").json()
        return state["queue"]["waiting"] == state["webuis"]["busy"] == 0

    wait_until(nothing_is_left, "no lease is left")


def discreet(text: str, webui: Simulator) -> bool:
    return PROMPT not in text and "CUDA" not in text and str(webui.url.rpartition(":")[2]) not in text


@pytest.mark.parametrize("route", sorted(VALID))
@pytest.mark.parametrize("fault", sorted(ANSWERS))
def test_fault(column: Column, route: str, fault: str) -> None:
    column.webui.set_fault(fault, times=1)
    answer = paint(column, route)
    assert_problem(problem_of(answer), fault)
    assert discreet(answer.text, column.webui)
    assert len(column.webui.generations) <= 1, "a job that may have been painted is never sent again"
    assert_whole(column, route)


@pytest.mark.parametrize("route", sorted(VALID))
@pytest.mark.parametrize("fault", sorted(HARMLESS))
def test_what_is_no_fault_for_a_caller(column: Column, route: str, fault: str) -> None:
    column.webui.set_fault(f"{fault}:times=1")
    answer = paint(column, route, Accept="image/png")
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.format, picture.size) == ("PNG", (SIZE, SIZE))
    assert_whole(column, route)


@pytest.mark.parametrize("route", sorted(VALID))
@pytest.mark.parametrize("fault", sorted(TOO_LATE))
def test_a_webui_that_does_not_end(column: Column, route: str, fault: str) -> None:
    column.webui.set_fault(fault, times=1)
    told = problem_of(paint(column, route, Prefer="wait=1"))
    assert (told["status"], told["code"], told["retryable"]) == (504, "webui_timeout", False)
    wait_until(lambda: any(one.route == "interrupt" for one in column.webui.requests), "the job is interrupted")
    assert len(column.webui.generations) == 1
    column.webui.clear_faults()
    assert_whole(column, route)
