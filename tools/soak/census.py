"""Memory, threads and files of a process, from /proc (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Census:
    """:param rss_mb: memory in use, 10⁶ bytes; :param files: open file descriptors, :param sockets: among them."""

    pid: int
    rss_mb: float
    threads: int
    files: int
    sockets: int


def workers_of(arbiter: int) -> list[int]:
    """gunicorn's living workers, the oldest first."""
    children = (_PROC / str(arbiter) / "task" / str(arbiter) / "children").read_text().split()
    return sorted((int(pid) for pid in children if _lives(int(pid))), key=_started)


def census(pid: int) -> Census:
    status = dict(line.split(":", 1) for line in (_PROC / str(pid) / "status").read_text().splitlines())
    folder = _PROC / str(pid) / "fd"
    targets = []
    for name in os.listdir(folder):
        try:
            targets.append(os.readlink(folder / name))
        except FileNotFoundError:
            continue  # closed in the meantime
    return Census(
        pid=pid,
        rss_mb=int(status["VmRSS"].split()[0]) * 1024 / 1e6,
        threads=int(status["Threads"]),
        files=len(targets),
        sockets=sum(target.startswith("socket:") for target in targets),
    )


def _stat(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return ["X", *["0"] * 30]


def _lives(pid: int) -> bool:
    return _stat(pid)[0] not in ("Z", "X")


def _started(pid: int) -> int:
    return int(_stat(pid)[19])
