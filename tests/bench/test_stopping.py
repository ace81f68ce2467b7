"""Whoever stops the benchmark in the middle finds nothing left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench import accounting
from tests.running import DEADLINE_S, ROOT, wait_until


def alive(pid: int) -> bool:
    """Zombies, which wait for a parent that is busy elsewhere, aside."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark needs /proc")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_nothing_runs_on(signum: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--no-litellm", "--name", f"stopped-{os.getpid()}"]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)}, process_group=0
    ) as process:
        try:
            # Itself, the upstream, the callers and a gunicorn with one worker at least.
            wait_until(lambda: len(accounting.tree(process.pid)) >= 6, "the servers run")
            family = accounting.tree(process.pid)
            # As a terminal does it: to the whole group.
            os.killpg(process.pid, signum)
            status = process.wait(DEADLINE_S)
        finally:
            process.kill()
    wait_until(lambda: not any(map(alive, family)), "all have ended")
    assert status == (-signum if signum == signal.SIGKILL else 130)
    assert signum == signal.SIGKILL or list(tmp_path.iterdir()) == []
    assert not (ROOT / "bench" / "results" / f"stopped-{os.getpid()}.json").exists()
