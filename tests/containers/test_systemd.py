"""``deploy/systemd``: the unit, by systemd's own checker, and its number against the service's own."""

from __future__ import annotations

import re
from pathlib import Path

from config import Config
from tests.containers.programs import DEPLOY, run

UNIT = DEPLOY / "systemd" / "stable-diffusion-api.service"


def setting(name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(found)


def test_systemd_takes_it(tmp_path: Path) -> None:
    """With a program that exists: what is verified is all the rest."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(setting("ExecStart"), "/bin/true"))
    done = run("systemd-analyze", "verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_shut_in() -> None:
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT))
    assert done.returncode == 0, done.stdout[-500:]


def test_running_jobs_may_end() -> None:
    in_a_bucket = Config.from_env({"STORAGE_URL": "s3://pictures"})
    assert int(setting("TimeoutStopSec")) >= in_a_bucket.graceful_timeout_s + 5


def test_a_wrong_configuration_is_not_tried_again() -> None:
    assert setting("RestartPreventExitStatus").split() == ["2", "3"]


def test_what_the_settings_file_says_counts() -> None:
    """systemd lets it win over ``Environment=``; what is empty there is unset for the service."""
    assert "IMAGE_DIR= as well" in UNIT.read_text()
    assert Config.from_env({"IMAGE_DIR": "", "STORAGE_URL": "s3://pictures"}).storage_url


def test_where_it_writes() -> None:
    state = f"/var/lib/{setting('StateDirectory')}"
    assert setting("WorkingDirectory") == state
    assert f"Environment=IMAGE_DIR={state}/images" in UNIT.read_text()
    assert f"alias {state}/images/;" in (DEPLOY / "nginx" / "nginx.conf").read_text(), "what nginx sends by itself"
    assert f"Environment=RUNTIME_DIR=/run/{setting('RuntimeDirectory')}" in UNIT.read_text()
