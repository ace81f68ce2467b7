"""Installs the programs that some tests drive and Python's index does not have: what ``make test`` does first.

    nginx, Chromium, Prometheus, Redis, ip, strace

They are installed where that is nobody's business but ours: as root, with apt-get, where no systemd runs that would
start them as servers of this machine. Elsewhere one line says how. Tests without their program are skipped and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

#: Program -> Debian's package.
PACKAGES = {
    "nginx": "nginx",
    "chromium-headless-shell": "chromium-headless-shell",
    "promtool": "prometheus",
    "redis-server": "redis-server",
    "ip": "iproute2",
    "strace": "strace",
}

_TIMEOUT_S = 600


def main() -> None:
    missing = missing_packages()
    if not missing:
        return
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None or Path("/run/systemd/system").exists():
        _say(f"tests that need {', '.join(missing)} will be skipped; on Debian and Ubuntu: sudo {' '.join(command)}")
        return
    _say(f"installing {', '.join(missing)}")
    if not (_run(command) or (_run(["apt-get", "update", "-q"]) and _run(command))):
        _say(f"that failed: tests that need {', '.join(missing_packages())} will be skipped")


def missing_packages() -> list[str]:
    # What only root has on its PATH is there all the same.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return [package for program, package in PACKAGES.items() if shutil.which(program, path=path) is None]


def _run(command: list[str]) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(  # noqa: S603 - our own command, no shell
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode:
        _say((done.stderr.strip() or "apt-get said nothing").splitlines()[-1])
    return done.returncode == 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is what this script is for


if __name__ == "__main__":
    main()
