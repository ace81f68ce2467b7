"""What can go wrong with stored images.

StorageError
├── StorageConfigurationError
├── ImageNotFoundError
├── ImageExistsError
└── StorageUnavailableError

No message names a path, a bucket or a host: messages may reach a caller. The operating system's or the library's own
error, where there is one, is the ``__cause__``.
"""

from typing import Literal
from uuid import UUID

UnavailableReason = Literal[
    "disk_full",
    "read_only",
    "permission",
    "missing",
    "credentials",
    "region",
    "timeout",
    "unreachable",
    "io",
]


class StorageError(Exception):
    """Any failure of a storage."""


class StorageConfigurationError(StorageError):
    """The storage's address cannot be used. Trying again is useless until the setting is changed."""


class ImageNotFoundError(StorageError):
    """No image has this id. Trying again is safe and gives the same answer."""

    def __init__(self, image_id: UUID) -> None:
        super().__init__(f"there is no image {image_id}")
        self.image_id = image_id


class ImageExistsError(StorageError):
    """The id is taken and what is stored under it was left as it is. Try again with another id only."""

    def __init__(self, image_id: UUID) -> None:
        super().__init__(f"the image id {image_id} is taken")
        self.image_id = image_id


class StorageUnavailableError(StorageError):
    """The storage itself fails. Trying again is safe: a failed save leaves nothing under its id.

    ``reason`` is ``disk_full`` (or over quota), ``read_only``, ``permission``, ``missing`` (a folder is gone
    or something else is in its place; the bucket does not exist), ``credentials`` (there are none, or they are not
    accepted), ``region`` (the bucket is in another one), ``timeout``, ``unreachable`` or ``io`` (anything else).
    """

    def __init__(self, reason: UnavailableReason) -> None:
        super().__init__(f"the image storage is unavailable: {reason}")
        self.reason: UnavailableReason = reason
