"""Which entrance a path belongs to. All are at the root: some programs overwrite the path of the URL they are given."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Literal

Door = Literal["own", "a1111", "openai"]

#: The beginnings of paths that belong to a door. Programs ask A1111's for pages of its other extensions as well.
_BELOW: Final[Mapping[str, Door]] = {
    "/sdapi/": "a1111",
    "/controlnet/": "a1111",
    "/internal/": "a1111",
    "/v1/": "openai",
}
_WHOLE: Final[Mapping[str, Door]] = {"/config": "a1111", "/app_id": "a1111", "/login": "a1111"}


def door_of(path: str, doors: Collection[str]) -> Door:
    """
    :param doors: those that are open, ``DOORS``.
    """
    begin = next((begin for begin in _BELOW if path.startswith(begin)), None)
    found = _WHOLE.get(path, "own") if begin is None else _BELOW[begin]
    return found if found in doors else "own"
