"""gunicorn's settings. gunicorn finds this file if it is started in this folder; the command line wins."""

import ctypes
import gc
import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from gunicorn.workers.gthread import ThreadWorker

from api.siblings import SIBLINGS, State
from config import KEEPALIVE_S, Config, ConfigError, check_folder
from doctor.settings import holds, misspelt, weak_keys
from doctor.timeouts import Server, contradictions, per_process
from observability.logs import log_config
from observability.multiprocess import count_alone, count_together, free_slot, make_folder
from sd_client.deadlines import until_beat

try:
    _config = Config.from_env(os.environ)
    if _problem := check_folder(_config.runtime_dir):
        raise ConfigError(f"invalid configuration:\n  {_problem}")
    _metrics = make_folder(Path(_config.runtime_dir))
except (ConfigError, OSError) as error:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(2) from None

_host = _config.host.strip("[]")
bind = f"[{_host}]:{_config.port}" if ":" in _host else f"{_host}:{_config.port}"
workers = 2

worker_class = "api.worker.Worker"
logger_class = "api.worker.QuietLogger"

# Threads wait for GPUs; a waiting one costs some 40 kB. There are a few more than jobs can take, for health checks.
threads = _config.threads

# Connections take file descriptors, as do images, WebUIs and Redis. A worker that runs out of them dies with its jobs.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
_files = 65_536 if _hard == resource.RLIM_INFINITY else min(_hard, 65_536)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(_soft, _files), _hard))
worker_connections = max(threads, min(1000, max(_soft, _files) - 2 * threads - 100))

keepalive = KEEPALIVE_S

# This watches the main loop alone; SD_TIMEOUT limits a job's time.
timeout = 60

# A stopping worker finishes its running jobs. Whatever stops it must wait longer than this before it kills it.
graceful_timeout = _config.graceful_timeout_s

# Otherwise two services of one user would fight for one socket.
control_socket_disable = True

# A heartbeat file on a disk can block; /dev/shm is memory.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108

logconfig_dict = log_config(level=_config.log_level, form=_config.log_format)

# For prometheus_client. An upgrade by USR2 inherits the old gunicorn's folder here.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"invalid configuration:\n  {reason}\n")
    raise SystemExit(2)


def on_starting(server: Any) -> None:
    """
    Warns about settings that contradict the command line, and refuses what cannot work: a worker without threads would
    do nothing else while it waits for a GPU, and be killed with its job after ``timeout``.
    """
    if not issubclass(server.cfg.worker_class, ThreadWorker):
        _refuse(f"gunicorn's worker class {server.cfg.worker_class_str} has no threads: leave out -k and --threads")
    if server.cfg.preload_app:
        _refuse("the service's background threads do not outlive a fork: leave out --preload (preload_app)")
    asked = Server(
        workers=server.cfg.workers,
        worker_class=server.cfg.worker_class_str,
        threads=server.cfg.threads,
        graceful_timeout_s=server.cfg.graceful_timeout,
        keepalive_s=server.cfg.keepalive,
    )
    server.log.info("settings: %s", holds(_config, asked))
    for found in (
        *misspelt(os.environ),
        *weak_keys(_config),
        *contradictions(_config, asked),
        *per_process(_config, asked),
    ):
        server.log.warning("%s; %s", found.text, found.remedy)


def when_ready(server: Any) -> None:
    """Called in the master before it forks: the memory of what is imported and built here is shared by the workers."""
    # Not at the top: wrong settings are reported without it.
    from stable_diffusion_api import bounds_of, field_set

    field_set(bounds_of(_config))
    # A worker's collections would write to every object, and so copy all of that memory.
    gc.collect()
    gc.freeze()


def pre_fork(server: Any, worker: Any) -> None:
    worker.slot = free_slot({other.slot for other in server.WORKERS.values()})


#: In glibc's malloc.h, for mallopt(3).
_M_ARENA_MAX = -8


def post_fork(server: Any, worker: Any) -> None:
    # By default each of the first 8 threads per processor has its own arena, which keeps the memory of its peak.
    # Python's threads hardly ever allocate at the same time.
    if (set_option := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        set_option(_M_ARENA_MAX, 2)
    try:
        count_together(_metrics, worker.slot)
    except OSError as error:
        server.log.error("this worker's metrics cannot be kept in RUNTIME_DIR: %s", error.strerror)
        count_alone()


def pre_exec(server: Any) -> None:
    """Called for USR2, in the process that becomes a newer gunicorn on the same sockets."""
    SIBLINGS.set_newer_gunicorn(os.getpid())


def child_exit(server: Any, worker: Any) -> None:
    """Called in the master once a worker has ended."""
    SIBLINGS.set_state(worker.age, State.GONE)


def on_exit(server: Any) -> None:
    shutil.rmtree(_metrics, ignore_errors=True)


#: How often a worker gives unused memory back.
_TRIM_S = 1.0


def _give_memory_back() -> None:
    """
    After a burst, glibc keeps several times the memory of an idle worker, in the gaps that pictures leave. Giving it
    back at once (``MALLOC_MMAP_THRESHOLD_``) costs a third more CPU per picture; once a second, 0.05 ms.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:  # other C libraries lack it
        time.sleep(until_beat(_TRIM_S))
        trim(0)


def post_worker_init(worker: Any) -> None:
    threading.Thread(target=_give_memory_back, name="memory", daemon=True).start()


def worker_exit(server: Any, worker: Any) -> None:
    """Called in the worker: its background threads end before the interpreter does."""
    app = getattr(worker, "wsgi", None)
    close: Callable[[], None] = getattr(app, "extensions", {}).get("close", lambda: None)
    close()
