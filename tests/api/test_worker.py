"""gunicorn's parts as they are set up here; what they do over a connection is in ``tests/integration``."""

from __future__ import annotations

from pathlib import Path

from gunicorn.config import Config
from gunicorn.glogging import Logger

from api.worker import QuietLogger
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
