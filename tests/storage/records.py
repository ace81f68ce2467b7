"""The records that storages keep beside their images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

from storage.base import image_path


def record_in(folder: Path, image_id: UUID) -> dict[str, Any]:
    """:param folder: of a local storage, or of a bucket's prefix."""
    record: dict[str, Any] = json.loads((folder / image_path(image_id)).with_suffix(".json").read_bytes())
    return record
