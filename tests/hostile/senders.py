"""Callers who mean no good, and one who means none of it."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.running import DEADLINE_S, PREFIX, Service


def head(route: str, size: int, kind: str = "application/json") -> bytes:
    """Of a POST with a body of so many bytes."""
    lines = [f"POST {PREFIX}/{route} HTTP/1.1", "Host: test", f"Content-Type: {kind}", f"Content-Length: {size}"]
    return "\r\n".join([*lines, "", ""]).encode()


def send(service: Service, pieces: Iterable[bytes]) -> bytes:
    """As far as it is taken; what is answered, or nothing where the connection is broken off."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=DEADLINE_S) as connection:
        with contextlib.suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
        with contextlib.suppress(OSError):
            return connection.recv(65536)
    return b""


def send_at_once(service: Service, count: int, pieces: Callable[[], Iterable[bytes]]) -> list[bytes]:
    """By so many callers; what each was answered."""
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(send(service, pieces()))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@dataclass
class Watch:
    """``waits_s``: what each health check took."""

    waits_s: list[float] = field(default_factory=list)

    @property
    def worst_s(self) -> float:
        return max(self.waits_s)


@contextmanager
def watching_health(service: Service) -> Iterator[Watch]:
    """An innocent caller: a health check every 50 ms, each of which must be answered 200."""
    watch, done = Watch(), threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            begun = time.monotonic()
            assert service.get("/health").status_code == 200
            watch.waits_s.append(time.monotonic() - begun)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


def worker_of(service: Service) -> int:
    """The process id of its one worker."""
    master = service.process.pid
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return int(worker)


def peak_bytes(worker: int) -> int:
    """The most memory that the process has had resident."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())
    assert found
    return 1024 * int(found[1])


def forget_peak(worker: int) -> None:
    """The peak begins anew with what is resident now."""
    Path(f"/proc/{worker}/clear_refs").write_text("5")
