"""What the systemd unit forbids, held against what the service really asks of the kernel. No systemd has to run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import Simulator
from tests.running import DEADLINE_S, ROOT, RedisServer, Service, free_port, started
from tests.storage.s3_servers import S3Server

UNIT = (ROOT / "deploy" / "systemd" / "stable-diffusion-api.service").read_text()
SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (apt-get install strace)"),
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"),
]


@pytest.fixture(scope="module")
def allowed() -> set[str]:
    """The system calls that ``SystemCallFilter`` leaves."""
    printed = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    sets: dict[str, list[str]] = {}
    name = ""
    for line in printed.splitlines():
        if line.startswith("@"):
            name = line.strip()
        elif line.startswith("    ") and not line.strip().startswith("#"):
            sets.setdefault(name, []).append(line.strip())

    def calls(name: str) -> set[str]:
        return set().union(*(calls(one) if one.startswith("@") else {one} for one in sets[name]))

    left = calls("@default")
    for words in re.findall(r"^SystemCallFilter=(.*)$", UNIT, re.MULTILINE):
        named = set().union(*(calls(word) for word in words.removeprefix("~").split()))
        left = left - named if words.startswith("~") else left | named
    return left


def traced(service: Service, process: subprocess.Popen[bytes]) -> None:
    """Everything that the service does, and its end."""
    service.wait_until_answering()
    painted = service.post("/txt2img", SMALL)
    assert (painted.status_code, painted.json()["image_url"] is None) == (200, False), painted.text
    image = f"/image/{painted.json()['image_id']}"
    assert service.get(image).status_code == 200, service.printed
    assert service.get(f"{image}?format=webp&width=32").status_code == 200
    assert service.get("/models").status_code == 200
    # The traced process is strace's only child.
    gunicorn = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
    os.kill(int(gunicorn), signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize("kept", ["on disk", "in a bucket"])
def test_the_service_asks_for_nothing_that_is_forbidden(
    kept: str, allowed: set[str], short_folder: Path, redis_server: RedisServer
) -> None:
    port = free_port()
    calls = short_folder / "calls"
    command = ["strace", "-f", "-qq", "-o", str(calls), sys.executable, str(ROOT / "stable_diffusion_api.py")]
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "REDIS_URL": redis_server.url}
    store = S3Server(short_folder / "s3")
    store.start()  # from now on it has a port
    if kept == "in a bucket":
        settings |= {"IMAGE_DIR": "", "STORAGE_URL": store.url("all")}
        settings |= {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
    try:
        with (
            Simulator() as simulator,
            started(command, short_folder / "service", port, SD_WEBUI_URL=simulator.url, **settings) as service,
        ):
            traced(service, service.process)
    finally:
        store.kill()
    trace = calls.read_text()
    used = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", trace, re.MULTILINE))
    assert {"openat", "clone3"} <= used
    # SQLite calls fchown as root only, so that its files belong to the database's owner; the unit's user is not root.
    assert used - allowed - ({"fchown"} if os.geteuid() == 0 else set()) == set()
    families = set(re.findall(r"socket\((AF_\w+)", trace))
    (permitted,) = re.findall(r"^RestrictAddressFamilies=(.*)$", UNIT, re.MULTILINE)
    assert families <= set(permitted.split())
    assert "MemoryDenyWriteExecute=yes" in UNIT
    assert not re.search(r"PROT_WRITE\|PROT_EXEC", trace)
