"""A storage whose deeds and faults are counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from observability.metrics import Metrics
from spool import FileData, Spool
from storage.base import ImageFacts, ImageStorage, OpenImage, StoredImage
from storage.errors import StorageUnavailableError


class WatchedStorage:
    """Does as the storage that it stands before; an image that is not there is no fault."""

    def __init__(self, storage: ImageStorage, metrics: Metrics) -> None:
        self._storage = storage
        self._metrics = metrics

    def new_file(self) -> Spool:
        return self._storage.new_file()

    def save(self, image_id: UUID, png: FileData, record: Mapping[str, object]) -> None:
        try:
            with self._watched("save"):
                self._storage.save(image_id, png, record)
        except StorageUnavailableError:
            self._metrics.images_unstored.inc()
            raise
        self._metrics.images_stored.inc()
        self._metrics.images_stored_bytes.inc(len(png))

    def open(self, image_id: UUID) -> OpenImage:
        with self._watched("open"):
            return self._storage.open(image_id)

    def look(self, image_id: UUID) -> ImageFacts:
        with self._watched("look"):
            return self._storage.look(image_id)

    def read_record(self, image_id: UUID) -> dict[str, object]:
        with self._watched("read_record"):
            return self._storage.read_record(image_id)

    def delete(self, image_id: UUID) -> None:
        with self._watched("delete"):
            self._storage.delete(image_id)

    def images(self) -> Iterator[StoredImage]:
        with self._watched("images"):
            yield from self._storage.images()

    def sweep(self) -> int:
        with self._watched("sweep"):
            return self._storage.sweep()

    def check(self) -> None:
        with self._watched("check"):
            self._storage.check()

    @contextmanager
    def _watched(self, operation: str) -> Iterator[None]:
        try:
            yield
        except StorageUnavailableError:
            self._metrics.storage_errors.labels(operation).inc()
            raise
