"""The soak for some seconds, so that it works when it is needed for minutes: ``make soak``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.running import ROOT

DEADLINE_S = 600


@pytest.mark.skipif(sys.platform != "linux", reason="the census is read from /proc")
def test_some_seconds_of_trouble_lose_nothing() -> None:
    command = [sys.executable, "-m", "tools.soak", "--seconds", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "findings: 0" in done.stdout
