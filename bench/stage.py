"""Starts the servers that are measured, as children of this process that end with the block."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from bench.upstream import Counts, Order
from bench.workloads import PREFIX
from tests.running import ROOT, environment, free_port, redis_binary
from tools.children import Children

#: litellm's proxy needs ten seconds on an idle machine.
START_S = 120.0

#: A worker may be ready before another: so many good answers in a row are not all from one.
IN_A_ROW = 24

#: As many limits as by default, none of which is ever reached.
NO_LIMITS = {
    "RATE_LIMIT_GLOBAL": "100000/second;200000 per 2 second",
    "RATE_LIMIT_GENERATION": "100000/second",
}

#: Started in a folder without a gunicorn.conf.py, which gunicorn would use for the peers as well.
_GUNICORN = [sys.executable, "-m", "gunicorn"]

LITELLM = ROOT / "bench" / ".venv-litellm" / "bin" / "litellm"

_NGINX = """
{user}
worker_processes 2;
daemon off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_max_body_size 64m;
  client_body_buffer_size 16m;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  proxy_read_timeout 600s;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_buffer_size 64k;
  proxy_buffers 16 64k;
  proxy_busy_buffers_size 128k;
  proxy_max_temp_file_size 0;
  upstream webui {{ server 127.0.0.1:{upstream}; keepalive 64; }}
  {upstreams}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://webui; }}
    {more}
  }}
}}
"""

#: As it comes, but for what pictures and their seconds need at least.
_STOCK_NGINX = """
{user}
worker_processes 2;
daemon off;
pid nginx.pid;
error_log error.log;
events {{ }}
http {{
  access_log access.log;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_max_body_size 64m;
  proxy_read_timeout 600s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
  }}
}}
"""

_LITELLM = """
model_list:
  - model_name: painter
    litellm_params:
      model: openai/painter
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: none
    model_info:
      mode: image_generation
general_settings:
  master_key: sk-bench
"""


@dataclass(frozen=True, kw_only=True)
class Server:
    """
    :param pids: the processes at the root of what is measured.
    :param images: the folder that it fills, if any.
    """

    port: int
    pids: tuple[int, ...]
    images: Path | None = None


class Upstream:
    """:mod:`bench.upstream` as this process sees it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._url = f"http://127.0.0.1:{server.port}/bench"

    def order(self, *, seconds: float = 0.0, together: int = 0) -> None:
        self._ask(json.dumps(asdict(Order(seconds=seconds, together=together))).encode())

    def counts(self) -> Counts:
        return self._ask(None)

    def webuis(self, count: int) -> str:
        """As ``SD_WEBUI_URL`` wants them."""
        return ",".join(f"http://127.0.0.1:{self.server.port}/{number}" for number in range(1, count + 1))

    def _ask(self, body: bytes | None) -> Counts:
        with urllib.request.urlopen(self._url, body, timeout=START_S) as answer:  # noqa: S310 - our own
            return Counts(**json.load(answer))


class Stage:
    """Starts servers in a temporary folder, and ends them all, the last first, with the block."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sd-bench-")))
            self._children = stack.enter_context(Children(self._folder))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def aside(self) -> Stage:
        """Another stage, which ends with this one at the latest: for servers that may fail to start."""
        return self._stack.enter_context(Stage())

    def upstream(self) -> Upstream:
        command = [sys.executable, "-m", "bench.upstream"]
        return Upstream(self._listening("upstream", lambda fd: [*command, str(fd)], {}, path="/bench"))

    def service(self, name: str, webuis: str, *, workers: int = 2, root: Path = ROOT, **settings: str) -> Server:
        """
        This service as in production, with the default settings; returns when it sees every WebUI.

        :param root: the checkout whose code is started, with this one's packages.
        """
        folder = self._folder / name
        (folder / "images").mkdir(parents=True)
        own = {"IMAGE_DIR": str(folder / "images"), "RUNTIME_DIR": str(folder / "run"), "SD_WEBUI_URL": webuis}
        config = ["-c", str(root / "gunicorn.conf.py"), "-w", str(workers)]
        server = self._listening(
            name,
            lambda fd: [*_GUNICORN, *config, "-b", f"fd://{fd}", "stable_diffusion_api:app"],
            {"PYTHONPATH": str(root), **own, **NO_LIMITS, **settings},
            path=f"{PREFIX}/health",
            ready=lambda answer: json.loads(answer)["webuis"]["available"] == len(webuis.split(",")),
        )
        return Server(port=server.port, pids=server.pids, images=folder / "images")

    def peer(self, name: str, upstream: Upstream) -> Server:
        """One of :mod:`bench.peers`, under the same gunicorn."""
        folder = self._folder / name
        folder.mkdir()
        options = ["-k", "gthread", "-w", "2", "--threads", "64", "--keep-alive", "75", "--timeout", "120"]
        own = {"PEER_WEBUI_URL": f"http://127.0.0.1:{upstream.server.port}", "PEER_IMAGES": str(folder)}
        server = self._listening(
            name,
            lambda fd: [*_GUNICORN, *options, "--no-control-socket", "-b", f"fd://{fd}", f"bench.peers.{name}:app"],
            own,
            path="/",
        )
        return Server(port=server.port, pids=server.pids, images=folder)

    def nginx(self, name: str, upstream: Upstream, *, upstreams: str = "", more: str = "") -> Server:
        """``upstreams``: further ones; ``more``: further locations."""
        return self._nginx(name, _NGINX, upstream, upstreams=upstreams, more=more)

    def stock_nginx(self, name: str, upstream: Upstream) -> Server:
        """As somebody sets it up who knows nothing of what is behind it."""
        return self._nginx(name, _STOCK_NGINX, upstream)

    def _nginx(self, name: str, template: str, upstream: Upstream, **more: str) -> Server:
        folder = self._folder / name
        folder.mkdir()
        port = free_port()
        user = "user root;" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(template.format(port=port, upstream=upstream.server.port, user=user, **more))
        command = [shutil.which("nginx") or "nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
        pid = self._start(name, command)
        self._wait(name, port, "/bench")
        return Server(port=port, pids=(pid,))

    def litellm(self, upstream: Upstream) -> Server:
        (self._folder / "litellm.yaml").write_text(_LITELLM.format(upstream=upstream.server.port))
        port = free_port()
        command = [str(LITELLM), "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port)]
        # It would fetch its list of prices from the network.
        own = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
        pid = self._start("litellm", command, own)
        self._wait("litellm", port, "/health/liveliness")
        return Server(port=port, pids=(pid,))

    def redis(self) -> tuple[int, str]:
        """The process ID and the URL."""
        path = self._folder / "redis.sock"
        command = [redis_binary(), "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
        pid = self._start("redis", command)
        self._children.wait_for("redis", path.exists, timeout_s=START_S)
        return pid, f"unix://{path}"

    def _listening(
        self,
        name: str,
        command: Callable[[int], list[str]],
        settings: Mapping[str, str],
        *,
        path: str,
        ready: Callable[[bytes], bool] = lambda answer: True,
    ) -> Server:
        """A server on a port that nobody can take away in between."""
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            fd = listener.fileno()
            pid = self._start(name, command(fd), settings, fds=(fd,))
            port = int(listener.getsockname()[1])
        self._wait(name, port, path, ready)
        return Server(port=port, pids=(pid,))

    def _start(
        self, name: str, command: list[str], settings: Mapping[str, str] | None = None, *, fds: tuple[int, ...] = ()
    ) -> int:
        # Its output goes into its log, which is shown if it ends too early.
        quiet = ["/bin/sh", "-c", 'exec "$@" 2>&1', name, *command]
        own = environment({"PYTHONPATH": str(ROOT), **(settings or {})})
        return self._children.start(name, quiet, environ=own, log=self._folder / f"{name}.log", pass_fds=fds).pid

    def _wait(self, name: str, port: int, path: str, ready: Callable[[bytes], bool] = lambda answer: True) -> None:
        self._children.wait_for(
            name, lambda: all(_answers(port, path, ready) for _ in range(IN_A_ROW)), timeout_s=START_S
        )


def _answers(port: int, path: str, ready: Callable[[bytes], bool]) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return ready(answer.read())
    except urllib.error.HTTPError as error:
        with error:  # a server without such a page is up as well
            return error.code == 404
    except OSError:
        return False
