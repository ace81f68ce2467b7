"""
Callers, in a separate process whose CPU is not counted.

Plain Python over ``http.client``, a thread for each caller: 0.1 ms for a small request, and large answers are read into
one buffer and thrown away, at 1 GB/s and more. Nothing has to be installed for it.
"""

from __future__ import annotations

import http.client
import multiprocessing
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Self

BUFFER_BYTES = 256 * 1024
TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Work:
    """
    What each caller does: send a request, read the answer, and again.

    :param seconds: no request begins later than this; those under way are waited for. Each caller makes at least one.
    :param most: the most requests of one caller.
    :param period_s: time between the beginnings of a caller's requests; 0: at once after the answer.
    :param pause_s: how long a caller waits after a refusal.
    :param spread_s: the callers begin one after the other over this time.
    :param fresh: a new connection for each request.
    """

    port: int
    path: str
    method: str = "GET"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    clients: int = 1
    seconds: float = 1.0
    most: int | None = None
    period_s: float = 0.0
    pause_s: float = 0.0
    spread_s: float = 0.0
    fresh: bool = False


@dataclass(frozen=True, kw_only=True)
class Call:
    """``status`` is 0 if there was no answer; ``began`` is by ``time.monotonic``, which all processes share."""

    began: float
    seconds: float
    status: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    calls: tuple[Call, ...]
    seconds: float

    @property
    def good(self) -> list[Call]:
        return [call for call in self.calls if 200 <= call.status < 300]

    @property
    def refused(self) -> list[Call]:
        return [call for call in self.calls if call.status in (429, 503)]

    @property
    def statuses(self) -> dict[str, int]:
        return {str(status): count for status, count in sorted(Counter(call.status for call in self.calls).items())}


def quantile_ms(calls: list[Call], share: float) -> float | None:
    """A quantile of their durations; None without calls."""
    if not calls:
        return None
    times = sorted(call.seconds for call in calls)
    return round(1000 * times[min(len(times) - 1, int(share * len(times)))], 2)


class Callers:
    """A process that carries out one :class:`Work` at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def begin(self, work: Work) -> None:
        self._pipe.send(work)

    def outcome(self) -> Outcome:
        """Wait for the work that was begun last."""
        found = self._pipe.recv()
        assert isinstance(found, Outcome)
        return found

    def run(self, work: Work) -> Outcome:
        self.begin(work)
        return self.outcome()


def _serve(pipe: Connection) -> None:
    # Ctrl-C reaches the whole group; the parent ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe.send("ready")
    while True:
        try:
            pipe.send(carried_out(pipe.recv()))
        except EOFError:
            return


def carried_out(work: Work) -> Outcome:
    """Do the work in threads of this process."""
    calls: list[Call] = []
    began = time.monotonic()
    threads = [
        threading.Thread(target=_call_repeatedly, args=(work, calls, began, number)) for number in range(work.clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Outcome(calls=tuple(calls), seconds=time.monotonic() - began)


def _call_repeatedly(work: Work, calls: list[Call], began: float, number: int) -> None:
    due = began + number * work.spread_s / work.clients
    buffer = memoryview(bytearray(BUFFER_BYTES))
    made = 0
    with _connection(work.port) as connection:
        while made == 0 or (due < began + work.seconds and made != work.most):
            time.sleep(max(0.0, due - time.monotonic()))
            call = _one_call(connection, work, buffer)
            calls.append(call)
            made += 1
            pause_s = 0.0 if 200 <= call.status < 300 else work.pause_s
            due = max(due + work.period_s, call.began + call.seconds + pause_s)


def _one_call(connection: http.client.HTTPConnection, work: Work, buffer: memoryview) -> Call:
    if work.fresh:
        connection.close()
    began = time.monotonic()
    status = received = 0
    try:
        connection.request(work.method, work.path, work.body or None, dict(work.headers))
        answer = connection.getresponse()
        while count := answer.readinto(buffer):
            received += count
        if answer.length:  # the connection broke half-way
            connection.close()
        else:
            status = answer.status
    except (OSError, http.client.HTTPException):
        connection.close()
    return Call(began=began, seconds=time.monotonic() - began, status=status, bytes=received)


@contextmanager
def _connection(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        yield connection
    finally:
        connection.close()
