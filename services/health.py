"""How the service is, from what was last seen in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from sd_client.deadlines import until_beat
from sd_client.models import Capabilities
from sd_client.pool import PoolView, WebUIPool
from sd_client.states import WebUIState
from services.catalog import Catalog
from storage.base import ImageStorage
from storage.errors import StorageError

log = logging.getLogger(__name__)

#: Between two looks at the storage.
INTERVAL_S = 5.0
#: The same until the WebUIs have been looked at.
FIRST_LOOK_S = 0.5

Status = Literal["healthy", "degraded", "unhealthy", "draining"]
Device = Literal["gpu", "cpu", "none"]

#: Why a service is not healthy. With any of the first four it does not serve.
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

#: The reasons that nothing else logs.
_WORDS: dict[Reason, str] = {
    "no_checkpoint": "no WebUI has a model: nothing can be painted",
    "no_gpu": "no WebUI has a GPU, and CPU_FALLBACK is off: nothing is painted",
    "webui_without_checkpoint": "a WebUI has no model, so it gets no jobs",
    "checkpoint_broken": "a WebUI cannot paint with a model that it lists, which is not sent to it for a while",
    "default_model_unknown": "SD_MODEL names no model of any WebUI: requests without a model are refused",
    "default_model_ambiguous": "SD_MODEL could mean several models: requests without a model are refused",
}


@dataclass(frozen=True, kw_only=True)
class WebUICounts:
    """``gpu``: available WebUIs that report a GPU, or nothing about it; ``cpu``: those that report none."""

    total: int
    available: int
    busy: int
    gpu: int
    cpu: int


@dataclass(frozen=True, kw_only=True)
class QueueCounts:
    """Jobs that wait, and how many may."""

    waiting: int
    limit: int


@dataclass(frozen=True, kw_only=True)
class HealthReport:
    """
    The body of ``GET health``.

    :param device: what would serve now.
    :param reasons: why it is not healthy; empty if it is.
    """

    status: Status
    version: str
    uptime_seconds: float
    device: Device
    webuis: WebUICounts
    queue: QueueCounts
    redis: Literal["up", "down", "off"]
    storage: Literal["ok", "failing"]
    reasons: tuple[Reason, ...]

    @property
    def serves(self) -> bool:
        return self.status in ("healthy", "degraded")


@dataclass(frozen=True, kw_only=True)
class WebUIFigures:
    """One WebUI; ``gpu_free_bytes`` and ``gpu_total_bytes`` are None if it does not report them, or is down."""

    up: bool
    gpu_free_bytes: int | None
    gpu_total_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class _Serving:
    """
    The WebUIs that can serve.

    :param available: those that answer.
    :param able: of these, those with a model that they can load.
    :param usable: of these, those that ``USE_GPU`` and ``CPU_FALLBACK`` allow now.
    """

    available: Mapping[str, Capabilities]
    able: Mapping[str, WebUIState]
    usable: Mapping[str, WebUIState]


class HealthService:
    """
    :param redis_is_up: returns at once; None if the service does not use Redis.
    :param check_runtime: returns whether ``RUNTIME_DIR`` can be written, and logs why not.
    :param more: called at the end of every look.
    """

    def __init__(
        self,
        *,
        pool: WebUIPool,
        catalog: Catalog,
        storage: ImageStorage,
        redis_is_up: Callable[[], bool] | None,
        check_runtime: Callable[[], bool] = lambda: True,
        more: Callable[[], None] = lambda: None,
        queue_limit: int,
        version: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._storage = storage
        self._redis_is_up = redis_is_up
        self._check_runtime = check_runtime
        self._more = more
        self._queue_limit = queue_limit
        self._version = version
        self._clock = clock
        self._began = clock()
        self._storage_ok = True
        self._runtime_ok = True
        self._logged: frozenset[str] = frozenset()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)

    def start(self) -> None:
        """Begins to look; to be called in the process that serves."""
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def report(self) -> HealthReport:
        """Asks nobody, so it takes milliseconds whatever is frozen."""
        view = self._pool.view()
        serving = self._serving(view)
        reasons = self._reasons(view, serving)
        return HealthReport(
            status=_status(reasons),
            version=self._version,
            uptime_seconds=round(self._clock() - self._began, 1),
            device=_device(serving.usable.values()),
            webuis=_counts(view, serving.available),
            queue=QueueCounts(waiting=len(view.schedule.waiting), limit=self._queue_limit),
            redis=self._redis(),
            storage="ok" if self._storage_ok else "failing",
            reasons=reasons,
        )

    def webuis(self) -> dict[int, WebUIFigures]:
        """Those that have been looked at, by their place in ``SD_WEBUI_URL``. Asks nobody."""
        view = self._pool.view()
        return {place: _figures(view.states[webui]) for place, webui in enumerate(view.webuis) if webui in view.states}

    def _serving(self, view: PoolView) -> _Serving:
        states = view.states.items()
        available = {webui: state.capabilities for webui, state in states if state.available and state.capabilities}
        able = {webui: view.states[webui] for webui, seen in available.items() if _can_load(view, webui, seen)}
        return _Serving(available=available, able=able, usable=self._pool.usable(able))

    def _reasons(self, view: PoolView, serving: _Serving) -> tuple[Reason, ...]:
        available, able = len(serving.available), len(serving.able)
        default = self._catalog.default_found(view) if able else 1
        holds: dict[Reason, bool] = {
            "draining": view.draining,
            "no_webui": not available,
            "no_checkpoint": available > 0 and not able,
            "no_gpu": able > 0 and not serving.usable,
            "webui_down": 0 < available < view.total,
            "webui_without_checkpoint": 0 < able < available,
            "checkpoint_broken": any(view.broken.get(webui) for webui in serving.available),
            "default_model_unknown": default == 0,
            "default_model_ambiguous": default > 1,
            "redis_down": self._redis() == "down",
            "storage_failing": not self._storage_ok,
            "runtime_dir_failing": not self._runtime_ok,
        }
        return tuple(reason for reason, true in holds.items() if true)

    def _redis(self) -> Literal["up", "down", "off"]:
        if self._redis_is_up is None:
            return "off"
        return "up" if self._redis_is_up() else "down"

    def _watch(self) -> None:
        while True:
            self._look_at_storage()
            self._runtime_ok = self._check_runtime()
            view = self._pool.view()
            looked = len(view.states) == view.total
            if looked:
                self._log(view)
            self._more()
            if self._stopped.wait(until_beat(INTERVAL_S if looked else FIRST_LOOK_S)):
                return

    def _log(self, view: PoolView) -> None:
        """Logs each change of what nothing else logs."""
        reasons = self._reasons(view, self._serving(view))
        texts = [f"health: {reason}: {_WORDS[reason]}" for reason in reasons if reason in _WORDS]
        now = frozenset((*texts, *self._catalog.namesakes(view)))
        for text in sorted(now - self._logged):
            log.warning("%s", text)
        for text in sorted(self._logged - now):
            log.warning("no more: %s", text)
        self._logged = now

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


def _status(reasons: Collection[Reason]) -> Status:
    if not reasons:
        return "healthy"
    if "draining" in reasons:
        return "draining"
    return "degraded" if _NOT_SERVING.isdisjoint(reasons) else "unhealthy"


def _device(usable: Collection[WebUIState]) -> Device:
    if not usable:
        return "none"
    return "cpu" if all(state.capabilities and state.capabilities.gpu is False for state in usable) else "gpu"


def _counts(view: PoolView, available: Mapping[str, Capabilities]) -> WebUICounts:
    cpu = sum(1 for capabilities in available.values() if capabilities.gpu is False)
    return WebUICounts(
        total=view.total,
        available=len(available),
        busy=len({job.webui for job in view.schedule.running} & set(view.states)),
        gpu=len(available) - cpu,
        cpu=cpu,
    )


def _figures(state: WebUIState) -> WebUIFigures:
    known = state.capabilities if state.available else None
    return WebUIFigures(
        up=state.available,
        gpu_free_bytes=known.gpu_free_bytes if known else None,
        gpu_total_bytes=known.gpu_total_bytes if known else None,
    )


def _can_load(view: PoolView, webui: str, seen: Capabilities) -> bool:
    broken = view.broken.get(webui, ())
    return any(checkpoint.model_name not in broken for checkpoint in seen.checkpoints)
