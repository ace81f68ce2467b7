"""gunicorn's settings. Found by itself where gunicorn is started in this folder; the command line wins."""

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from config import Config, ConfigError, check_folder
from observability.logs import log_config

try:
    _config = Config.from_env(os.environ)
    if _problem := check_folder(_config.runtime_dir):
        raise ConfigError(f"invalid configuration:\n  {_problem}")
except ConfigError as error:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(2) from None

bind = f"{_config.host}:{_config.port}"
workers = 2

# gthread, with a few words of our own about what is no request.
worker_class = "api.worker.Worker"

# Threads wait for GPUs: a waiting one costs some 40 kB. As many as can be held at a time, and some to spare, so that a
# health check never waits.
threads = _config.threads

# A connection costs a file descriptor, and so do images, WebUIs and Redis: what the system allows is taken, and left
# room in, for a worker that has none left dies with its jobs.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
_files = 65_536 if _hard == resource.RLIM_INFINITY else min(_hard, 65_536)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(_soft, _files), _hard))
worker_connections = max(threads, min(1000, max(_soft, _files) - 2 * threads - 100))

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
    """
    On SIGTERM the worker takes no more jobs and says so, health included, as long as jobs of its own run; then gunicorn
    stops it as ever. A stopping worker of gunicorn's would let new connections hang without an answer.
    """
    extensions: dict[str, Callable[[], Any]] = worker.wsgi.extensions
    stop = signal.getsignal(signal.SIGTERM)
    draining = threading.Event()

    def stop_when_idle() -> None:
        while not extensions["idle"]():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    def drain_and_stop(number: int, frame: Any) -> None:
        extensions["drain"]()
        if draining.is_set() or extensions["idle"]():
            if callable(stop):
                stop(number, frame)
            return
        draining.set()
        threading.Thread(target=stop_when_idle, name="draining", daemon=True).start()

    signal.signal(signal.SIGTERM, drain_and_stop)


def worker_exit(server: Any, worker: Any) -> None:
    """The worker's background threads end before the interpreter does."""
    app = getattr(worker, "wsgi", None)
    close: Callable[[], None] | None = getattr(app, "extensions", {}).get("close")
    if close is not None:
        close()
