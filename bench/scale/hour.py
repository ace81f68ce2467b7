"""
An hour of mixed traffic: what the service holds, and what callers wait, sampled all the while.

The callers are those of :mod:`tools.soak` (all routes, both doors, bad requests, retries, hang-ups, slow senders,
cancelled jobs), with pauses between their requests; WebUIs and Redis fail now and then, no worker is killed.
"""

from __future__ import annotations

import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis as redis_client

from bench import accounting
from tests.pool.callers import wait_for_webuis
from tests.pool.webuis import SimulatorProcess, urls
from tests.running import NO_LIMITS, ROOT, RedisServer, Service, started
from tools.soak.census import census, workers_of
from tools.soak.traffic import Caller, Tally
from tools.soak.trouble import Trouble, repair

WEBUIS = 4
CALLERS = 16
#: Mean pause of each caller: seven or eight requests a second of them all.
PAUSE_S = 1.2
SIDES = (64, 64, 128, 512)
#: Between two failures of WebUIs or Redis.
TROUBLE_S = (5.0, 60.0)
SAMPLE_S = 10.0
#: What is summed up in one row of the results.
ROW_S = 300.0

_SETTINGS = NO_LIMITS | {"SD_MODEL": "v1-5-pruned-emaonly", "SD_TIMEOUT": "20", "SD_QUEUE_TIMEOUT": "30"}


def measured(seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """What is saved. :param seconds: of traffic, 3600 for what is published."""
    tally, ended, mutex = Tally(), threading.Event(), threading.Lock()
    with ExitStack() as stack:
        service, webuis, redis = _started(stack)
        draw = random.Random(1)
        callers = [
            Caller(service, tally, mutex, ended, draw.getrandbits(32), pause_s=PAUSE_S, sides=SIDES)
            for _ in range(CALLERS)
        ]
        trouble = Trouble(service, webuis, redis, ended, 1, kills=False, pause_s=TROUBLE_S)
        began, samples = time.monotonic(), [_sample(service, redis, 0.0)]
        for thread in (*callers, trouble):
            thread.start()
        while (passed := time.monotonic() - began) < seconds:
            time.sleep(min(SAMPLE_S, seconds - passed))
            samples.append(_sample(service, redis, time.monotonic() - began))
            if len(samples) % 30 == 1:
                say(f"{samples[-1]}, {sum(tally.outcomes.values())} requests")
        ended.set()
        for thread in (*callers, trouble):
            thread.join()
        repair(webuis)
        wait_for_webuis(service, WEBUIS)
        time.sleep(SAMPLE_S)
        samples.append(_sample(service, redis, time.monotonic() - began))
    return {
        "seconds": seconds,
        "requests": sum(tally.outcomes.values()),
        "lost": len(tally.lost),
        "failures": dict(trouble.done),
        "findings": tally.findings[:20],
        "samples": samples,
        "latency": [_latency(tally, began, start) for start in range(0, int(seconds), int(ROW_S))],
    }


def _started(stack: ExitStack) -> tuple[Service, Sequence[SimulatorProcess], RedisServer]:
    """As in production: gunicorn by its command, so that its workers share memory with nobody else."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sd-hour-")))
    redis = RedisServer(folder)
    redis.start()
    stack.callback(redis.stop)
    webuis = [SimulatorProcess() for _ in range(WEBUIS)]
    for webui in webuis:
        webui.start()
        stack.callback(webui.kill)
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "-w", "2"]
    command += ["-b", f"fd://{listener.fileno()}", "stable_diffusion_api:app"]
    settings = {**_SETTINGS, "SD_WEBUI_URL": urls(webuis), "REDIS_URL": redis.url}
    service = stack.enter_context(started(command, folder / "service", listener, **settings))
    service.wait_until_answering()
    wait_for_webuis(service, WEBUIS)
    return service, webuis, redis


def _sample(service: Service, redis: RedisServer, at_s: float) -> dict[str, Any]:
    """Sums over the workers, but for ``files`` and ``threads``, which are those of the one that has most."""
    workers = [census(pid) for pid in workers_of(service.process.pid)]
    tree = accounting.tree(service.process.pid)
    kept = [path.lstat().st_size for path in (service.folder / "run").glob("**/*") if path.is_file()]
    return {
        "at_s": round(at_s, 1),
        "rss_mb": round(sum(one.rss_mb for one in workers), 1),
        "pss_mb": round(accounting.pss_mb(tree), 1),
        "cpu_s": round(accounting.cpu_s([service.process.pid]), 2),
        "redis_mb": _redis_mb(redis),
        "runtime_dir_mb": round(sum(kept) / 1e6, 2),
        "files": max(one.files for one in workers),
        "sockets": max(one.sockets for one in workers),
        "threads": max(one.threads for one in workers),
    }


def _redis_mb(server: RedisServer) -> float | None:
    """None while it is frozen or down."""
    with redis_client.Redis.from_url(server.url, socket_timeout=1) as client:
        try:
            return round(int(client.info("memory")["used_memory"]) / 1e6, 2)
        except redis_client.RedisError:
            return None


def _latency(tally: Tally, began: float, start_s: float) -> dict[str, Any]:
    """Of the requests that were sent within :data:`ROW_S` from ``start_s`` on."""
    sent = [(kind, took) for at, kind, took in tally.took if start_s <= at - began < start_s + ROW_S]
    found: dict[str, Any] = {"at_s": start_s, "requests": len(sent)}
    for kind in ("health", "image", "bad", "txt2img"):
        times = sorted(took for other, took in sent if other == kind)
        found |= {f"{kind}_p50_ms": _quantile_ms(times, 0.5), f"{kind}_p99_ms": _quantile_ms(times, 0.99)}
    return found


def _quantile_ms(times: Sequence[float], share: float) -> float | None:
    return round(1000 * times[min(len(times) - 1, int(share * len(times)))], 1) if times else None
