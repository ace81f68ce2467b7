"""Outside form <-> checked values: what the generation routes accept, and what they answer.

One pass over the whole request collects every wrong field. pydantic checks; the words are ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import annotated_types
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from services.generation import GenerationRequest, Mode
from services.masks import Mask, read_mask
from services.pictures import Picture, PictureError, decode_base64, read_picture
from services.problems import Problem, nearest

#: Wrong fields told in one answer: a body of 100 000 unknown fields gets no answer of 10 MB.
MOST_PROBLEMS = 50
_MOST_SHOWN_CHARS = 100
_DEFAULT_SIDE = 512
_LONE_SURROGATE: Final = "must be valid Unicode (it has a lone surrogate)"

#: A tag by which stable-diffusion.cpp's server lets a prompt change its own settings.
_SERVER_ARGUMENTS = re.compile(r"<\s*/?\s*sd_cpp_extra_args", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a field may be, as far as the operator decides it. Pixels are width × height."""

    max_prompt_chars: int
    max_steps: int
    max_pixels: int
    max_batch_size: int
    max_input_pixels: int

    def as_ranges(self) -> dict[str, dict[str, float]]:
        """Every numeric limit by its field's name, for a front end's form."""
        declared = {name: _limits(field) for name, field in InpaintingFields.model_fields.items()}
        names = {"ge": "minimum", "le": "maximum", "multiple_of": "multiple_of"}
        ranges = {
            name: {names[rule]: bound for rule, bound in limits.items()} for name, limits in declared.items() if limits
        }
        for field in ("prompt", "negative_prompt"):
            ranges[field] = {"max_length": self.max_prompt_chars}
        for field, most in (("steps", self.max_steps), ("batch_size", self.max_batch_size)):
            ranges[field] = {"minimum": 1, "maximum": most}
        ranges["width x height"] = {"maximum": self.max_pixels}
        ranges["input pixels"] = {"maximum": self.max_input_pixels}
        return {name: ranges[name] for name in sorted(ranges) if name not in ("model", "sampler", "scheduler")}


def _whole(value: object) -> object:
    # 20.0 is an integer in JSON Schema; "20", 2.5 and true are not.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("text", "must not contain NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("text", _LONE_SURROGATE) from None
    if _SERVER_ARGUMENTS.search(value):
        raise PydanticCustomError("text", "must not contain <sd_cpp_extra_args>: it changes a server's settings")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("text", "must not be blank")
    return value


Text = Annotated[str, AfterValidator(_text)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_text)]

#: No default is validated, so None can stand for "left out" while a null from outside is refused.
_LEFT_OUT: Any = None

Side = Annotated[int, Field(ge=64, le=2048, multiple_of=8), BeforeValidator(_whole)]


def _picture_bytes(value: object) -> bytes:
    if isinstance(value, str):
        return decode_base64(value)
    if isinstance(value, bytes):
        return value
    message = "must be a picture: base64, a data URI or an uploaded file"
    raise PictureError(message, received=str(_shown(value)))


def _refused(error: PictureError) -> PydanticCustomError:
    return PydanticCustomError("picture", "{message}", {"message": error.message, "received": error.received})


def _image(value: object, info: ValidationInfo) -> Picture:
    try:
        return read_picture(_picture_bytes(value), max_pixels=_bounds(info).max_input_pixels)
    except PictureError as error:
        raise _refused(error) from None


def _mask(value: object, info: ValidationInfo) -> Mask:
    mode = info.data.get("mask_mode", "white")
    try:
        mask = read_mask(_picture_bytes(value), mode=mode, max_pixels=_bounds(info).max_input_pixels)
    except PictureError as error:
        raise _refused(error) from None
    image = info.data.get("image")
    if image is not None and (mask.width, mask.height) != (image.width, image.height):
        told = {"message": f"must be as large as the image, {image.width} x {image.height} pixels"}
        raise PydanticCustomError("picture", "{message}", told | {"received": f"{mask.width} x {mask.height} pixels"})
    return mask


class Fields(BaseModel):
    """The fields of all three routes. What the operator bounds is checked against the context, a :class:`Bounds`."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    prompt: Annotated[Text, AfterValidator(_not_blank)]
    negative_prompt: Text = ""
    steps: Annotated[int, BeforeValidator(_whole)] = 20
    cfg_scale: Annotated[float, Field(ge=1, le=30, allow_inf_nan=False)] = 7.5
    width: Side = _LEFT_OUT
    height: Side = _LEFT_OUT
    seed: Annotated[int, Field(ge=-1, le=2**32 - 1), BeforeValidator(_whole)] = -1
    model: Name = _LEFT_OUT
    sampler: Name = _LEFT_OUT
    scheduler: Name = _LEFT_OUT
    batch_size: Annotated[int, BeforeValidator(_whole)] = 1
    response_format: Literal["base64", "url"] = "base64"

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _short_enough(cls, value: str, info: ValidationInfo) -> str:
        most = _bounds(info).max_prompt_chars
        if len(value) > most:
            raise PydanticCustomError("text", "must be at most {most} characters", {"most": most})
        return value

    @field_validator("steps")
    @classmethod
    def _steps_in_bounds(cls, value: int, info: ValidationInfo) -> int:
        return _between(value, _bounds(info).max_steps)

    @field_validator("batch_size")
    @classmethod
    def _batch_in_bounds(cls, value: int, info: ValidationInfo) -> int:
        return _between(value, _bounds(info).max_batch_size)


class Txt2ImgFields(Fields):
    """``POST txt2img``."""


class Img2ImgFields(Fields):
    """``POST img2img``."""

    image: Annotated[Picture, PlainValidator(_image)]
    strength: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.75
    resize_mode: Literal["stretch", "crop", "fill"] = "stretch"


class InpaintingFields(Img2ImgFields):
    """``POST inpainting``."""

    steps: Annotated[int, BeforeValidator(_whole)] = 30
    strength: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.9
    mask_mode: Literal["white", "black", "alpha"] = "white"
    mask: Annotated[Mask, PlainValidator(_mask)]
    mask_blur: Annotated[int, Field(ge=0, le=64), BeforeValidator(_whole)] = 4
    inpaint_area: Literal["whole", "masked"] = "whole"
    inpaint_padding: Annotated[int, Field(ge=0, le=256), BeforeValidator(_whole)] = 32
    inpaint_fill: Literal["original", "fill", "noise", "nothing"] = "original"


FIELDS: Mapping[Mode, type[Fields]] = {
    "txt2img": Txt2ImgFields,
    "img2img": Img2ImgFields,
    "inpainting": InpaintingFields,
}
_PICTURES = frozenset({"image", "mask"})


class RefusedFieldsError(ValueError):
    """Some fields are wrong; ``problems`` has them all."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("some fields are wrong")
        self.problems = problems


def check(mode: Mode, values: Mapping[str, object], bounds: Bounds) -> Fields:
    """
    :param values: of a JSON object or a form; pictures as base64 text or, uploaded, as bytes.
    :raises RefusedFieldsError: with every wrong field, at most :data:`MOST_PROBLEMS`.
    """
    try:
        fields = FIELDS[mode].model_validate(values, context=bounds)
        problems = []
    except ValidationError as error:
        faults = error.errors(include_url=False)
        problems = [_problem(mode, fault) for fault in faults[:MOST_PROBLEMS]]
    if not {problem.field for problem in problems} & {"width", "height"}:
        problems += _too_many_pixels(mode, values, bounds)
    if problems:
        raise RefusedFieldsError(problems)
    return fields


def defaults() -> dict[str, dict[str, object]]:
    """What each route takes for a field that is left out, by route."""
    return {
        mode: {
            name: field.default
            for name, field in fields.model_fields.items()
            if not field.is_required() and field.default is not None
        }
        for mode, fields in FIELDS.items()
    }


def from_form(mode: Mode, texts: Mapping[str, str]) -> dict[str, object]:
    """A form's texts as JSON would have them: numbers as numbers; what is no number stays text and is refused."""
    fields = FIELDS[mode].model_fields
    return {name: _from_text(fields[name], text) if name in fields else text for name, text in texts.items()}


def to_request(mode: Mode, fields: Fields) -> GenerationRequest:
    """The checked fields as the service's own value."""
    own = {"response_format", "mask_mode"}  # they say how the edge reads and answers, not what is painted
    values = {name: getattr(fields, name) for name in type(fields).model_fields if name not in own}
    values["seed"] = None if fields.seed == -1 else fields.seed
    return GenerationRequest(mode=mode, **values)


def _too_many_pixels(mode: Mode, values: Mapping[str, Any], bounds: Bounds) -> list[Problem]:
    """Where one side of an image-to-image size is left out, it follows the picture within the same bound."""
    default = _DEFAULT_SIDE if mode == "txt2img" else 0
    width, height = (int(values.get(side, default)) for side in ("width", "height"))
    if width * height <= bounds.max_pixels:
        return []
    message = f"width x height must be at most {bounds.max_pixels} pixels"
    return [Problem(field="height" if "height" in values else "width", message=message, received=f"{width} x {height}")]


def _bounds(info: ValidationInfo) -> Bounds:
    if not isinstance(info.context, Bounds):
        raise TypeError("the fields are checked with Bounds as their context")
    return info.context


def _between(value: int, most: int) -> int:
    if not 1 <= value <= most:
        raise PydanticCustomError("bounds", "must be between 1 and {most}", {"most": most})
    return value


def _from_text(field: FieldInfo, text: str) -> object:
    number = field.annotation in (int, float)
    if field.annotation is int and re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return int(text)
    if number and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return float(text)
    return text


def _problem(mode: Mode, fault: ErrorDetails) -> Problem:
    name = str(fault["loc"][0]) if fault["loc"] else "body"
    context = fault.get("ctx", {})
    received = context.get("received") if fault["type"] == "picture" else _shown(fault["input"])
    if fault["type"] == "missing":
        return Problem(field=name, message="is required")
    if fault["type"] == "extra_forbidden":
        return Problem(field=_shown_text(name), message=_unknown(mode, name))
    return Problem(field=name, message=_words(mode, name, fault), received=received)


def _unknown(mode: Mode, name: str) -> str:
    elsewhere = [other for other, fields in FIELDS.items() if name in fields.model_fields]
    if elsewhere:
        return f"is not a field of {mode}, only of {' and '.join(elsewhere)}"
    return f"unknown field{nearest(name[:_MOST_SHOWN_CHARS], FIELDS[mode].model_fields)}"


def _words(mode: Mode, name: str, fault: ErrorDetails) -> str:
    """pydantic's complaint as one phrase that says what is accepted."""
    kind = fault["type"]
    limits = _limits(FIELDS[mode].model_fields[name])
    if "multiple_of" in limits and kind in ("greater_than_equal", "less_than_equal", "multiple_of"):
        return f"must be a multiple of {limits['multiple_of']} between {limits['ge']} and {limits['le']}"
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"must be between {limits['ge']} and {limits['le']}"
    if kind == "literal_error":
        return f"must be one of {fault['ctx']['expected'].replace(' or ', ', ')}"
    if kind == "string_too_long":
        return f"must be at most {fault['ctx']['max_length']} characters"
    return _WORDS.get(kind, fault["msg"])


_WORDS = {
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_unicode": _LONE_SURROGATE,
    "model_type": "must be an object",
}


def _limits(field: FieldInfo) -> dict[str, Any]:
    """The bounds a field is declared with, by their names in :mod:`annotated_types`."""
    rules = {"ge": annotated_types.Ge, "le": annotated_types.Le, "multiple_of": annotated_types.MultipleOf}
    return {
        name: getattr(rule, name) for rule in field.metadata for name, kind in rules.items() if isinstance(rule, kind)
    }


def _shown(value: object) -> object:
    """What came, as far as it can be shown: scalars as they are, long text cut, the rest by its type."""
    if isinstance(value, str):
        return _shown_text(value)
    if isinstance(value, int | float):
        # JSON has no infinity, which 1e400 is read as; and a number may have thousands of digits.
        plain = math.isfinite(value) if isinstance(value, float) else abs(value) < 2**64
        return value if plain else _shown_text(repr(value))
    if value is None:
        return "null"
    names: dict[type, str] = {dict: "an object", list: "a list", bytes: "a file"}
    return names.get(type(value), "something else")


def _shown_text(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _MOST_SHOWN_CHARS else text[:_MOST_SHOWN_CHARS] + "…"
