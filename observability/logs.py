"""Log lines as JSON, one a line, each with the request's id.

No prompt, picture, key or address ever goes into one: whoever logs passes fields, never texts of a caller.
"""

from __future__ import annotations

import json
import logging
import logging.config
import time
from collections.abc import Callable
from typing import Any, Literal

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode


class JsonFormatter(logging.Formatter):
    """``extra`` fields become keys of the line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


class TextFormatter(logging.Formatter):
    """The same for people: the fields follow the message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        return super().format(record) + "".join(f" {name}={value}" for name, value in fields.items())


def log_config(
    *, level: str, form: Literal["json", "text"], request_id: Callable[[], str | None] = lambda: None
) -> dict[str, Any]:
    """
    For ``logging.config.dictConfig`` and gunicorn's ``logconfig_dict``: everything to stdout, in one form.

    :param request_id: the id of the request that is served, or None outside one.
    """

    def add_request_id(record: logging.LogRecord) -> bool:
        if (found := request_id()) is not None:
            record.request_id = found
        return True

    formatter = JsonFormatter if form == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": lambda: add_request_id}},
        "formatters": {"line": {"()": formatter}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": "line",
                "filters": ["request_id"],
            }
        },
        "root": {"level": level, "handlers": ["stdout"]},
        "loggers": _loggers(level),
    }


def _loggers(level: str) -> dict[str, Any]:
    # At DEBUG gunicorn writes down every request's path and query as they came.
    gunicorn_level = "INFO" if level == "DEBUG" else level
    return {
        # Each request has its line from the service itself, with its id, route and sizes.
        "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
        "gunicorn.error": {"level": gunicorn_level, "handlers": ["stdout"], "propagate": False},
        # urllib3 logs addresses of WebUIs at DEBUG; a password may be in them.
        "urllib3": {"level": "WARNING"},
        # Its warnings about an unreachable Redis come once for every request.
        "flask-limiter": {"level": "ERROR"},
    }
