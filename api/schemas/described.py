"""The fields as JSON Schema, and the limits and defaults that ``GET …/options`` lists: all from the same models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from api.schemas.fields import FieldSet
from services.generation_request import Mode

#: JSON Schema's words, and those of ``GET …/options``.
_RANGE_WORDS = {"minimum": "minimum", "maximum": "maximum", "multipleOf": "multiple_of", "maxLength": "max_length"}
#: ``GET …/options`` lists their values; their length does not matter to a form.
_NAMES = frozenset({"model", "sampler", "scheduler", "name", "upscaler"})


class Described(GenerateJsonSchema):
    """Without titles that repeat the name, and without a default where None stands for "left out"."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described


def json_schemas(fields: FieldSet) -> Mapping[Mode, dict[str, Any]]:
    """The schema of each route's body."""
    return {
        mode: _inlined(model.model_json_schema(schema_generator=Described)) for mode, model in fields.models.items()
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """With the schemas of lists and objects in their places, so that it can stand in any document."""
    nested = {f"#/$defs/{name}": one for name, one in schema.pop("$defs", {}).items()}

    def inlined(value: Any) -> Any:
        if isinstance(value, list):
            return [inlined(one) for one in value]
        if not isinstance(value, dict):
            return value
        found = {name: inlined(one) for name, one in value.items() if name != "$ref"}
        return {**inlined(nested[value["$ref"]]), **found} if "$ref" in value else found

    whole: dict[str, Any] = inlined(schema)
    return whole


def ranges(fields: FieldSet) -> dict[str, dict[str, float]]:
    """Every numeric limit by its field's name, for a front end's form."""
    found: dict[str, dict[str, float]] = {
        "width x height": {"maximum": fields.bounds.max_pixels},
        "hires width x height": {"maximum": fields.bounds.max_hires_pixels},
        "upscale width x height": {"maximum": fields.bounds.max_upscale_pixels},
        "input pixels": {"maximum": fields.bounds.max_input_pixels},
    }
    for mode, schema in json_schemas(fields).items():
        found |= _ranges(schema["properties"], "upscale." if mode == "upscale" else "")
    return dict(sorted(found.items()))


def _ranges(properties: dict[str, Any], before: str) -> dict[str, dict[str, float]]:
    """:param before: what a field's name begins with: "loras[].weight"."""
    found: dict[str, dict[str, float]] = {}
    for name, field in properties.items():
        limits = {ours: field[theirs] for theirs, ours in _RANGE_WORDS.items() if theirs in field}
        if limits and name not in _NAMES:
            found[before + name] = limits
        found |= _ranges(field.get("properties", {}), f"{before}{name}.")
        found |= _ranges(field.get("items", {}).get("properties", {}), f"{before}{name}[].")
    return found


def defaults(fields: FieldSet) -> dict[str, dict[str, object]]:
    """What each route takes for a field that is left out."""
    return {
        mode: {name: field["default"] for name, field in schema["properties"].items() if "default" in field}
        for mode, schema in json_schemas(fields).items()
    }
