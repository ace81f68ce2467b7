"""The fields as JSON Schema: the same models that check them, with this service's own bounds."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from api.schemas.bounds import SETTING, Bounds
from api.schemas.fields import FIELDS

#: JSON Schema's words, and ours in ``GET options``.
_RANGE_WORDS = {"minimum": "minimum", "maximum": "maximum", "multipleOf": "multiple_of", "maxLength": "max_length"}
#: Their lists say what they may be, not their length.
_NAMES = frozenset({"model", "sampler", "scheduler"})


class Described(GenerateJsonSchema):
    """Without titles that repeat the name, and without a default where None stands for "left out"."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described


def json_schemas(bounds: Bounds, *, ref_template: str) -> dict[str, dict[str, Any]]:
    """
    The three models by their classes' names.

    :param ref_template: how one refers to another, with ``{model}`` for its name.
    """
    models = [(model, "validation") for model in FIELDS.values()]
    _, schema = models_json_schema(models, ref_template=ref_template, schema_generator=Described)  # type: ignore[arg-type]
    described = {model.__name__: schema["$defs"][model.__name__] for model in FIELDS.values()}
    for model in described.values():
        for field in model["properties"].values():
            _set_bound(field, bounds)
    return described


def ranges(bounds: Bounds) -> dict[str, dict[str, float]]:
    """Every numeric limit by its field's name, for a front end's form."""
    found: dict[str, dict[str, float]] = {
        "width x height": {"maximum": bounds.max_pixels},
        "input pixels": {"maximum": bounds.max_input_pixels},
    }
    for model in json_schemas(bounds, ref_template="{model}").values():
        for name, field in model["properties"].items():
            limits = {ours: field[theirs] for theirs, ours in _RANGE_WORDS.items() if theirs in field}
            if limits and name not in _NAMES:
                found[name] = limits
    return dict(sorted(found.items()))


def defaults(bounds: Bounds) -> dict[str, dict[str, object]]:
    """What each route takes for a field that is left out, by route."""
    described = json_schemas(bounds, ref_template="{model}")
    return {
        mode: {
            name: field["default"]
            for name, field in described[model.__name__]["properties"].items()
            if "default" in field
        }
        for mode, model in FIELDS.items()
    }


def _set_bound(field: dict[str, Any], bounds: Bounds) -> None:
    if SETTING in field:
        open_bound = next(word for word in ("maximum", "maxLength") if word in field)
        field[open_bound] = getattr(bounds, field[SETTING].lower())
        if "maximum" in field:
            field["default"] = min(field["default"], field["maximum"])
