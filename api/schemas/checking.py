"""One pass over a whole request finds every wrong field. pydantic checks; the words are written here."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, get_args
from uuid import UUID

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from api.schemas.extras import (
    asked_hires,
    asked_loras,
    hires_problems,
    reference_problems,
    sides_problems,
    too_many_loras,
    upscale_problems,
    upscaled_size,
)
from api.schemas.fields import (
    FIELDS,
    MAX_SEED,
    BodyFields,
    Bounds,
    Fields,
    FieldSet,
    InpaintingFields,
    Txt2ImgFields,
    UpscaleFields,
)
from api.schemas.other_names import Hint, hints, plain
from api.schemas.values import (
    LONE_SURROGATE,
    MOST_SHOWN_CHARS,
    OWN_KINDS,
    PictureReading,
    none_stored,
    shown,
    shown_text,
)
from services.generation_request import GenerationRequest, Mode, UpscaleRequest
from services.lora_tags import without_tags
from services.problems import Problem, nearest

#: Wrong fields listed in one answer: a body of 100 000 unknown fields must not get an answer of 10 MB.
MOST_PROBLEMS = 50

UNKNOWN = "unknown field"

#: By other APIs' names; each field of the routes that paint is one of these two's.
HINTS = hints(InpaintingFields) | hints(Txt2ImgFields)
UPSCALE_HINTS = hints(UpscaleFields)

#: How similar a name must be to a field's to count as a misspelling of it (difflib's ratio).
_SIMILAR = 0.7

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class RefusedFieldsError(ValueError):
    """Some fields are wrong; ``problems`` has them all."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("some fields are wrong")
        self.problems = problems


def check(
    mode: Mode,
    values: Mapping[str, object],
    fields: FieldSet,
    decoding: Callable[[], AbstractContextManager[None]] = nullcontext,
    stored: Callable[[UUID], bytes] = none_stored,
) -> BodyFields:
    """
    :param values: of a JSON object or a form; pictures as base64 text or, uploaded, as bytes.
    :param decoding: entered for each picture while it is decoded; what it raises is raised here.
    :param stored: fetches a picture that is named by the id of a stored image; see :class:`PictureReading`.
    :raises RefusedFieldsError: with every wrong field, at most :data:`MOST_PROBLEMS`.
    """
    reading = PictureReading(
        max_pixels=fields.bounds.max_input_pixels,
        max_painted=fields.bounds.max_pixels,
        compares=mode == "inpainting",
        decoding=decoding,
        stored=stored,
    )
    model = fields.models[mode]
    try:
        checked = model.model_validate(values, context=reading)
        problems: list[Problem] = []
    except ValidationError as error:
        faults = error.errors(include_url=False)[:MOST_PROBLEMS]
        problems = _fields_listed_once(mode, [_problem(mode, model, fault) for fault in faults])
    refused = {root(one.field) for one in problems}
    if issubclass(model, Fields):
        problems += _problems_together(mode, values, fields.bounds, refused=refused)
    elif {"width", "height", "scale"}.isdisjoint(refused):
        problems += sides_problems(values)
    if not problems and isinstance(checked, UpscaleFields):
        problems += upscale_problems(checked, most=fields.bounds.max_upscale_pixels)
    if problems:
        raise RefusedFieldsError(problems)
    return checked


def from_form(mode: Mode, texts: Mapping[str, str]) -> dict[str, object]:
    """A form's texts as JSON would have them: numbers as numbers; an invalid number stays text and is refused."""
    fields = FIELDS[mode].model_fields
    return {name: _from_text(fields[name], text) if name in fields else text for name, text in texts.items()}


def to_request(mode: Mode, fields: BodyFields) -> GenerationRequest | UpscaleRequest:
    """The checked fields as the service's own value."""
    if isinstance(fields, UpscaleFields):
        width, height = upscaled_size(fields)
        return UpscaleRequest(image=fields.image, width=width, height=height, upscaler=fields.upscaler)
    if not isinstance(fields, Fields):
        raise TypeError("a route's fields are those that paint, or those that enlarge")
    own = {"response_format", "mask_mode"}  # they decide how the edge reads and answers, not what is generated
    values = {name: getattr(fields, name) for name in type(fields).model_fields if name not in own}
    values["seed"] = None if fields.seed == -1 else fields.seed
    values["prompt"] = without_tags(fields.prompt)
    values["loras"] = asked_loras(fields.prompt, [lora.model_dump() for lora in fields.loras or ()])
    if values.get("hires") is not None:
        values["hires"] = asked_hires(values["hires"].model_dump(exclude_unset=True))
    return GenerationRequest(mode=mode, **values)


def root(field: str) -> str:
    """The whole field in which a member lies: ``loras`` of ``loras[1].weight``."""
    return re.split(r"[.\[]", field, maxsplit=1)[0]


def _problems_together(
    mode: Mode, values: Mapping[str, Any], bounds: Bounds, *, refused: Collection[str]
) -> list[Problem]:
    """What is wrong with fields together that are each right."""

    def number(name: str) -> int:
        return int(values.get(name, FIELDS[mode].model_fields[name].default or 0))

    found = []
    if {"width", "height"}.isdisjoint(refused):
        found += _too_many_pixels(number("width"), number("height"), bounds.max_pixels, "height" in values)
    if {"seed", "batch_size"}.isdisjoint(refused):
        found += _too_high_seeds(number("seed"), number("batch_size"))
    if "hires" in values.keys() & FIELDS[mode].model_fields and {"hires", "width", "height"}.isdisjoint(refused):
        width, height = number("width"), number("height")
        found += hires_problems(values["hires"], width=width, height=height, most=bounds.max_hires_pixels)
    if {"prompt", "loras"}.isdisjoint(refused):
        found += too_many_loras(asked_loras(values.get("prompt", ""), values.get("loras", ())))
    found += [problem for problem in reference_problems(values) if problem.field not in refused]
    return found


def _too_many_pixels(width: int, height: int, most: int, has_height: bool) -> list[Problem]:
    """A side of 0 was left out: it follows the picture within the same bound."""
    if width * height <= most:
        return []
    message = f"width x height must be at most {most} pixels"
    return [Problem(field="height" if has_height else "width", message=message, received=f"{width} x {height}")]


def _too_high_seeds(seed: int, batch_size: int) -> list[Problem]:
    """Each image's seed must be one that can be sent: otherwise nobody could generate that image again."""
    if seed + batch_size - 1 <= MAX_SEED:
        return []
    message = f"must be at most {MAX_SEED - batch_size + 1} with batch_size {batch_size}: image i has seed + i"
    return [Problem(field="seed", message=message, received=seed)]


def _from_text(field: FieldInfo, text: str) -> object:
    number = field.annotation in (int, float)
    if field.annotation is int and re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return int(text)
    return float(text) if number and _NUMBER.fullmatch(text) else text


def _problem(mode: Mode, model: type[BodyFields], fault: ErrorDetails) -> Problem:
    name = _path(fault["loc"])
    value = fault["input"]
    if fault["type"] == "missing":
        return Problem(field=name, message="is required")
    if fault["type"] == "extra_forbidden":
        members = _members(model, fault["loc"])
        message = _unknown(mode, name) if members is None else f"{UNKNOWN}; the fields here are {', '.join(members)}"
        return Problem(field=shown_text(name), message=message)
    if fault["type"] == "picture":
        return Problem(field=name, message=fault["msg"], received=fault["ctx"]["received"])
    field = _field(model, fault["loc"])
    message = _words(field, fault) + _remedy(field, value)
    return Problem(field=name, message=message, received=shown(value), is_text=isinstance(value, str))


def _path(location: tuple[int | str, ...]) -> str:
    """``loras[1].weight``."""
    names = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return names.removeprefix(".") if location else "body"


def _field(model: type[BaseModel], location: tuple[int | str, ...]) -> FieldInfo:
    """The declaration of a field, or of the innermost member that has one."""
    first, *rest = (part for part in location if isinstance(part, str))
    field = model.model_fields[first]
    nested = _nested(field)
    return _field(nested, tuple(rest)) if rest and nested else field


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    """What an object, or each entry of a list, is declared by."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _members(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str] | None:
    """The members of the object that has one too many; None if that is the whole body."""
    names = [part for part in location if isinstance(part, str)]
    nested = _nested(_field(model, tuple(names[:-1]))) if len(names) > 1 else None
    return list(nested.model_fields) if nested else None


def _remedy(field: FieldInfo, value: object) -> str:
    """What to do about a value of the wrong type, where that is plain."""
    if value in (None, "") and not field.is_required():
        return "; leave the field out to get the default"
    if field.annotation in (int, float) and isinstance(value, str) and _NUMBER.fullmatch(value):
        return f"; send {shown_text(value)}, without the quotes"
    return ""


def _unknown(mode: Mode, name: str) -> str:
    known_hints = UPSCALE_HINTS if mode == "upscale" else HINTS
    elsewhere = [other for other, fields in FIELDS.items() if name in fields.model_fields]
    if elsewhere and not (elsewhere == ["upscale"] and plain(name) in known_hints):
        return f"is not a field of {mode}, only of {' and '.join(elsewhere)}"
    known = FIELDS[mode].model_fields
    short = plain(name[:MOST_SHOWN_CHARS])
    if same := next((field for field in known if plain(field) == short), None):
        return f"{UNKNOWN}; did you mean {same!r}?"
    if short in known_hints:
        return f"{UNKNOWN}; {known_hints[short].says}{_other_routes(mode, known_hints[short])}"
    return UNKNOWN + nearest(name[:MOST_SHOWN_CHARS], known, cutoff=_SIMILAR)


def _other_routes(mode: Mode, hint: Hint) -> str:
    """The routes that have the fields that a hint mentions, if this route does not."""
    if all(field in FIELDS[mode].model_fields for field in hint.fields):
        return ""
    able = [other for other, fields in FIELDS.items() if all(field in fields.model_fields for field in hint.fields)]
    return f" (a field of {' and '.join(able)})"


def _fields_listed_once(mode: Mode, problems: Sequence[Problem]) -> list[Problem]:
    """The first unknown field about which there is nothing more to say lists the fields there are."""
    first = next((found for found in problems if found.message == UNKNOWN), None)
    listed = f"{UNKNOWN}; the fields of {mode} are {', '.join(FIELDS[mode].model_fields)}"
    return [replace(found, message=listed) if found is first else found for found in problems]


def _words(field: FieldInfo, fault: ErrorDetails) -> str:
    """pydantic's complaint as one phrase that says what is accepted."""
    kind = fault["type"]
    limits = _limits(field)
    if "multiple_of" in limits and kind in ("greater_than_equal", "less_than_equal", "multiple_of"):
        return f"must be a multiple of {limits['multiple_of']} between {limits['ge']} and {limits['le']}"
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"must be between {limits['ge']} and {limits['le']}"
    if kind == "literal_error":
        return f"must be one of {fault['ctx']['expected'].replace(' or ', ', ')}"
    if kind in ("too_long", "too_short"):
        return f"must have between {limits['min_length']} and {limits['max_length']} entries"
    if kind == "string_too_long":
        return f"must be at most {fault['ctx']['max_length']} characters"
    return fault["msg"] if kind in OWN_KINDS else _WORDS.get(kind, "is not accepted")


_WORDS = {
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_unicode": LONE_SURROGATE,
    "model_type": "must be an object",
    "list_type": "must be a list",
    "value_error": "cannot be decoded: it is damaged, or of a kind that is not supported",
}


def _limits(field: FieldInfo) -> dict[str, Any]:
    """The bounds a field is declared with, by their names in :mod:`annotated_types`."""
    rules = {
        "ge": annotated_types.Ge,
        "le": annotated_types.Le,
        "multiple_of": annotated_types.MultipleOf,
        "min_length": annotated_types.MinLen,
        "max_length": annotated_types.MaxLen,
    }
    return {
        name: getattr(rule, name) for rule in field.metadata for name, kind in rules.items() if isinstance(rule, kind)
    }
