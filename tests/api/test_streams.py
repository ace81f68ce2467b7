"""Answers that begin before their work is done, in an application that does nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from flask import Flask, Response, g, request

from api.streams import Work, once_over, streamed
from tests.running import DEADLINE_S, wait_until

COMMENT = b": waiting\n\n"


class Refused(Exception):
    pass


class Calls:
    """What happened, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.go_on = threading.Event()

    @contextmanager
    def until_over(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.names.append("over")

    def wait(self) -> None:
        assert self.go_on.wait(DEADLINE_S)


@pytest.fixture
def calls() -> Calls:
    return Calls()


def served(work: Work, calls: Calls) -> Flask:
    app = Flask(__name__)

    @app.get("/<name>")
    def view(name: str) -> Response:
        g.before = name
        return streamed(work, failed, until_over=calls.until_over(), comment_s=0.01)

    @app.errorhandler(Refused)
    def refuse(error: Refused) -> tuple[str, int]:
        return "refused", 418

    @app.after_request
    def log(response: Response) -> Response:
        once_over(lambda: calls.names.append(f"logged {request.path} {g.get('outcome')}"))
        return response

    return app


def failed(error: Exception) -> Iterator[bytes]:
    g.outcome = type(error).__name__
    return iter([b"event: error\n\n"])


def test_comments_come_until_the_work_is_done(calls: Calls) -> None:
    def work(accepted: Callable[[], None]) -> Iterator[bytes]:
        accepted()
        calls.wait()
        g.outcome = f"{g.before} {request.path}"
        return iter([b"one", b"two"])

    answer = served(work, calls).test_client().get("/a")
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert answer.headers["X-Accel-Buffering"] == "no"
    pieces = iter(answer.response)
    assert [next(pieces) for _ in range(3)] == [COMMENT] * 3
    assert calls.names == []
    calls.go_on.set()
    rest = [piece for piece in pieces if piece != COMMENT]
    assert rest == [b"one", b"two"]
    assert calls.names == ["over", "logged /a a /a"]


def test_work_that_is_done_at_once(calls: Calls) -> None:
    answer = served(lambda accepted: iter([b"one"]), calls).test_client().get("/a")
    assert answer.data == COMMENT + b"one"
    assert calls.names == ["over", "logged /a None"]


def test_what_is_refused_is_answered_as_ever(calls: Calls) -> None:
    def work(accepted: Callable[[], None]) -> Iterator[bytes]:
        raise Refused

    answer = served(work, calls).test_client().get("/a")
    assert (answer.status_code, answer.text) == (418, "refused")
    assert calls.names == ["over", "logged /a None"]


def test_what_fails_later_is_an_event(calls: Calls) -> None:
    def work(accepted: Callable[[], None]) -> Iterator[bytes]:
        accepted()
        calls.wait()
        raise Refused

    answer = served(work, calls).test_client().get("/a")
    assert answer.status_code == 200
    calls.go_on.set()
    assert answer.data.replace(COMMENT, b"") == b"event: error\n\n"
    assert calls.names == ["over", "logged /a Refused"]


def test_who_closes_the_answer_waits_for_the_work(calls: Calls) -> None:
    def work(accepted: Callable[[], None]) -> Iterator[bytes]:
        accepted()
        calls.wait()
        return iter([b"one"])

    answer = served(work, calls).test_client().get("/a")
    assert next(iter(answer.response)) == COMMENT
    closing = threading.Thread(target=answer.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    calls.go_on.set()
    closing.join(DEADLINE_S)
    wait_until(lambda: calls.names == ["over", "logged /a None"], "the work is over")
