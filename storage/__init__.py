"""Where finished images are kept."""

import os
import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from storage.base import ImageStorage, OpenImage, StoredImage, parse_image_id
from storage.errors import (
    ImageExistsError,
    ImageNotFoundError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
    UnavailableReason,
)
from storage.local import LocalStorage
from storage.s3_address import S3Address

__all__ = [
    "ImageExistsError",
    "ImageNotFoundError",
    "ImageStorage",
    "LocalStorage",
    "OpenImage",
    "S3Address",
    "StorageConfigurationError",
    "StorageError",
    "StorageUnavailableError",
    "StoredImage",
    "UnavailableReason",
    "open_storage",
    "parse_image_id",
]

_ACCEPTED = "accepted are a plain path and file:///absolute/path, and s3://bucket/prefix"
# As in RFC 3986, section 4.2: a relative path with a colon in its first part is written ./with:colon.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


def open_storage(url_or_path: str, *, on_failure: Callable[[str], None] = lambda operation: None) -> ImageStorage:
    """The storage at an address. Nothing is created or contacted yet: ``check()`` does that.

    A relative path counts from the working directory of now.

    :param on_failure: called with the name of each operation that the disk or the bucket fails.
    :raises StorageConfigurationError: the address cannot be used.
    """
    scheme = _SCHEME.match(url_or_path)
    if scheme is None:
        return LocalStorage(_checked_path(url_or_path), on_failure=on_failure)
    if scheme[1].lower() == "s3":
        from storage.s3 import S3Storage  # not above: the library for it takes 4 MB

        return S3Storage(S3Address.parse(url_or_path), on_failure=on_failure)
    if scheme[1].lower() != "file":
        # Only the scheme is repeated: the rest of a URL may hold credentials.
        raise StorageConfigurationError(
            f"unknown storage scheme {scheme[1]!r}: {_ACCEPTED}, or ./path if it has a colon"
        )
    return LocalStorage(_checked_path(_path_in_file_url(url_or_path[scheme.end() :])), on_failure=on_failure)


def _path_in_file_url(rest: str) -> str:
    # Not urlsplit(): it drops line breaks and tabs in silence.
    host, slash, path = rest.removeprefix("//").partition("/")
    if host not in ("", "localhost") or not slash:
        raise StorageConfigurationError(f"a file URL needs an absolute path on this host: {_ACCEPTED}")
    if "?" in path or "#" in path:
        raise StorageConfigurationError(f"'?' and '#' in a file URL are written %3F and %23: {_ACCEPTED}")
    return os.fsdecode(unquote_to_bytes("/" + path))


def _checked_path(path: str) -> str:
    if not path or path != path.strip():
        raise StorageConfigurationError(f"the storage's path {path!r} is empty or has blanks around it: {_ACCEPTED}")
    if "\0" in path:
        raise StorageConfigurationError(f"the storage's path {path!r} holds a NUL character: {_ACCEPTED}")
    if path.startswith("~"):
        raise StorageConfigurationError(f"'~' is not expanded in the storage's path {path!r}: {_ACCEPTED}")
    return path
