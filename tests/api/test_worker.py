"""gunicorn's parts as they are set up here; what they do over a connection is in ``tests/integration``."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.errors import ParseException

from api import errors
from api.connection import Connection, Next
from api.worker import QuietLogger, Worker
from observability.logs import log_config

SETTINGS = Path(__file__).resolve().parents[2] / "gunicorn.conf.py"


def test_no_line_is_put_together_that_nobody_writes() -> None:
    config = Config()
    config.set("logconfig_dict", log_config(level="INFO", form="json"))
    log = QuietLogger.__new__(QuietLogger)
    log.cfg = config
    usual = Logger.__new__(Logger)
    usual.cfg = config
    assert usual.access_log_enabled, "gunicorn takes a configuration of logs for one of its access log"
    assert not log.access_log_enabled
    log.access(None, None, None, None)  # looks at nothing
    assert f'logger_class = "{QuietLogger.__module__}.{QuietLogger.__name__}"' in SETTINGS.read_text().splitlines()


@pytest.mark.parametrize(
    ("public", "page"), [(None, "/docs/errors"), ("https://a.example/b", "https://a.example/b/docs/errors")]
)
def test_what_is_no_request_is_told_where_to_read_why(public: str | None, page: str) -> None:
    app = Flask("service")
    errors.register(app, public_url=public)
    worker = Worker.__new__(Worker)
    worker.wsgi = app
    near, far = socket.socketpair()
    with near, far:
        worker.handle_error(None, far, None, ParseException("no HTTP"))
        printed = near.recv(65536)
    assert json.loads(printed.partition(b"\r\n\r\n")[2])["type"] == f"{page}#malformed_request"


REQUEST = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def worker() -> Iterator[Worker]:
    """One that is not run: its threads are the tests'."""
    config = Config()
    config.set("keepalive", 75)
    made = Worker(0, os.getppid(), [], None, 30, config, QuietLogger(config))
    yield made
    made.tmp.close()


def answer_all(worker: Worker, app: Callable[..., list[bytes]], *, first: bytes) -> tuple[object, bytes]:
    """What comes of a connection on which something is there, and what is answered over it."""
    worker.wsgi = app
    near, far = socket.socketpair()
    worker_side = Connection(far, ("127.0.0.1", 1), ("127.0.0.1", 2), worker.cfg, send_s=worker.send_s)
    with near, closing(worker_side):
        near.sendall(first)
        app.caller = near  # type: ignore[attr-defined]
        outcome = worker.handle(worker_side)
        return outcome, near.recv(65536)


def calling_again(times: int) -> Callable[..., list[bytes]]:
    """An application whose caller sends its next request while the one before is answered."""

    def app(environ: dict[str, Any], start: Callable[..., object]) -> list[bytes]:
        number = int(environ["PATH_INFO"][1:])
        if number < times:
            app.caller.sendall(REQUEST % (number + 1))  # type: ignore[attr-defined]
        start("200 OK", [("Content-Length", "1")])
        return [b"%d" % number]

    return app


def test_a_callers_next_request_is_answered_by_the_same_thread(worker: Worker) -> None:
    outcome, answered = answer_all(worker, calling_again(3), first=REQUEST % 1)
    assert outcome is Next.REQUEST, "the connection is kept"
    assert [part[-1:] for part in answered.split(b"HTTP/1.1 200 OK")[1:]] == [b"1", b"2", b"3"]


def test_one_that_was_sent_before_waits_its_turn(worker: Worker) -> None:
    outcome, answered = answer_all(worker, calling_again(1), first=REQUEST % 1 + REQUEST % 2)
    assert (outcome, answered.count(b"HTTP/1.1 200 OK")) == (Next.REQUEST, 1)


def test_a_next_request_that_came_in_part_waits_without_a_thread(worker: Worker) -> None:
    def app(environ: dict[str, Any], start: Callable[..., object]) -> list[bytes]:
        app.caller.sendall((REQUEST % 2)[:-2])  # type: ignore[attr-defined]
        start("200 OK", [("Content-Length", "1")])
        return [b"1"]

    outcome, answered = answer_all(worker, app, first=REQUEST % 1)
    assert outcome is Next.HEAD
    assert answered.count(b"HTTP/1.1 200 OK") == 1


def test_a_stopping_worker_keeps_no_thread_for_it(worker: Worker) -> None:
    worker.alive = False
    outcome, answered = answer_all(worker, calling_again(3), first=REQUEST % 1)
    assert (outcome, answered.count(b"HTTP/1.1 200 OK")) == (Next.END, 1)


def test_a_body_that_was_not_read_is_no_request(worker: Worker) -> None:
    def app(environ: dict[str, Any], start: Callable[..., object]) -> list[bytes]:
        start("200 OK", [("Content-Length", "1")])
        return [b"1"]

    body = REQUEST % 7
    first = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    outcome, answered = answer_all(worker, app, first=first)
    assert (outcome, answered.count(b"HTTP/1.1 200 OK")) == (Next.REQUEST, 1)
