"""Every way a WebUI can fail, on every route, under every kind of worker, with Redis and without: real processes."""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from PIL import Image

from simulator import Simulator
from simulator.faults import KINDS
from tests.api.answers import problem_of
from tests.api.bad_inputs import VALID, text
from tests.integration.test_faults import ANSWERS, HARMLESS, TOO_LATE, Expected, assert_problem
from tests.running import ROOT, RedisServer, Service, started, wait_until
from tests.services import picture_samples as samples

PROMPT = "a secret harbour"
SIZE = 64
FIELDS = {"prompt": PROMPT, "width": SIZE, "height": SIZE, "steps": 1, "sampler": "Euler"}
GENERATIONS = {route: {**fields, **FIELDS} for route, fields in VALID.items()}
UPSCALE = {"image": text(samples.encode(samples.noise(SIZE // 2, SIZE // 2))), "upscaler": "Nearest"}
BODIES: Mapping[str, Mapping[str, Any]] = {**GENERATIONS, "upscale": UPSCALE}

#: An upscaled picture has no model and no sampler, and only the answer's text says what made it.
_EMPTY: Expected = (502, "webui_error", "missing_images", True, "the WebUI returned no picture")
_UNNAMED: Expected = (502, "webui_error", "wrong_upscaler", True, "does not name the upscaler")
UPSCALE_ANSWERS: Mapping[str, Expected] = {
    **{fault: answer for fault, answer in ANSWERS.items() if fault not in ("wrong-model", "wrong-sampler")},
    "empty-images": _EMPTY,
    "too-few": _EMPTY,
    "wrong-size": (502, "webui_error", "wrong_size", True, "the WebUI enlarged to 40x32 instead of 64x64"),
    "no-info": _UNNAMED,
    "empty-info": _UNNAMED,
    "upscaler-fake": (502, "webui_error", "wrong_upscaler", True, "enlarged by Lanczos"),
}
UPSCALE_HARMLESS = {*HARMLESS, "wrong-model", "wrong-sampler"} - UPSCALE_ANSWERS.keys()


def cases(faults: Collection[str], of_upscale: Collection[str]) -> list[tuple[str, str]]:
    """Each fault with each route."""
    found = [(route, fault) for route in sorted(GENERATIONS) for fault in sorted(faults)]
    return [*found, *(("upscale", fault) for fault in sorted(of_upscale))]


@dataclass(frozen=True, kw_only=True)
class Column:
    service: Service
    webui: Simulator


@pytest.fixture(scope="class")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Column]:
    """What the tests of a class share; see `Matrix`."""
    options, has_redis = request.cls.options, request.cls.has_redis
    command = [sys.executable, "-m", "gunicorn", *options, "-c", str(ROOT / "gunicorn.conf.py")]
    with (
        TemporaryDirectory(prefix="sd-", dir="/tmp" if os.path.isdir("/tmp") else None) as short,
        Simulator(has_page=False) as webui,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        redis_server = RedisServer(Path(short))
        settings = {"SD_WEBUI_URL": webui.url, "LOG_LEVEL": "WARNING"}
        if has_redis:
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
    return column.service.post(f"/{route}", BODIES[route], headers=headers)


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


def test_every_fault_is_tried() -> None:
    tried = {*UPSCALE_ANSWERS, *TOO_LATE, *(name.partition(":")[0] for name in UPSCALE_HARMLESS)}
    assert tried == KINDS


class Matrix:
    """
    The tests of one service: a subclass for each kind of worker, without Redis and with it. They are classes, because
    `--dist loadscope` brings the tests of a class to one process.
    """

    #: gunicorn's.
    options: tuple[str, ...]
    has_redis = False

    @pytest.mark.parametrize(("route", "fault"), cases(ANSWERS, UPSCALE_ANSWERS))
    def test_fault(self, column: Column, route: str, fault: str) -> None:
        column.webui.set_fault(fault, times=1)
        answer = paint(column, route)
        expected = UPSCALE_ANSWERS if route == "upscale" else ANSWERS
        assert_problem(problem_of(answer), expected[fault])
        assert discreet(answer.text, column.webui)
        # The second is the small picture that shows whether the upscaler is to blame.
        most = 2 if fault == "upscaler-fake" else 1
        assert len(column.webui.generations) <= most, "a job that may have been painted is never sent again"
        assert_whole(column, route)

    @pytest.mark.parametrize(("route", "fault"), cases(HARMLESS, UPSCALE_HARMLESS))
    def test_what_is_no_fault_for_a_caller(self, column: Column, route: str, fault: str) -> None:
        column.webui.set_fault(f"{fault}:times=1")
        answer = paint(column, route, Accept="image/png")
        assert answer.status_code == 200, answer.text
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert (picture.format, picture.size) == ("PNG", (SIZE, SIZE))
        assert_whole(column, route)

    @pytest.mark.parametrize(("route", "fault"), cases(TOO_LATE, TOO_LATE))
    def test_a_webui_that_does_not_end(self, column: Column, route: str, fault: str) -> None:
        column.webui.set_fault(fault, times=1)
        problem = problem_of(paint(column, route, Prefer="wait=1"))
        assert (problem["status"], problem["code"], problem["retryable"]) == (504, "webui_timeout", False)
        if route in GENERATIONS:  # no WebUI reports whose picture it enlarges, so none is interrupted
            wait_until(lambda: any(one.route == "interrupt" for one in column.webui.requests), "the job is interrupted")
        assert len(column.webui.generations) == 1
        column.webui.clear_faults()
        assert_whole(column, route)
        assert route in GENERATIONS or not any(one.route == "interrupt" for one in column.webui.requests)


class TestOneWorker(Matrix):
    options = ("-w", "1")


class TestOneWorkerWithRedis(Matrix):
    options = ("-w", "1")
    has_redis = True


class TestTwoWorkers(Matrix):
    options = ("-w", "2")


class TestTwoWorkersWithRedis(Matrix):
    options = ("-w", "2")
    has_redis = True


class TestPlainGthread(Matrix):
    """gunicorn's gthread is served, too; it lacks what ``api/worker.py`` adds."""

    options = ("-w", "2", "-k", "gthread")


class TestPlainGthreadWithRedis(Matrix):
    options = ("-w", "2", "-k", "gthread")
    has_redis = True
