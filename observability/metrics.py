"""What the service counts, and what it is called. What it only shows, as it is at that moment, is in `states`.

``docs/metrics.md`` is held against both by a test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from observability.metrics_folder import DEATHS, make_again, reading

MODES: Final = ("txt2img", "img2img", "inpainting")
#: Why images are removed.
REMOVALS: Final = ("age", "size", "request")
#: What Redis is used for: see docs/metrics.md.
REDIS_USES: Final = ("limits", "schedule", "records", "health")
#: What is asked of a storage, its methods.
STORAGE_OPERATIONS: Final = ("save", "open", "look", "read_record", "delete", "images", "sweep", "check")

#: Seconds. Health and lists take a millisecond, a generation minutes at most.
_REQUEST_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_OVERHEAD_BUCKETS = (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)
_WEBUI_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_QUEUE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 90, 120, 300)

#: About a microsecond each; a power of 2, so that sums of them are exact.
_STEPS_PER_S = 2**20


class _Durations(Histogram):
    """
    Of seconds, in steps of 2⁻²⁰ s, which add up to the same in any order. A sum of the workers' sums that falls by its
    last bit, because one of them died and they are added up in another order, is a reset to Prometheus.
    """

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        super().observe(round(amount * _STEPS_PER_S) / _STEPS_PER_S, exemplar)


class Metrics:
    """
    Each instance counts for itself. Only gunicorn's workers count together, in the folder that
    :mod:`observability.metrics_folder` makes; the environment must name it before this module is imported.

    :param redis: whether there is one.
    """

    def __init__(self, *, redis: bool = False) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # with several workers there are none
        self._registry = CollectorRegistry()
        self._together = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if self._together:  # it may have been cleared away at this very moment
            make_again(Path(self._together))
        self._add_http()
        self._add_jobs()
        self._add_stores()
        self._counter(*DEATHS)  # gunicorn's master counts; a worker has none
        self._begin_at_zero(REDIS_USES if redis else ())

    def storage_failed(self, operation: str) -> None:
        self.storage_errors.labels(operation).inc()

    def redis_failed(self, use: str) -> Callable[[], None]:
        """To be called whenever Redis fails at one of :data:`REDIS_USES`."""
        return lambda: self.redis_errors.labels(use).inc()

    def exposition(self, accept: str, *more: Collector) -> tuple[bytes, str]:
        """
        All metrics as text, and its media type.

        :param accept: the request's ``Accept``; OpenMetrics where it asks for that.
        :param more: what else is shown.
        """
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # a version that is no number
            encode, media_type = choose_encoder("")
        if self._together and self._counts_together(Path(self._together)):
            # Cleared away at this moment, or there is no room for its lock.
            with suppress(OSError, ValueError), reading(Path(self._together)):
                shown = _registry_of(*more)
                MultiProcessCollector(shown, self._together)  # type: ignore[no-untyped-call]
                return encode(shown), media_type
        return encode(_registry_of(self._registry, *more)), media_type

    def _counts_together(self, folder: Path) -> bool:
        """Not once the folder has been cleared away: this process then tells what it has counted itself."""
        return (folder / f"counter_{os.getpid()}.db").exists()

    def names(self) -> set[str]:
        """As they are shown, without a histogram's suffixes."""
        return {f"{m.name}_total" if m.type == "counter" else m.name for m in self._registry.collect()}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return _Durations(name, text, labels, buckets=tuple(buckets), registry=self._registry)

    def _add_http(self) -> None:
        self.http_requests = self._counter("sd_api_http_requests", "Requests answered.", "route", "method", "status")
        self.http_request_duration = self._histogram(
            "sd_api_http_request_duration_seconds",
            "From a request's head to its answer.",
            _REQUEST_BUCKETS,
            "route",
            "method",
        )
        self.rate_limit_decisions = self._counter(
            "sd_api_rate_limit_decisions", "Requests that a rate limit let pass or refused.", "limit", "decision"
        )
        self.rate_limit_fallback = Gauge(
            "sd_api_rate_limit_fallback",
            "Whether a worker counts rate limits for itself because Redis fails.",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self.idempotent_replays = self._counter("sd_api_idempotent_replays", "Answers given again to a known key.")

    def _add_jobs(self) -> None:
        self.jobs = self._counter("sd_api_jobs", "Jobs that asked for a WebUI.", "mode", "outcome")
        self.generation_overhead = self._histogram(
            "sd_api_generation_overhead_seconds",
            "The service's own time for a job that is done.",
            _OVERHEAD_BUCKETS,
            "mode",
        )
        self.webui_duration = self._histogram(
            "sd_api_webui_duration_seconds", "A WebUI's time for a job that is done.", _WEBUI_BUCKETS, "mode"
        )
        self.queue_wait = self._histogram(
            "sd_api_queue_wait_seconds", "How long a job waited for a WebUI.", _QUEUE_BUCKETS, "mode"
        )
        self.webui_failures = self._counter("sd_api_webui_failures", "Calls of WebUIs that failed.", "code")
        self.model_switches = self._counter("sd_api_model_switches", "Jobs that made a WebUI load another model.")

    def _add_stores(self) -> None:
        self.images_stored = self._counter("sd_api_images_stored", "Pictures stored.")
        self.images_stored_bytes = self._counter("sd_api_images_stored_bytes", "Bytes of pictures stored.")
        self.images_unstored = self._counter("sd_api_images_unstored", "Pictures that could not be stored.")
        self.images_removed = self._counter("sd_api_images_removed", "Images removed.", "reason")
        self.storage_errors = self._counter("sd_api_storage_errors", "Faults of the disk or bucket.", "operation")
        self.redis_errors = self._counter("sd_api_redis_errors", "Commands to Redis that failed.", "use")

    def _begin_at_zero(self, redis_uses: Iterable[str]) -> None:
        """``increase()`` misses the first event of a series that begins with it."""
        for mode in MODES:
            self.jobs.labels(mode, "done")
            for histogram in (self.generation_overhead, self.webui_duration, self.queue_wait):
                histogram.labels(mode)
        for limit in ("global", "generation", "images"):
            for decision in ("allowed", "refused"):
                self.rate_limit_decisions.labels(limit, decision)
        for reason in REMOVALS:
            self.images_removed.labels(reason)
        for operation in STORAGE_OPERATIONS:
            self.storage_errors.labels(operation)
        for use in redis_uses:
            self.redis_errors.labels(use)


def _registry_of(*collectors: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry
