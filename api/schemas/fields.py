"""The fields of the three generation routes: pydantic checks them, and the description is made from them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from api.schemas.bounds import Most, MostChars, bounds_of, checking_of
from api.schemas.byte_objects import of_value
from services.base64_pictures import decode_base64, refuse_text
from services.generation import Mode
from services.masks import Mask, read_mask
from services.picture_formats import PictureError, sniff
from services.pictures import Picture, read_picture

LONE_SURROGATE: Final = "must be valid Unicode (it has a lone surrogate)"
MOST_SHOWN_CHARS: Final = 100

#: Of complaints whose words are ours. Those of pydantic and of what it calls are never shown.
OUR_KINDS: Final = frozenset({"text", "bounds", "picture"})

#: Larger ones fail in extensions of A1111, which hand them to numpy.
MAX_SEED: Final = 2**32 - 1

#: A tag by which stable-diffusion.cpp's server lets a prompt change its own settings.
_SERVER_ARGUMENTS = re.compile(r"<\s*/?\s*sd_cpp_extra_args", re.IGNORECASE)

#: No default is validated, so None can stand for "left out" while a null from outside is refused.
_LEFT_OUT: Any = None


def _whole(value: object) -> object:
    # 20.0 is an integer in JSON Schema; "20", 2.5 and true are not.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("text", "must not contain NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("text", LONE_SURROGATE) from None
    if _SERVER_ARGUMENTS.search(value):
        raise PydanticCustomError("text", "must not contain <sd_cpp_extra_args>: it changes a server's settings")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("text", "must not be blank")
    return value


def shown(value: object) -> object:
    """What came, as far as it can be shown: scalars as they are, long text cut, the rest by its type."""
    if isinstance(value, str):
        return shown_text(value)
    if isinstance(value, int | float):
        # JSON has no infinity, which 1e400 is read as; and a number may have thousands of digits.
        plain = math.isfinite(value) if isinstance(value, float) else abs(value) < 2**64
        return value if plain else shown_text(repr(value))
    if value is None:
        return "null"
    names: dict[type, str] = {dict: "an object", list: "a list", bytes: "a file"}
    return names.get(type(value), "something else")


def shown_text(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MOST_SHOWN_CHARS else text[:MOST_SHOWN_CHARS] + "…"


def _picture_bytes(value: object) -> bytes:
    if not isinstance(value, str | bytes):
        message = of_value(value) or "must be a picture: base64, a data URI or an uploaded file"
        raise PictureError(message, received=str(shown(value)))
    data = decode_base64(value) if isinstance(value, str) else value
    if not data:
        raise PictureError("is empty; send a picture", received="0 bytes")
    if sniff(data) is None:
        refuse_text(data)
    return data


def _refused(error: PictureError) -> PydanticCustomError:
    return PydanticCustomError("picture", "{message}", {"message": error.message, "received": error.received})


def _image(value: object, info: ValidationInfo) -> Picture:
    try:
        data = _picture_bytes(value)
        with checking_of(info).decoding():
            return read_picture(data, max_pixels=bounds_of(info).max_input_pixels)
    except PictureError as error:
        raise _refused(error) from None


def _mask(value: object, info: ValidationInfo) -> Mask:
    mode = info.data.get("mask_mode")
    try:
        data = _picture_bytes(value)
        with checking_of(info).decoding():
            mask = read_mask(data, mode=mode, max_pixels=bounds_of(info).max_input_pixels)
    except PictureError as error:
        raise _refused(error) from None
    image = info.data.get("image")
    if image is not None and (mask.width, mask.height) != (image.width, image.height):
        told = {"message": f"must be as large as the image, {image.width} x {image.height} pixels"}
        raise PydanticCustomError("picture", "{message}", told | {"received": f"{mask.width} x {mask.height} pixels"})
    return mask


#: In JSON a picture is text; what it is in a form, the description of the form says.
_PICTURE_SCHEMA = {
    "type": "string",
    "contentEncoding": "base64",
    "description": "A PNG, JPEG, WebP or BMP as base64 or as a data URI (`data:image/png;base64,…`).",
}

# Field before BeforeValidator: the other way round its bounds would be missing from the JSON schema.
Text = Annotated[str, Field(json_schema_extra={"pattern": "^[^\\u0000]*$"}), AfterValidator(_text)]
Name = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": "^[^\\u0000]*$"}), AfterValidator(_text)
]
Side = Annotated[int, Field(ge=64, le=2048, multiple_of=8), BeforeValidator(_whole)]
Width = Annotated[Side, Field(description="Pixels. Width × height is at most `MAX_PIXELS`.")]
Height = Annotated[Side, Field(description="Pixels.")]
Steps = Annotated[int, Most("max_steps"), BeforeValidator(_whole), Field(description="Sampling steps.")]
Strength = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False, description="How much is painted anew: 0 nothing, 1 everything."),
]


class Fields(BaseModel):
    """The fields of all three routes. What the operator bounds is checked against the context, a :class:`Bounds`."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    prompt: Annotated[
        Text,
        AfterValidator(_not_blank),
        MostChars("max_prompt_chars"),
        Field(
            description="What to paint. `<sd_cpp_extra_args>` is refused: it changes a server's settings.",
            json_schema_extra={"minLength": 1, "pattern": "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"},
        ),
    ]
    negative_prompt: Annotated[Text, MostChars("max_prompt_chars"), Field(description="What not to paint.")] = ""
    steps: Steps = 20
    cfg_scale: Annotated[
        float, Field(ge=1, le=30, allow_inf_nan=False, description="How closely the prompt is followed.")
    ] = 7.5
    width: Width = _LEFT_OUT
    height: Height = _LEFT_OUT
    seed: Annotated[
        int,
        Field(ge=-1, le=MAX_SEED, description="-1: drawn by the service. Image *i* of a batch has seed + *i*."),
        BeforeValidator(_whole),
    ] = -1
    model: Annotated[
        Name, Field(description="Alias, name, title, file name or hash of one that `GET …/models` lists.")
    ] = _LEFT_OUT
    sampler: Annotated[Name, Field(description="One that `GET …/options` lists, in any spelling.")] = _LEFT_OUT
    scheduler: Annotated[Name, Field(description="One that `GET …/options` lists, in any spelling.")] = _LEFT_OUT
    batch_size: Annotated[
        int, Most("max_batch_size"), BeforeValidator(_whole), Field(description="Images painted at a time.")
    ] = 1
    response_format: Annotated[
        Literal["base64", "url"], Field(description="`url` leaves `image_base64` out of the answer.")
    ] = "base64"

    @model_validator(mode="after")
    def _default_steps_in_bounds(self, info: ValidationInfo) -> Fields:
        if "steps" not in self.model_fields_set:
            self.steps = min(self.steps, bounds_of(info).max_steps)
        return self


class Txt2ImgFields(Fields):
    """What ``POST …/txt2img`` takes."""

    width: Width = 512
    height: Height = 512


class Img2ImgFields(Fields):
    """What ``POST …/img2img`` takes."""

    image: Annotated[Picture, PlainValidator(_image), WithJsonSchema(_PICTURE_SCHEMA)]
    strength: Strength = 0.75
    resize_mode: Annotated[
        Literal["stretch", "crop", "fill"],
        Field(description="How a picture of another shape becomes width × height."),
    ] = "stretch"


class InpaintingFields(Img2ImgFields):
    """What ``POST …/inpainting`` takes."""

    steps: Steps = 30
    strength: Strength = 0.9
    mask_mode: Annotated[
        Literal["white", "black", "alpha"],
        Field(
            description="Which part of the mask is repainted: the white, the black or the transparent. "
            "Left out, it is the white, where that is plain: a photo, or a mask with a hole, is refused.",
            json_schema_extra={"default": "white"},
        ),
    ] = _LEFT_OUT
    mask: Annotated[
        Mask,
        PlainValidator(_mask),
        WithJsonSchema(
            _PICTURE_SCHEMA
            | {"description": "As large as `image`: white is repainted, black is kept. As base64 or as a data URI."}
        ),
    ]
    mask_blur: Annotated[
        int, Field(ge=0, le=64, description="Pixels over which the mask fades."), BeforeValidator(_whole)
    ] = 4
    inpaint_area: Annotated[
        Literal["whole", "masked"], Field(description="`masked` paints a crop around the mask at full size.")
    ] = "whole"
    inpaint_padding: Annotated[
        int, Field(ge=0, le=256, description="Pixels around that crop."), BeforeValidator(_whole)
    ] = 32
    inpaint_fill: Annotated[
        Literal["original", "fill", "noise", "nothing"],
        Field(description="What is under the mask when painting begins."),
    ] = "original"


FIELDS: Mapping[Mode, type[Fields]] = {
    "txt2img": Txt2ImgFields,
    "img2img": Img2ImgFields,
    "inpainting": InpaintingFields,
}
