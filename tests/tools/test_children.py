"""Programs that live and die together."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tools.children import Children


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_signals_are_held_back_only_until_a_child_is_started(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with Children(tmp_path) as children:
        process = children.start("sleep", ["sleep", "60"], environ=os.environ)
        status = Path(f"/proc/{process.pid}/status").read_text()
        blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
        for signum in (signal.SIGINT, signal.SIGTERM):
            assert not blocked >> (signum - 1) & 1
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
