"""How the service is, from what was last seen in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import redis

from sd_client.pool import WebUIPool
from storage.base import ImageStorage
from storage.errors import StorageError

log = logging.getLogger(__name__)

#: Between two looks at the disk and at Redis.
INTERVAL_S = 5.0


@dataclass(frozen=True, kw_only=True)
class HealthReport:
    """
    :param device: what would serve now.
    :param webuis_gpu: available ones that report a GPU or do not tell; :param webuis_cpu: those that report none.
    """

    status: Literal["healthy", "degraded", "unhealthy", "draining"]
    version: str
    uptime_s: float
    device: Literal["gpu", "cpu", "none"]
    webuis_total: int
    webuis_available: int
    webuis_busy: int
    webuis_gpu: int
    webuis_cpu: int
    queue_waiting: int
    queue_limit: int
    redis: Literal["up", "down", "off"]
    storage: Literal["ok", "failing"]

    @property
    def serves(self) -> bool:
        return self.status in ("healthy", "degraded")


class HealthService:
    """
    :param ping_redis: returns whether Redis can be used, within a second; None where there is none.
    """

    def __init__(
        self,
        *,
        pool: WebUIPool,
        storage: ImageStorage,
        ping_redis: Callable[[], bool] | None,
        queue_limit: int,
        version: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._storage = storage
        self._ping_redis = ping_redis
        self._queue_limit = queue_limit
        self._version = version
        self._clock = clock
        self._began = clock()
        self._storage_ok = True
        self._redis_up = ping_redis is not None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)

    def start(self) -> None:
        """Begins to look; to be called in the process that serves."""
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def report(self) -> HealthReport:
        """Asks nobody: milliseconds, whatever is frozen."""
        view = self._pool.view()
        available = {webui: s for webui, s in view.states.items() if s.available and s.capabilities}
        cpu = sum(1 for s in available.values() if s.capabilities and s.capabilities.gpu is False)
        usable = self._pool.usable(view.states)
        on_cpu = usable and all(s.capabilities and s.capabilities.gpu is False for s in usable.values())
        storage: Literal["ok", "failing"] = "ok" if self._storage_ok else "failing"
        redis: Literal["up", "down", "off"] = "off" if self._ping_redis is None else "up" if self._redis_up else "down"
        whole = len(available) == view.total and storage == "ok" and redis != "down"
        return HealthReport(
            status="draining" if view.draining else "unhealthy" if not usable else "healthy" if whole else "degraded",
            version=self._version,
            uptime_s=self._clock() - self._began,
            device="none" if not usable else "cpu" if on_cpu else "gpu",
            webuis_total=view.total,
            webuis_available=len(available),
            webuis_busy=len({job.webui for job in view.schedule.running} & set(view.states)),
            webuis_gpu=len(available) - cpu,
            webuis_cpu=cpu,
            queue_waiting=len(view.schedule.waiting),
            queue_limit=self._queue_limit,
            redis=redis,
            storage=storage,
        )

    def _watch(self) -> None:
        while True:
            self._look_at_storage()
            if self._ping_redis is not None:
                up = self._ping_redis()
                if up != self._redis_up:
                    log.warning("redis %s", "is back" if up else "does not answer, or takes no writes")
                self._redis_up = up
            if self._stopped.wait(INTERVAL_S):
                return

    def _look_at_storage(self) -> None:
        try:
            self._storage.check()
        except StorageError as error:
            if self._storage_ok:
                log.error("storage fails: %s", error)
            self._storage_ok = False
        else:
            if not self._storage_ok:
                log.warning("storage is back")
            self._storage_ok = True


def answers(connection: redis.Redis, *, prefix: str, on_error: Callable[[], None]) -> bool:
    """
    Whether Redis takes what is written, within its connection's time-out. One that is full or a read-only replica
    answers PING and is of no use.
    """
    try:
        return bool(connection.set(f"{prefix}:health", 1, ex=60))
    except redis.RedisError:
        on_error()
        return False
