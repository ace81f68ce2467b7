"""What the kernel tells is what processes really used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import accounting
from tests.running import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")

#: Burns CPU for half a second of its own time, in a child that has ended, then waits for a line.
BURNER = """
import subprocess, sys, time
burn = "import time\\nwhile time.process_time() < 0.5: pass"
subprocess.run([sys.executable, "-c", burn]) if sys.argv[1] == "child" else exec(burn)
print("done", flush=True)
sys.stdin.readline()
"""

HOARDER = """
import sys
print("small", flush=True)
sys.stdin.readline()
block = bytearray(50_000_000)
print("big", flush=True)
sys.stdin.readline()
del block
print("small", flush=True)
sys.stdin.readline()
"""


@contextmanager
def program(text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", text, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


@pytest.mark.parametrize("who", ["itself", "child"])
def test_cpu_of_a_process_and_of_its_dead_children(who: str) -> None:
    with program(BURNER, who) as process:
        assert process.stdout
        assert process.stdout.readline() == "done\n"
        assert 0.5 <= accounting.cpu_s([process.pid]) < 5


def test_a_process_that_waits_uses_nothing() -> None:
    with program(HOARDER) as process:
        assert process.stdout
        process.stdout.readline()
        before = accounting.cpu_s([process.pid])
        assert accounting.cpu_s([process.pid]) - before < 0.005


def test_the_peak_is_remembered_until_it_is_forgotten() -> None:
    with program(HOARDER) as process:
        assert process.stdout
        process.stdout.readline()
        pids = [process.pid]
        small = accounting.rss_mb(pids)
        assert next_line(process) == "big\n"
        assert next_line(process) == "small\n"
        assert accounting.rss_mb(pids) < small + 25
        assert accounting.peak_mb(pids) > small + 45
        accounting.forget_peak(pids)
        assert accounting.peak_mb(pids) < small + 25


def test_the_tree_has_children_of_children() -> None:
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOARDER!r}])"
    with program(nested) as process:
        wait_until(lambda: len(accounting.tree(process.pid)) == 2, "the child has started")
        assert accounting.tree(process.pid)[0] == process.pid


def test_a_process_that_is_gone_has_nothing() -> None:
    with program("") as process:
        process.wait()
    assert accounting.cpu_s([process.pid]) == 0
    assert accounting.rss_mb([process.pid]) == 0


def test_a_page_that_is_shared_counts_once() -> None:
    forking = "import os, sys; block = bytes(1) * 50_000_000; os.fork(); os.write(1, b'big\\n'); sys.stdin.readline()"
    with program(forking) as process:
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == ["big\n"] * 2
        pids = accounting.tree(process.pid)
        assert accounting.rss_mb(pids) > 100
        assert 50 < accounting.pss_mb(pids) < accounting.rss_mb(pids) - 40
