"""Stored images as callers may have them: none that has expired."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from storage.base import ImageFacts, ImageStorage, OpenImage
from storage.errors import ImageNotFoundError

_YEAR_S = 31_536_000


@dataclass(frozen=True, kw_only=True)
class StoredImages:
    """
    :param ttl_s: an older image counts as removed, even if it is still there; None: images do not expire.
    """

    storage: ImageStorage
    ttl_s: float | None

    def open(self, image_id: UUID) -> OpenImage:
        """
        :raises ImageNotFoundError: it was removed, or has expired.
        :raises StorageUnavailableError:
        """
        image = self.storage.open(image_id)
        if self.seconds_left(image) <= 0:
            image.file.close()
            raise ImageNotFoundError(image_id)
        return image

    def look(self, image_id: UUID) -> ImageFacts:
        """What :meth:`open` says, without fetching the image. It raises the same."""
        facts = self.storage.look(image_id)
        if self.seconds_left(facts) <= 0:
            raise ImageNotFoundError(image_id)
        return facts

    def read(self, image_id: UUID, take: Callable[[int], None]) -> bytes:
        """
        The image's file. It raises what :meth:`open` does.

        :param take: called with its number of bytes before it is read; what it raises ends the reading.
        """
        image = self.open(image_id)
        with image.file as file:
            take(image.size_bytes)
            return file.read()

    def seconds_left(self, image: ImageFacts) -> int:
        """For which it may still be had."""
        if self.ttl_s is None:
            return _YEAR_S
        age_s = max(0.0, time.time() - image.modified.timestamp())  # the clock may have been set back
        return int(self.ttl_s - age_s)
