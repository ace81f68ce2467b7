"""Which fields are pictures: those may be as large as a body."""

from __future__ import annotations

from typing import Final

PICTURE_FIELDS: Final = ("image", "mask")

#: For patterns over a body's bytes.
PICTURE_FIELDS_PATTERN: Final = b"(" + "|".join(PICTURE_FIELDS).encode() + b")"
