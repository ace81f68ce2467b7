"""Bounds that are settings: checked against the operator's choice, and described by it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

#: Where a JSON schema names the setting that decides a bound.
SETTING = "x-setting"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a field may be, as far as the operator decides it. Pixels are width × height."""

    max_prompt_chars: int
    max_steps: int
    max_pixels: int
    max_batch_size: int
    max_input_pixels: int


@dataclass(frozen=True, kw_only=True)
class Checking:
    """The context that fields are checked with. ``decoding``: within it a picture may be decoded."""

    bounds: Bounds
    decoding: Callable[[], AbstractContextManager[None]]


def checking_of(info: ValidationInfo) -> Checking:
    """The context."""
    if not isinstance(info.context, Checking):
        raise TypeError("the fields are checked with Checking as their context")
    return info.context


def bounds_of(info: ValidationInfo) -> Bounds:
    """Of the context."""
    return checking_of(info).bounds


@dataclass(frozen=True)
class Most:
    """An annotation: an integer from 1 to the bound of this name."""

    bound: Literal["max_steps", "max_batch_size"]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "minimum": 1, "maximum": None, SETTING: self.bound.upper()}

    def _checked(self, value: int, info: ValidationInfo) -> int:
        most: int = getattr(bounds_of(info), self.bound)
        if not 1 <= value <= most:
            raise PydanticCustomError("bounds", "must be between 1 and {most}", {"most": most})
        return value


@dataclass(frozen=True)
class MostChars:
    """An annotation: a text of at most as many characters as the bound of this name says."""

    bound: Literal["max_prompt_chars"]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "maxLength": None, SETTING: self.bound.upper()}

    def _checked(self, value: str, info: ValidationInfo) -> str:
        most: int = getattr(bounds_of(info), self.bound)
        if len(value) > most:
            raise PydanticCustomError("text", "must be at most {most} characters", {"most": most})
        return value
