"""A real nginx with the project's own configuration, as it is but for the places that belong to this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.running import DEADLINE_S, ROOT, free_port, wait_until

CONFIGURATION = ROOT / "deploy" / "nginx"

_BINARY = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

needs_nginx = pytest.mark.skipif(_BINARY is None, reason="nginx is not installed (apt-get install nginx-light)")

#: Debian's packages have these compiled in, below folders that belong to root.
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, kw_only=True)
class Nginx:
    """A running one; ``folder`` has its files."""

    port: int
    folder: Path

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def access_log(self) -> str:
        return (self.folder / "access.log").read_text()


@contextmanager
def running_nginx(
    folder: Path,
    *services: int,
    images: Path | None = None,
    changes: Mapping[str, str] | None = None,
    user: str = "root",
) -> Iterator[Nginx]:
    """
    :param services: the ports of the replicas.
    :param images: the service's ``IMAGE_DIR``.
    :param changes: further texts of ``nginx.conf`` and what stands there instead.
    :param user: of its workers; only root can choose one.
    """
    port = free_port()
    write_configuration(folder, *services, port=port, images=images or folder, changes=changes or {})
    main = [f"pid {folder}/nginx.pid;", "daemon off;", *([f"user {user};"] if os.getuid() == 0 else [])]
    command = [_BINARY or "nginx", "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")]
    process = subprocess.Popen([*command, "-g", " ".join(main)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or _listens(port), "nginx listens")
        assert process.poll() is None, (folder / "error.log").read_text()
        yield Nginx(port=port, folder=folder)
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def write_configuration(
    folder: Path, *services: int, port: int, images: Path, changes: Mapping[str, str] | None = None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = "".join(f" {name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    places = {
        "http {": "http {" + temporary,
        "access_log /var/log/nginx/access.log line;": f"access_log {folder}/access.log line;",
        "alias /var/lib/stable-diffusion-api/images/;": f"alias {images}/;",
        **(changes or {}),
    }
    _write(folder / "nginx.conf", places)
    servers = "\n".join(f"server 127.0.0.1:{service} max_fails=0;" for service in services)
    _write(folder / "upstream.conf", {"server 127.0.0.1:5002 max_fails=0;": servers})
    _write(folder / "listen.conf", {"listen 80;": f"listen 127.0.0.1:{port};"})
    tls = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/nginx/tls/fullchain.pem": f"{folder}/certificate.pem",
    }
    _write(folder / "listen-tls.conf", {**tls, "/etc/nginx/tls/privkey.pem": f"{folder}/key.pem"})


def _write(target: Path, places: Mapping[str, str]) -> None:
    text = (CONFIGURATION / target.name).read_text()
    for there, here in places.items():
        assert text.count(there) == 1, f"{target.name} has {there!r} {text.count(there)} times"
        text = text.replace(there, here)
    target.write_text(text)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
