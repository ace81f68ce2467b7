"""Checkers of what is in ``deploy/``: the development requirements bring them, or the machine has them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import DEADLINE_S, ROOT

DEPLOY = ROOT / "deploy"


def run(program: str, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs it in the project's folder; the test is skipped where it is not installed."""
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return subprocess.run(
        [found, *words], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False, **options
    )
