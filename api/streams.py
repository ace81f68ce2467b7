"""Answers that begin before their work is done: it goes on in a thread, and its outcome is sent as the last events."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager

from flask import Response, copy_current_request_context, current_app, g, request

from api.transfers import end_slow_reader

#: How often a caller hears that its work goes on: proxies close connections that are silent for longer.
COMMENT_S = 10.0

_COMMENT = b": waiting\n\n"

#: The bytes of an answer's events, in pieces.
Events = Iterator[bytes]
#: Returns the events. It calls what it receives once it cannot be refused any more, and can only fail.
Work = Callable[[Callable[[], None]], Events]


class Ending:
    """What is to be recorded of a request, its line in the log among it, once its work is over."""

    def __init__(self) -> None:
        self._mutex = threading.RLock()
        self._is_over = False
        self._records: list[Callable[[], None]] = []

    def record(self, record: Callable[[], None]) -> None:
        with self._mutex:
            if self._is_over:
                record()
            else:
                self._records.append(record)

    def over(self) -> None:
        with self._mutex:
            self._is_over = True
            for record in self._records:
                record()


def once_over(record: Callable[[], None]) -> None:
    """Calls this at the end of the request's work: now, unless its answer is a stream that goes on."""
    ending: Ending | None = g.get("ending")
    if ending is None:
        record()
    else:
        ending.record(record)


def streamed(
    work: Work,
    failed: Callable[[Exception], Events],
    *,
    until_over: AbstractContextManager[object],
    comment_s: float = COMMENT_S,
) -> Response:
    """
    Server-sent events: comments until the work is done, then its own.

    Both calls are made in a thread, in the context of this request: what either puts into ``g`` is there for both.

    :param work: what it raises before it calls what it receives is raised here.
    :param failed: the events for what it raises later.
    :param until_over: is left when the work is over.
    """
    outcome: Future[Events] = Future()
    accepted = threading.Event()
    ending = Ending()

    def run() -> None:
        try:
            with until_over:
                finish = functools.partial(outcome.set_result, _either(work, failed, accepted))
        except Exception as error:  # noqa: BLE001 - raised again where the answer is made
            finish = functools.partial(outcome.set_exception, error)
        try:
            ending.over()
        finally:
            finish()
            accepted.set()

    thread = threading.Thread(target=_in_this_context(run), name="stream", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # there are too many
        with until_over:
            raise
    accepted.wait()
    if outcome.done():
        outcome.result()
    else:
        g.ending = ending
    limit_time = functools.partial(end_slow_reader, request._get_current_object())  # type: ignore[attr-defined]
    response = Response(_sent(outcome, limit_time, comment_s), mimetype="text/event-stream")
    # nginx would keep the events back until there are more of them.
    response.headers["X-Accel-Buffering"] = "no"
    response.headers["Cache-Control"] = "no-store"
    return response


def _either(work: Work, failed: Callable[[Exception], Events], accepted: threading.Event) -> Events:
    try:
        return work(accepted.set)
    except Exception as error:
        if accepted.is_set():
            return failed(error)
        raise


def _in_this_context(work: Callable[[], None]) -> Callable[[], None]:
    """The same for another thread, with the same ``g``."""
    context = current_app.app_context()
    context.g = g._get_current_object()
    in_request = copy_current_request_context(work)

    def run() -> None:
        with context:
            in_request()

    return run


def _sent(outcome: Future[Events], limit_time: Callable[[], Callable[[], None]], comment_s: float) -> Iterator[bytes]:
    try:
        yield _COMMENT
        while not wait([outcome], comment_s).done:
            yield _COMMENT
        in_time = limit_time()
        try:
            yield from outcome.result()
        finally:
            in_time()
    finally:
        # Work with an Idempotency-Key goes on if its caller hangs up. A worker that stops waits for open connections.
        wait([outcome])
