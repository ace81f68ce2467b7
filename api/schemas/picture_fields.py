"""Which fields are pictures: those may be as large as a body."""

from __future__ import annotations

from typing import Final, get_args, get_type_hints

from services.generation_request import GenerationRequest
from services.masks import Mask
from services.pictures import Picture

PICTURE_FIELDS: Final = tuple(
    name for name, kind in get_type_hints(GenerationRequest).items() if {Picture, Mask} & {*get_args(kind)}
)

#: For patterns over a body's bytes.
PICTURE_FIELDS_PATTERN: Final = b"(" + "|".join(PICTURE_FIELDS).encode() + b")"
