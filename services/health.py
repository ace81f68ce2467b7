"""How the service is, from what was last seen in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import redis

from sd_client.models import Capabilities
from sd_client.pool import PoolView, WebUIPool
from sd_client.probing import WebUIState
from services.catalog import Catalog
from storage.base import ImageStorage
from storage.errors import StorageError

log = logging.getLogger(__name__)

#: Between two looks at the disk and at Redis.
INTERVAL_S = 5.0
#: The same until the WebUIs have been looked at.
FIRST_LOOK_S = 0.5


#: Why a service is not healthy. Each of the first four alone means that it does not serve.
Reason = Literal[
    "draining",
    "no_webui",
    "no_checkpoint",
    "no_gpu",
    "webui_down",
    "webui_without_checkpoint",
    "checkpoint_broken",
    "default_model_unknown",
    "default_model_ambiguous",
    "redis_down",
    "storage_failing",
    "runtime_dir_failing",
]
_NOT_SERVING: frozenset[Reason] = frozenset(("draining", "no_webui", "no_checkpoint", "no_gpu"))

#: Those of which nothing else in the log tells.
_WORDS: dict[Reason, str] = {
    "no_checkpoint": "no WebUI has a model: nothing can be painted",
    "no_gpu": "no WebUI has a GPU, and CPU_FALLBACK is off: nothing is painted",
    "webui_without_checkpoint": "a WebUI has no model, so it gets no jobs",
    "checkpoint_broken": "a WebUI cannot paint with a model that it lists, which is not sent to it for a while",
    "default_model_unknown": "SD_MODEL names no model of any WebUI: requests without a model are refused",
    "default_model_ambiguous": "SD_MODEL could mean several models: requests without a model are refused",
}


@dataclass(frozen=True, kw_only=True)
class HealthReport:
    """
    :param reasons: why it is not healthy; empty where it is.
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
    reasons: tuple[Reason, ...]

    @property
    def serves(self) -> bool:
        return self.status in ("healthy", "degraded")


class HealthService:
    """
    :param ping_redis: returns whether Redis can be used, within a second; None where there is none.
    :param check_runtime: returns whether ``RUNTIME_DIR`` can be written, and says in the log why not.
    """

    def __init__(
        self,
        *,
        pool: WebUIPool,
        catalog: Catalog,
        storage: ImageStorage,
        ping_redis: Callable[[], bool] | None,
        check_runtime: Callable[[], bool] = lambda: True,
        queue_limit: int,
        version: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._storage = storage
        self._ping_redis = ping_redis
        self._check_runtime = check_runtime
        self._runtime_ok = True
        self._queue_limit = queue_limit
        self._version = version
        self._clock = clock
        self._began = clock()
        self._storage_ok = True
        self._redis_up = ping_redis is not None
        self._told: frozenset[str] = frozenset()
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
        available = _available(view)
        cpu = sum(1 for capabilities in available.values() if capabilities.gpu is False)
        usable = self._pool.usable(_with_models(view))
        on_cpu = usable and all(s.capabilities and s.capabilities.gpu is False for s in usable.values())
        reasons = self._reasons(view)
        return HealthReport(
            status=_status(reasons),
            reasons=reasons,
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
            redis="off" if self._ping_redis is None else "up" if self._redis_up else "down",
            storage="ok" if self._storage_ok else "failing",
        )

    def _reasons(self, view: PoolView) -> tuple[Reason, ...]:
        available, able = _available(view), _with_models(view)
        default = self._catalog.default_found(view) if able else 1
        holds: dict[Reason, bool] = {
            "draining": view.draining,
            "no_webui": not available,
            "no_checkpoint": bool(available) and not able,
            "no_gpu": bool(able) and not self._pool.usable(able),
            "webui_down": 0 < len(available) < view.total,
            "webui_without_checkpoint": 0 < len(able) < len(available),
            "checkpoint_broken": any(view.broken.get(webui) for webui in available),
            "default_model_unknown": default == 0,
            "default_model_ambiguous": default > 1,
            "redis_down": self._ping_redis is not None and not self._redis_up,
            "storage_failing": not self._storage_ok,
            "runtime_dir_failing": not self._runtime_ok,
        }
        return tuple(reason for reason, true in holds.items() if true)

    def _watch(self) -> None:
        while True:
            self._look_at_storage()
            self._runtime_ok = self._check_runtime()
            if self._ping_redis is not None:
                up = self._ping_redis()
                if up != self._redis_up:
                    log.warning("redis %s", "is back" if up else "does not answer, or takes no writes")
                self._redis_up = up
            view = self._pool.view()
            looked = len(view.states) == view.total
            if looked:
                self._tell(view)
            if self._stopped.wait(INTERVAL_S if looked else FIRST_LOOK_S):
                return

    def _tell(self, view: PoolView) -> None:
        """What the log does not say elsewhere, once."""
        reasons = [f"health: {reason}: {_WORDS[reason]}" for reason in self._reasons(view) if reason in _WORDS]
        now = frozenset((*reasons, *self._catalog.namesakes(view)))
        for text in sorted(now - self._told):
            log.warning("%s", text)
        for text in sorted(self._told - now):
            log.warning("no more: %s", text)
        self._told = now

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


def _status(reasons: Collection[Reason]) -> Literal["healthy", "degraded", "unhealthy", "draining"]:
    if not reasons:
        return "healthy"
    if "draining" in reasons:
        return "draining"
    return "degraded" if _NOT_SERVING.isdisjoint(reasons) else "unhealthy"


def _available(view: PoolView) -> dict[str, Capabilities]:
    return {webui: state.capabilities for webui, state in view.states.items() if state.available and state.capabilities}


def _with_models(view: PoolView) -> dict[str, WebUIState]:
    """The available WebUIs that have a model which they can load."""
    return {webui: view.states[webui] for webui, seen in _available(view).items() if _can_load(view, webui, seen)}


def _can_load(view: PoolView, webui: str, seen: Capabilities) -> bool:
    broken = view.broken.get(webui, ())
    return any(checkpoint.model_name not in broken for checkpoint in seen.checkpoints)


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
