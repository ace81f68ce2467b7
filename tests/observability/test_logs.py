"""One line of JSON for each thing that happens, or one for people."""

from __future__ import annotations

import json
import logging

import pytest

from observability.logs import JsonFormatter, TextFormatter, log_config


def record(message: str = "it is %s", *arguments: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("part", logging.WARNING, __file__, 1, message, arguments, None)
    vars(made).update(fields)
    return made


def test_a_line_has_its_fields() -> None:
    line = json.loads(JsonFormatter().format(record("it is %s", "so", route="/x", seconds=0.5)))
    assert line.pop("time").endswith("Z")
    assert line == {"level": "WARNING", "logger": "part", "message": "it is so", "route": "/x", "seconds": 0.5}


@pytest.mark.parametrize("text", ["two\nlines", 'a "quote"', "emoji \N{WOMAN}", "\x00\x1b[31m"])
def test_a_line_stays_one_line(text: str) -> None:
    written = JsonFormatter().format(record("%s", text))
    assert "\n" not in written
    assert json.loads(written)["message"] == text


def test_an_exception_is_in_its_line() -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError as error:
        made = record("failed")
        made.exc_info = (type(error), error, error.__traceback__)
    written = JsonFormatter().format(made)
    assert "\n" not in written
    assert json.loads(written)["exception"].endswith("RuntimeError: broken")


def test_for_people_the_fields_follow() -> None:
    assert TextFormatter().format(record("done", route="/x")).endswith("WARNING part: done route=/x")


def test_the_requests_id_comes_by_itself() -> None:
    config = log_config(level="INFO", form="json", request_id=lambda: "mine")
    made = record("done")
    assert config["filters"]["request_id"]["()"]()(made)
    assert json.loads(JsonFormatter().format(made))["request_id"] == "mine"


def test_gunicorn_and_libraries_speak_through_the_same_handler() -> None:
    config = log_config(level="DEBUG", form="json")
    loggers = config["loggers"]
    assert config["handlers"]["stdout"]["formatter"] == "line"
    assert loggers["gunicorn.error"] == {"level": "INFO", "handlers": ["stdout"], "propagate": False}
    # It writes a caller's address and path: every request has a line from the service itself.
    assert loggers["gunicorn.access"]["handlers"] == []
    assert not loggers["gunicorn.access"]["propagate"]
