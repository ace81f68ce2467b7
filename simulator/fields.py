"""A request body's fields and how leniently they are read: pydantic v1 (A1111, SD.Next) and v2 (Forge)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from simulator.errors import InvalidError

TRUE_WORDS = frozenset({"1", "on", "t", "true", "y", "yes"})
FALSE_WORDS = frozenset({"0", "off", "f", "false", "n", "no"})


@dataclass(frozen=True)
class Field:
    """One field: `kind` is str, int, float, bool, list, strs (a list of strings) or dict."""

    name: str
    kind: str
    default: Any = None
    nullable: bool = True


class FieldError(Exception):
    """A value that does not fit; `where` leads to it below the field."""

    def __init__(self, kind: str, message: str, where: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.where = where


class Reader(Protocol):
    """Turns a parsed body into fields."""

    def read(self, fields: tuple[Field, ...], body: object) -> dict[str, Any]:
        """Every field in the declared order, defaults filled in.

        :raises InvalidError: one or more values do not fit.
        """
        ...


def _v1_int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise FieldError("type_error.integer", "value is not a valid integer") from exc


def _v1_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise FieldError("type_error.float", "value is not a valid float") from exc


def _v1_str(value: Any) -> str:
    if isinstance(value, str | int | float):
        return str(value)
    raise FieldError("type_error.str", "str type expected")


def _v1_bool(value: Any) -> bool:
    word = str(value).lower() if isinstance(value, str | int | float) else ""
    if word in TRUE_WORDS or value == 1:
        return True
    if word in FALSE_WORDS or value == 0:
        return False
    raise FieldError("type_error.bool", "value could not be parsed to a boolean")


def _v1_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise FieldError("type_error.list", "value is not a valid list")


def _v1_strs(value: Any) -> list[str]:
    items = []
    for index, item in enumerate(_v1_list(value)):
        if not isinstance(item, str | int | float):
            raise FieldError("type_error.str", "str type expected", (index,))
        items.append(str(item))
    return items


def _v1_dict(value: Any) -> dict[str, Any]:
    try:
        return dict(value)
    except (TypeError, ValueError) as exc:
        raise FieldError("type_error.dict", "value is not a valid dict") from exc


class PydanticV1:
    """Takes "1" and 1.9 for an integer, any list of pairs for an object, and ignores what it does not know."""

    _kinds: dict[str, Callable[[Any], Any]] = {  # noqa: RUF012 - a table, never written to
        "int": _v1_int,
        "float": _v1_float,
        "str": _v1_str,
        "bool": _v1_bool,
        "list": _v1_list,
        "strs": _v1_strs,
        "dict": _v1_dict,
    }

    def read(self, fields: tuple[Field, ...], body: object) -> dict[str, Any]:
        """See `Reader.read`."""
        if body is None:
            raise InvalidError({"loc": ["body"], "msg": "field required", "type": "value_error.missing"})
        try:
            given = _v1_dict(body)
        except FieldError as exc:
            raise InvalidError({"loc": ["body"], "msg": exc.message, "type": exc.kind}) from exc
        values: dict[str, Any] = {}
        entries = []
        for field in fields:
            try:
                values[field.name] = self._value(field, given)
            except FieldError as exc:
                entries.append({"loc": ["body", field.name, *exc.where], "msg": exc.message, "type": exc.kind})
        if entries:
            raise InvalidError(*entries)
        return values

    def _value(self, field: Field, given: dict[str, Any]) -> Any:
        if field.name not in given:
            return field.default
        value = given[field.name]
        if value is None:
            if field.nullable:
                return None
            raise FieldError("type_error.none.not_allowed", "none is not an allowed value")
        return self._kinds[field.kind](value)


def _v2_int(value: Any) -> int:
    message = "Input should be a valid integer"
    if isinstance(value, float) and not value.is_integer():
        kind, why = ("int_from_float", "got a number with a fractional part")
        if not math.isfinite(value):
            kind, why = ("finite_number", "got a number that is not finite")
        raise FieldError(kind, f"{message}, {why}")
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError as exc:
            raise FieldError("int_parsing", f"{message}, unable to parse string as an integer") from exc
    if isinstance(value, int | float):
        return int(value)
    raise FieldError("int_type", message)


def _v2_float(value: Any) -> float:
    message = "Input should be a valid number"
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError as exc:
            raise FieldError("float_parsing", f"{message}, unable to parse string as a number") from exc
    if isinstance(value, int | float):
        return float(value)
    raise FieldError("float_type", message)


def _v2_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise FieldError("string_type", "Input should be a valid string")


def _v2_bool(value: Any) -> bool:
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in TRUE_WORDS | FALSE_WORDS:
        return value.lower() in TRUE_WORDS
    raise FieldError("bool_parsing", "Input should be a valid boolean, unable to interpret input")


def _v2_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    raise FieldError("list_type", "Input should be a valid list")


def _v2_strs(value: Any) -> list[str]:
    for index, item in enumerate(_v2_list(value)):
        if not isinstance(item, str):
            raise FieldError("string_type", "Input should be a valid string", (index,))
    return list(value)


def _v2_dict(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise FieldError("dict_type", "Input should be a valid dictionary")


class PydanticV2(PydanticV1):
    """Refuses fractions for integers and numbers for texts, and echoes the offending value."""

    _kinds: dict[str, Callable[[Any], Any]] = {  # noqa: RUF012 - a table, never written to
        "int": _v2_int,
        "float": _v2_float,
        "str": _v2_str,
        "bool": _v2_bool,
        "list": _v2_list,
        "strs": _v2_strs,
        "dict": _v2_dict,
    }
    _nulls: dict[str, tuple[str, str]] = {  # noqa: RUF012 - a table, never written to
        "int": ("int_type", "Input should be a valid integer"),
        "float": ("float_type", "Input should be a valid number"),
        "str": ("string_type", "Input should be a valid string"),
        "bool": ("bool_type", "Input should be a valid boolean"),
        "list": ("list_type", "Input should be a valid list"),
        "strs": ("list_type", "Input should be a valid list"),
        "dict": ("dict_type", "Input should be a valid dictionary"),
    }

    def read(self, fields: tuple[Field, ...], body: object) -> dict[str, Any]:
        """See `Reader.read`."""
        if body is None:
            raise InvalidError(_v2_entry("missing", ["body"], "Field required", None))
        if not isinstance(body, dict):
            message = "Input should be a valid dictionary or object to extract fields from"
            raise InvalidError(_v2_entry("model_attributes_type", ["body"], message, body))
        values: dict[str, Any] = {}
        entries = []
        for field in fields:
            try:
                values[field.name] = self._value(field, body)
            except FieldError as exc:
                where = ["body", field.name, *exc.where]
                entries.append(_v2_entry(exc.kind, where, exc.message, body[field.name]))
        if entries:
            raise InvalidError(*entries)
        return values

    def _value(self, field: Field, given: dict[str, Any]) -> Any:
        if field.name in given and given[field.name] is None and not field.nullable:
            kind, message = self._nulls[field.kind]
            raise FieldError(kind, message)
        return super()._value(field, given)


def _v2_entry(kind: str, where: list[str | int], message: str, value: object) -> dict[str, Any]:
    url = f"https://errors.pydantic.dev/2.8/v/{kind}"
    return {"type": kind, "loc": where, "msg": message, "input": value, "url": url}
