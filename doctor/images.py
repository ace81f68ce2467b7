"""The storage of images, and ``RUNTIME_DIR``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from config import Config, check_folder
from doctor.findings import Finding, error, ok, warning
from services.runtime_folder import RuntimeFolder
from storage import StorageConfigurationError, StorageUnavailableError, UnavailableReason, open_storage

_SUBJECT = "storage"

#: Some hundred pictures.
_LITTLE_GB = 1.0

_REMEDIES: dict[UnavailableReason, str] = {
    "disk_full": "make room, or set IMAGE_TTL_HOURS or IMAGE_MAX_GB",
    "read_only": "mount it writable",
    "permission": "let the service's user write there; a bucket: s3:PutObject, GetObject, DeleteObject and ListBucket",
    "missing": "the folder's parent must be there, and the bucket made by hand: look at its name and at endpoint=…",
    "credentials": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role; look at the clock as well",
    "region": "set region=… in STORAGE_URL to where the bucket is",
    "timeout": "look at the network and at the store's own log",
    "unreachable": "look at endpoint=… in STORAGE_URL, and at the network",
}
_LOOK = "look at the disk, or at the store's own log"


def check(config: Config) -> list[Finding]:
    """Writes a probe into the storage and removes it."""
    try:
        open_storage(config.storage_url or config.image_dir).check()
    except StorageConfigurationError as problem:
        return [error(_SUBJECT, str(problem), "see STORAGE_URL in docs/configuration.md")]
    except StorageUnavailableError as problem:
        return [error(_SUBJECT, f"no image can be stored: {problem.reason}", _REMEDIES.get(problem.reason, _LOOK))]
    if config.storage_url:
        return [ok(_SUBJECT, "the bucket takes images")]
    return [*_of_disk(config), *_of_sendfile(config)]


def check_runtime_folder(config: Config) -> list[Finding]:
    if problem := check_folder(config.runtime_dir):
        return [error("runtime", problem, "name a folder that belongs to the service's user alone, on a local disk")]
    if problem := RuntimeFolder(Path(config.runtime_dir)).problem():
        text = f"RUNTIME_DIR: cannot be written ({problem})"
        return [error("runtime", text, "make room there: without it jobs are refused, and requests cannot be followed")]
    return [ok("runtime", "RUNTIME_DIR can be used")]


def _of_disk(config: Config) -> list[Finding]:
    free_gb = shutil.disk_usage(config.image_dir).free / 1e9
    for_ever = not config.image_ttl_hours and not config.image_max_gb
    kept = "images are kept forever" if for_ever else "old images are removed"
    text = f"IMAGE_DIR takes images; {free_gb:.1f} GB are free; {kept}"
    return [ok(_SUBJECT, text) if free_gb >= _LITTLE_GB else warning(_SUBJECT, text, _REMEDIES["disk_full"])]


def _of_sendfile(config: Config) -> list[Finding]:
    if config.sendfile_header is None:
        return []
    folder = Path(os.path.abspath(config.image_dir))
    closed = [one for one in (folder, *folder.parents) if not one.stat().st_mode & 0o011]
    if not closed:
        return []
    text = f"nobody but its owner may enter {closed[0]}, so nginx cannot send images"
    return [error(_SUBJECT, text, f"chmod g+x {closed[0]}, and nginx' user in the service's group")]
