"""A site of six hosts of which each dies and is cut off: the program that plays it, and its table."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.deploy.nginx_server import needs_nginx
from tests.running import ROOT
from tests.scale.namespaces import why_not

#: Twelve rows of half a minute, on a busy machine of two.
DEADLINE_S = 1800


@needs_nginx
def test_callers_get_what_is_expected_when_a_host_goes(request: pytest.FixtureRequest) -> None:
    if reason := why_not():
        pytest.skip(reason)
    command = [sys.executable, "-m", "tools.hosts"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print("", done.stdout, sep="\n")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 + 6 * 2
