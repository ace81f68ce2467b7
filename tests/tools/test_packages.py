"""What `make test` says of programs that are not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT


def packages(path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "packages.py")]
    return subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False)


def test_where_nothing_can_be_installed_it_says_how() -> None:
    done = packages("/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")
    assert "tests that need" in done.stdout
    assert "sudo apt-get install" in done.stdout
    assert "chromium" in done.stdout


@pytest.mark.parametrize("program", ["nginx", "chromium-headless-shell", "promtool", "redis-server", "ip", "strace"])
def test_a_program_that_is_there_is_not_installed(program: str, tmp_path: Path) -> None:
    (tmp_path / program).write_text("#!/bin/sh\n")
    (tmp_path / program).chmod(0o755)
    package = {"promtool": "prometheus", "ip": "iproute2"}.get(program, program)
    assert f" {package} " not in packages(str(tmp_path)).stdout
