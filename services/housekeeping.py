"""What is done now and then, by one process of a host at a time: expired images and leftovers are removed."""

from __future__ import annotations

import hashlib
import heapq
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from uuid import UUID

from observability.metrics import Metrics
from sd_client.leases import try_lock
from storage.base import ImageStorage, StoredImage
from storage.errors import ImageNotFoundError, StorageError

log = logging.getLogger(__name__)

#: Between two rounds.
INTERVAL_S = 600.0


class Housekeeping:
    """
    :param lock: a file; whoever holds its lock does the work, for all workers of the host.
    :param ttl_s: images older than this are removed; None: no image is too old.
    :param max_bytes: beyond this the oldest are removed; None: there is room for all.
    :param more: done in each round as well.
    """

    def __init__(
        self,
        *,
        storage: ImageStorage,
        lock: Path,
        ttl_s: float | None,
        max_bytes: float | None,
        more: Callable[[], None],
        metrics: Metrics,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._storage = storage
        self._lock = lock
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._more = more
        self._metrics = metrics
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begins with a round at once."""
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._round_by_one()
            except (StorageError, OSError) as error:
                log.warning("housekeeping: %s", error if isinstance(error, StorageError) else error.strerror)
            if self._stopped.wait(self._interval_s):
                return

    def _round_by_one(self) -> None:
        if (lock := try_lock(self._lock)) is not None:
            try:
                self._round()
            finally:
                os.close(lock)

    def _round(self) -> None:
        leftovers = self._storage.sweep()
        removed = 0
        if self._ttl_s is not None or self._max_bytes is not None:
            removed = expire(
                self._storage, now=time.time(), ttl_s=self._ttl_s, max_bytes=self._max_bytes, metrics=self._metrics
            )
        self._more()
        if leftovers or removed:
            log.info("housekeeping", extra={"images_removed": removed, "leftovers_removed": leftovers})


def folder_name(path: str) -> str:
    """Tells folders apart, in a file's name."""
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:12]


def expire(storage: ImageStorage, *, now: float, ttl_s: float | None, max_bytes: float | None, metrics: Metrics) -> int:
    """
    Removes images that are too old, and then the oldest of what is too much, which takes a second listing. One that is
    being read is read to its end.

    :param now: seconds since 1970.
    :returns: how many.
    :raises StorageError:
    """
    removed, total = 0, 0
    for image in storage.images():
        if ttl_s is not None and now - image.modified > ttl_s:
            removed += _remove(storage, image, metrics, "age")
        else:
            total += image.size_bytes
    if max_bytes is not None and total > max_bytes:
        for image in _oldest(storage.images(), enough_bytes=total - max_bytes):
            removed += _remove(storage, image, metrics, "size")
    return removed


def _oldest(images: Iterable[StoredImage], *, enough_bytes: float) -> list[StoredImage]:
    """As few of the oldest as have so many bytes together. Of a listing of millions no more are held."""
    held_bytes = 0
    heap: list[tuple[float, UUID, StoredImage]] = []  # the newest of them first
    for image in images:
        heapq.heappush(heap, (-image.modified, image.image_id, image))
        held_bytes += image.size_bytes
        while held_bytes - heap[0][2].size_bytes >= enough_bytes:
            held_bytes -= heapq.heappop(heap)[2].size_bytes
    return [image for *_, image in heap]


def _remove(storage: ImageStorage, image: StoredImage, metrics: Metrics, reason: str) -> int:
    """How many: 1 or, where somebody else was faster, 0."""
    try:
        storage.delete(image.image_id)
    except ImageNotFoundError:
        return 0
    metrics.images_removed.labels(reason).inc()
    return 1
