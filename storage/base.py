"""What every storage can do, and what they share."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol
from uuid import UUID

_IMAGE_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """
    What is known of a stored image without reading it.

    ``etag`` is strong, without quotes, and stays the same, for a stored image never changes. ``modified`` is when it
    was stored, in UTC.
    """

    size_bytes: int
    etag: str
    modified: datetime


@dataclass(frozen=True, kw_only=True)
class OpenImage(ImageFacts):
    """``file`` is a real one (it has a ``fileno()``), open for reading at position 0; the caller closes it."""

    file: BinaryIO


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """One entry of a listing. ``modified`` is when it was stored, seconds since 1970."""

    image_id: UUID
    size_bytes: int
    modified: float


class ImageStorage(Protocol):
    """Keeps finished images, each with the record of how it was made. Safe to use from several threads."""

    def save(self, image_id: UUID, png: bytes, record: Mapping[str, object]) -> None:
        """Keep ``png`` as it is. Once this returns, the image survives a crash; if it raises, nothing is kept.

        :param record: anything JSON can express.
        :raises TypeError, ValueError: the record is not JSON (nothing was touched).
        :raises ImageExistsError: the id is taken.
        :raises StorageUnavailableError:
        """

    def open(self, image_id: UUID) -> OpenImage:
        """
        :raises ImageNotFoundError:
        :raises StorageUnavailableError:
        """

    def look(self, image_id: UUID) -> ImageFacts:
        """What :meth:`open` says, without fetching the image.

        :raises ImageNotFoundError:
        :raises StorageUnavailableError:
        """

    def delete(self, image_id: UUID) -> None:
        """Remove the image and its record. One that is being read can be read to its end.

        Of several deletions of one image at once, at least one succeeds.

        :raises ImageNotFoundError:
        :raises StorageUnavailableError:
        """

    def images(self) -> Iterator[StoredImage]:
        """All whole images, in no order; those stored or removed meanwhile may be among them or not.

        :raises StorageUnavailableError:
        """

    def sweep(self) -> int:
        """Remove what crashed processes left behind, and return how many files that were. Safe beside saves.

        :raises StorageUnavailableError:
        """

    def check(self) -> None:
        """Prove by a small write that an image could be saved now.

        :raises StorageUnavailableError: it could not.
        """


def parse_image_id(text: str) -> UUID | None:
    """The id that ``text`` spells in the canonical form of RFC 9562, section 4, in either case; else ``None``."""
    return UUID(text) if _IMAGE_ID.fullmatch(text) else None


def image_path(image_id: UUID) -> str:
    """Where an image lies below its folder, or below the bucket's prefix: ``0b/9f/<id>.png``."""
    digits = image_id.hex
    return f"{digits[:2]}/{digits[2:4]}/{image_id}.png"


def encode_record(record: Mapping[str, object]) -> bytes:
    """
    :raises TypeError, ValueError: the record is not JSON.
    """
    text = json.dumps(dict(record), ensure_ascii=False, sort_keys=True, allow_nan=False)
    # A lone surrogate (half an emoji in a prompt) is not UTF-8; its backslash form is JSON's own escape for it.
    return text.encode("utf-8", errors="backslashreplace")
