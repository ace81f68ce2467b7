"""Which entrance a path belongs to. All are at the root: some programs overwrite the path of the URL they are given."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

Door = Literal["own", "a1111", "openai"]

#: The beginnings of paths that belong to a door. Programs ask A1111's for pages of its other extensions as well.
_BELOW: Final = (
    *((begin, "a1111") for begin in ("/sdapi/", "/controlnet/", "/internal/")),
    ("/v1/", "openai"),
)
_WHOLE: Final = {"/config": "a1111", "/app_id": "a1111", "/login": "a1111"}


def door_of(path: str, doors: Collection[str]) -> Door:
    """
    :param doors: those that are open, ``DOORS``.
    """
    found = _WHOLE.get(path) or next((door for begin, door in _BELOW if path.startswith(begin)), "own")
    return found if found in doors else "own"  # type: ignore[return-value]
