"""gunicorn's parts as they are set up here; what they do over a connection is in ``tests/integration``."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from flask import Flask
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.errors import ParseException

from api import errors
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
        told = near.recv(65536)
    assert json.loads(told.partition(b"\r\n\r\n")[2])["type"] == f"{page}#malformed_request"
