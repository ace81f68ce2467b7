"""How single values are read: texts, whole numbers, pictures. pydantic calls these; the words are written here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from api.schemas.byte_objects import of_value
from services.base64_pictures import decode_base64, refuse_text
from services.lora_tags import TagError, refuse_tags, without_tags
from services.masks import Mask, read_mask
from services.picture_decoding import Target
from services.picture_formats import PictureError, sniff
from services.pictures import Picture, read_picture, read_reference
from services.sizes import derive_size
from storage.base import parse_image_id
from storage.errors import ImageNotFoundError

LONE_SURROGATE: Final = "must be valid Unicode (it has a lone surrogate)"
MOST_SHOWN_CHARS: Final = 100

#: Kinds of complaint whose words are written here. Those of pydantic, and of what it calls, are never shown.
OWN_KINDS: Final = frozenset({"text", "picture"})

#: Of a generation whose size is not known yet, pixels.
_USUAL_SIDE: Final = 1024

#: A tag by which stable-diffusion.cpp's server lets a prompt change its own settings.
_SERVER_ARGUMENTS = re.compile(r"<\s*/?\s*sd_cpp_extra_args", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class PictureReading:
    """
    How the pictures of one request are read: the validation context.

    :param max_pixels: width × height of a picture; :param max_painted: of the largest generation.
    :param compares: whether the answer is held against the picture, pixel by pixel.
    :param decoding: entered for each picture while it is decoded; what it raises ends the check.
    :param stored: fetches the file of a stored image; what it raises besides ImageNotFoundError ends the check.
    """

    max_pixels: int
    max_painted: int
    compares: bool
    decoding: Callable[[], AbstractContextManager[None]]
    stored: Callable[[UUID], bytes]


def none_stored(image_id: UUID) -> bytes:
    """:raises ImageNotFoundError: always."""
    raise ImageNotFoundError(image_id)


def whole(value: object) -> object:
    """20.0 is an integer in JSON Schema; "20", 2.5 and true are not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("text", "must not contain NUL")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("text", LONE_SURROGATE) from None
    if _SERVER_ARGUMENTS.search(value):
        raise PydanticCustomError("text", "must not contain <sd_cpp_extra_args>: it changes a server's settings")
    return value


def prompt(value: str) -> str:
    """Its tags can be read, and it has words besides them."""
    try:
        words = without_tags(value)
    except TagError as error:
        raise _custom(str(error)) from None
    if not words.strip():
        raise PydanticCustomError("text", "must not be blank" + ("; it has nothing but tags" if value.strip() else ""))
    return value


def tagless(value: str) -> str:
    try:
        refuse_tags(value)
    except TagError as error:
        raise _custom(str(error)) from None
    return value


def not_zero(value: float) -> float:
    if value == 0:
        raise PydanticCustomError("text", "must not be 0, which would change nothing")
    return value


def _custom(message: str) -> PydanticCustomError:
    """The message may have braces of the caller's in it."""
    return PydanticCustomError("text", "{message}", {"message": message})


def image(value: object, info: ValidationInfo) -> Picture:
    reading = _reading(info)
    target = _target(info, reading)
    return _picture(
        value,
        reading,
        lambda data: read_picture(data, max_pixels=reading.max_pixels, target=target, always_decode=reading.compares),
    )


def reference(value: object, info: ValidationInfo) -> Picture:
    """Read for what ``reference_method`` says, which is declared before it."""
    reading = _reading(info)
    size = None
    if info.data.get("reference_method") == "attention":
        size = info.data.get("width") or _USUAL_SIDE, info.data.get("height") or _USUAL_SIDE
    return _picture(value, reading, lambda data: read_reference(data, max_pixels=reading.max_pixels, size=size))


def _picture(value: object, reading: PictureReading, read: Callable[[bytes], Picture]) -> Picture:
    try:
        data = _stored_bytes(value, reading)
        if data is None:
            data = _picture_bytes(value)
        with reading.decoding():
            return read(data)
    except PictureError as error:
        raise _refused(error) from None


def _target(info: ValidationInfo, reading: PictureReading) -> Target | None:
    """The size that the picture will be brought to, unless a WebUI's limits make it smaller still; None: unknown."""
    sides = info.data.get("width"), info.data.get("height")

    def target(width: int, height: int) -> tuple[int, int]:
        try:
            return derive_size(width, height, want_width=sides[0], want_height=sides[1], max_pixels=reading.max_painted)
        except PictureError:  # it is refused when the model is known
            return width, height

    return target if info.field_name == "image" and "width" in info.data else None


def mask(value: object, info: ValidationInfo) -> Mask:
    """Read as ``mask_mode`` says, which is declared before it; as large as ``image``."""
    reading = _reading(info)
    try:
        data = _picture_bytes(value)
        with reading.decoding():
            found = read_mask(data, mode=info.data.get("mask_mode"), max_pixels=reading.max_pixels)
        _check_size(found, info.data.get("image"))
    except PictureError as error:
        raise _refused(error) from None
    return found


def _reading(info: ValidationInfo) -> PictureReading:
    if not isinstance(info.context, PictureReading):
        raise TypeError("pictures are read with a PictureReading as the validation context")
    return info.context


def _check_size(found: Mask, picture: Picture | None) -> None:
    if picture is not None and (found.width, found.height) != (picture.width, picture.height):
        message = f"must be as large as the image, {picture.width} x {picture.height} pixels"
        raise PictureError(message, received=f"{found.width} x {found.height} pixels")


def _stored_bytes(value: object, reading: PictureReading) -> bytes | None:
    """
    The stored image that a text names; None if the text is anything else.

    :raises PictureError: there is no such image.
    """
    image_id = parse_image_id(value.strip()) if isinstance(value, str) and len(value) <= MOST_SHOWN_CHARS else None
    if image_id is None:
        return None
    try:
        return reading.stored(image_id)
    except ImageNotFoundError:
        message = "names no stored image: it never was one, was removed, or has expired; send the picture itself"
        raise PictureError(message, received=str(image_id)) from None


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


def shown(value: object) -> object:
    """A received value as an answer may show it: scalars as they are, long text cut, the rest by its type."""
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
