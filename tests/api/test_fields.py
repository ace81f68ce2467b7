"""Each field has its place in the request; other APIs' names lead to fields that exist, and hide none of them."""

from __future__ import annotations

import re
from dataclasses import fields

from api.schemas import FIELDS
from api.schemas.checking import HINTS, UPSCALE_HINTS
from api.schemas.other_names import plain
from api.schemas.picture_fields import PICTURE_FIELDS
from services.generation_request import GenerationRequest, UpscaleRequest

OURS = {name for model in FIELDS.values() for name in model.model_fields}


def test_each_field_has_its_place_in_the_request() -> None:
    of_the_edge = {"response_format", "mask_mode"}
    known = {field.name for field in fields(GenerationRequest)}
    painting = {name for mode, model in FIELDS.items() if mode != "upscale" for name in model.model_fields}
    assert painting - of_the_edge <= known, "add it to UnchangedFields in sd_client/models.py, or to GenerationRequest"
    enlarging = set(FIELDS["upscale"].model_fields) - of_the_edge
    assert enlarging - {"scale"} <= {field.name for field in fields(UpscaleRequest)}
    assert set(PICTURE_FIELDS) == {"image", "mask", "reference"}


def test_hints_lead_to_fields_of_ours() -> None:
    for name, hint in (*HINTS.items(), *UPSCALE_HINTS.items()):
        assert set(hint.fields) <= OURS, name
        assert set(re.findall(r"use '(\w+)'", hint.says)) <= set(hint.fields), name


def test_names_are_written_as_they_are_looked_up_and_are_none_of_ours() -> None:
    assert [name for name in (*HINTS, *UPSCALE_HINTS) if plain(name) != name] == []
    enlarging = set(FIELDS["upscale"].model_fields)
    painting = {name for mode, model in FIELDS.items() if mode != "upscale" for name in model.model_fields}
    assert HINTS.keys().isdisjoint(plain(name) for name in painting)
    assert UPSCALE_HINTS.keys().isdisjoint(plain(name) for name in enlarging)


def test_some_route_has_all_fields_of_a_hint() -> None:
    for name, hint in HINTS.items():
        assert any(set(hint.fields) <= model.model_fields.keys() for model in FIELDS.values()), name
