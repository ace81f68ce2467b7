"""Removes expired images and leftovers, in one process of a host."""

from __future__ import annotations

import hashlib
import heapq
import logging
import os
import threading
import time
from collections.abc import Iterable
from uuid import UUID

from observability.metrics import Metrics
from state.election import Election
from state.store import StoreError
from storage.base import ImageStorage, StoredImage
from storage.errors import ImageNotFoundError, StorageError

log = logging.getLogger(__name__)

#: Between two rounds.
INTERVAL_S = 600.0


class Retention:
    """
    :param election: which process of the host does it.
    :param ttl_s: images older than this are removed; None: no image is too old.
    :param max_bytes: beyond this the oldest are removed; None: there is room for all.
    """

    def __init__(
        self,
        *,
        storage: ImageStorage,
        election: Election,
        ttl_s: float | None,
        max_bytes: float | None,
        metrics: Metrics,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._storage = storage
        self._election = election
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        """Begins with a round at once."""
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                if self._election.is_won():
                    self._round()
            except (StorageError, StoreError) as error:
                log.warning("expired images cannot be removed now: %s", error)
            if self._stopped.wait(self._interval_s):
                return

    def _round(self) -> None:
        leftovers = self._storage.sweep()
        removed = 0
        if self._ttl_s is not None or self._max_bytes is not None:
            removed = expire(
                self._storage, now=time.time(), ttl_s=self._ttl_s, max_bytes=self._max_bytes, metrics=self._metrics
            )
        if leftovers or removed:
            log.info("retention", extra={"images_removed": removed, "leftovers_removed": leftovers})


def folder_name(path: str) -> str:
    """Tells places for images apart, in names."""
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:12]


def expire(storage: ImageStorage, *, now: float, ttl_s: float | None, max_bytes: float | None, metrics: Metrics) -> int:
    """
    Removes images that are too old, and then the oldest of those that are too many, for which they are listed again. An
    image that is being read can be read to its end.

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
    """As few of the oldest as have that many bytes together. No more than these are held, whatever is listed."""
    held_bytes = 0
    heap: list[tuple[float, UUID, StoredImage]] = []  # its newest first
    for image in images:
        heapq.heappush(heap, (-image.modified, image.image_id, image))
        held_bytes += image.size_bytes
        while held_bytes - heap[0][2].size_bytes >= enough_bytes:
            held_bytes -= heapq.heappop(heap)[2].size_bytes
    return [image for *_, image in heap]


def _remove(storage: ImageStorage, image: StoredImage, metrics: Metrics, reason: str) -> int:
    """How many were removed: 1, or 0 if somebody else was faster."""
    try:
        storage.delete(image.image_id)
    except ImageNotFoundError:
        return 0
    metrics.images_removed.labels(reason).inc()
    return 1
