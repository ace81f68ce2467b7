"""gunicorn from a process that has imported what the service needs of other packages: half the CPU of a cold start."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Nothing of the service itself, and not prometheus_client, which reads its folder from the environment when imported.
PACKAGES = [
    *("PIL.Image", "PIL.ImageFilter", "PIL.ImageOps", "cachetools", "flask", "flask_cors", "flask_limiter"),
    *("gunicorn.app.wsgiapp", "gunicorn.arbiter", "gunicorn.workers.gthread", "isal.isal_zlib", "obstore"),
    *("pybase64", "pydantic", "redis", "redis.sentinel", "werkzeug.serving", "zlib_ng.zlib_ng"),
]

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(PACKAGES)


class WarmProcess:
    """gunicorn, with the part of :class:`subprocess.Popen` that tests use."""

    def __init__(
        self, options: Sequence[str], listener: socket.socket, environ: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        arguments = (list(options), listener, dict(environ), str(folder), str(log))
        self._process = _FORKS.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """:raises subprocess.TimeoutExpired:"""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("gunicorn", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, signum: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve(options: list[str], listener: socket.socket, environ: dict[str, str], folder: str, log: str) -> None:
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.path.insert(0, folder)
    sys.argv = ["gunicorn", "-b", f"fd://{listener.detach()}", *options]
    from gunicorn.app.wsgiapp import run

    run(prog="gunicorn")
