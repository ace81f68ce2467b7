"""CPU seconds and resident memory of processes, as the kernel counts them (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
#: Of a process's clock for user and system time together, in the kernel's include/linux/posix-timers.h.
_CPUCLOCK_SCHED = 2


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for children in (_PROC / str(parent) / "task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def cpu_s(roots: Iterable[int]) -> float:
    """User and system time of the trees, including their dead and reaped processes."""
    return sum(_cpu_of(pid) for root in roots for pid in tree(root))


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory now; pages that processes share count for each of them."""
    return sum(_field_mb(pid, "status", "VmRSS") for pid in pids)


def pss_mb(pids: Iterable[int]) -> float:
    """The same where each shared page counts once, divided among those that share it."""
    return sum(_field_mb(pid, "smaps_rollup", "Pss") for pid in pids)


def peak_mb(pids: Iterable[int]) -> float:
    """The same at its highest since :func:`forget_peak`; the sum of each process's own peak."""
    return sum(_field_mb(pid, "status", "VmHWM") for pid in pids)


def forget_peak(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(OSError):
            (_PROC / str(pid) / "clear_refs").write_text("5")


def _cpu_of(pid: int) -> float:
    """To the nanosecond for the living, where /proc/<pid>/stat has hundredths of a second; those for the dead."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        own = time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:  # it has just ended, and counts as its parent's
        return 0.0
    return own + (int(stat[13]) + int(stat[14])) / _TICKS


def _field_mb(pid: int, file: str, field: str) -> float:
    with suppress(OSError):
        for line in (_PROC / str(pid) / file).read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
