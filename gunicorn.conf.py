"""gunicorn's settings. Found by itself where gunicorn is started in this folder; the command line wins."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from config import Config, ConfigError
from observability.logs import log_config

try:
    _config = Config.from_env(os.environ)
except ConfigError as error:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(2) from None

bind = f"{_config.host}:{_config.port}"
workers = 2

# Threads wait for GPUs: a waiting one costs some 40 kB. As many as can be held at a time, and some to spare, so that a
# health check never waits.
worker_class = "gthread"
threads = _config.threads

# Longer than the keep-alive of the balancers in front (nginx 60 s, AWS 60 s): the one who closes first must not be the
# one that could be sent a request at the same moment.
keepalive = 75

# With threads this watches the worker's main loop only; a job's time is bounded by SD_TIMEOUT.
timeout = 60

# A stopping worker lets its running jobs end. What stops it must wait longer before it kills
# (Kubernetes: terminationGracePeriodSeconds).
graceful_timeout = int(_config.sd_timeout) + 15

# On by default in one file per user: two services of one user would fight for it.
control_socket_disable = True

# A worker's heartbeat file on a disk can block; /dev/shm is memory.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108

logconfig_dict = log_config(level=_config.log_level, form=_config.log_format)


def post_worker_init(worker: Any) -> None:
    """On SIGTERM the service first stops taking jobs, then gunicorn stops the worker as ever."""
    drain: Callable[[], None] = worker.wsgi.extensions["drain"]
    stop = signal.getsignal(signal.SIGTERM)

    def drain_and_stop(number: int, frame: Any) -> None:
        drain()
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, drain_and_stop)


def worker_exit(server: Any, worker: Any) -> None:
    """The worker's background threads end before the interpreter does."""
    app = getattr(worker, "wsgi", None)
    close: Callable[[], None] | None = getattr(app, "extensions", {}).get("close")
    if close is not None:
        close()
