"""
gunicorn from a process that has imported the service, which builds nothing: a quarter of the CPU of a cold start.

Tests of what a cold start does, of reloads and of upgrades start gunicorn by its command instead.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Not api.worker: what its workers share (``api/siblings.py``) must be of one gunicorn, which imports it itself.
PRELOADED = [
    *("stable_diffusion_api", "api.connection", "api.no_request", "doctor.settings", "doctor.timeouts"),
    *("gunicorn.app.wsgiapp", "gunicorn.arbiter", "gunicorn.workers.gthread"),
    # What the service imports where it needs it.
    *("obstore", "redis.sentinel"),
]

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(PRELOADED)


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
    assert "api.siblings" not in sys.modules, "gunicorns would share their workers' states"
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
