"""Other APIs' names lead to fields that exist, and hide none of them."""

from __future__ import annotations

import re

from api.schemas import FIELDS
from api.schemas.checking import HINTS
from api.schemas.other_names import plain

OURS = {name for model in FIELDS.values() for name in model.model_fields}


def test_hints_lead_to_fields_of_ours() -> None:
    for name, hint in HINTS.items():
        assert set(hint.fields) <= OURS, name
        assert set(re.findall(r"use '(\w+)'", hint.says)) <= set(hint.fields), name


def test_names_are_written_as_they_are_looked_up_and_are_none_of_ours() -> None:
    assert [name for name in HINTS if plain(name) != name] == []
    assert HINTS.keys().isdisjoint(plain(name) for name in OURS)


def test_some_route_has_all_fields_of_a_hint() -> None:
    for name, hint in HINTS.items():
        assert any(set(hint.fields) <= model.model_fields.keys() for model in FIELDS.values()), name
