"""What the service counts, and what it is called. What it only shows, as it is now, is in ``api/metrics.py``.

``docs/metrics.md`` is held against both by a test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from observability.multiprocess import shared_folder
from state.files import make_own_folder

MODES: Final = ("txt2img", "img2img", "inpainting", "upscale")
#: Why images are removed.
REMOVALS: Final = ("age", "size", "request")
#: Of a reference picture on a WebUI with a model.
TRIAL_RESULTS: Final = ("passed", "failed")
#: What Redis is used for: see docs/metrics.md.
REDIS_USES: Final = ("limits", "store")
#: What is asked of a storage, its methods.
STORAGE_OPERATIONS: Final = ("save", "open", "look", "delete", "images", "sweep", "check")

#: Seconds. Health and lists take a millisecond, a generation minutes at most.
_REQUEST_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_OVERHEAD_BUCKETS = (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10)
_WEBUI_BUCKETS = (0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_QUEUE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 90, 120, 300)


class Metrics:
    """
    Each instance counts for itself, except in gunicorn's workers, which count together in the files of
    :mod:`observability.multiprocess`. Gauges are made of the health report, in ``api/metrics.py``.

    :param redis: whether the service uses Redis.
    """

    def __init__(self, *, redis: bool = False) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # with several workers there are none
        self._registry = CollectorRegistry()
        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):  # it may have been deleted at this very moment
            make_own_folder(Path(folder))
        self._add_http()
        self._add_jobs()
        self._add_stores()
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
        except TypeError:  # the version is not a number
            encode, media_type = choose_encoder("")
        if folder := shared_folder():
            with suppress(OSError, ValueError):  # deleted at this very moment
                shown = _registry_of(*more)
                MultiProcessCollector(shown, str(folder))  # type: ignore[no-untyped-call]
                return encode(shown), media_type
        return encode(_registry_of(self._registry, *more)), media_type

    def names(self) -> set[str]:
        """As they are shown, without a histogram's suffixes."""
        return {f"{m.name}_total" if m.type == "counter" else m.name for m in self._registry.collect()}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=tuple(buckets), registry=self._registry)

    def _add_http(self) -> None:
        self.http_requests = self._counter(
            "sd_api_http_requests", "Requests answered.", "route", "method", "status", "door"
        )
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
        self.reference_trials = self._counter(
            "sd_api_reference_trials", "Trials of whether a WebUI uses a reference picture.", "result"
        )
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
        for result in TRIAL_RESULTS:
            self.reference_trials.labels(result)
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
