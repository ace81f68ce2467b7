"""A request's fields as FastAPI reads them: what can be converted is taken, the rest refused."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from simulator.errors import InvalidError
from simulator.flavour import Profile

WORDS = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}


@dataclass(frozen=True)
class Field:
    """One field: `kind` is str, int, float, bool, list or dict."""

    name: str
    kind: str
    default: Any
    nullable: bool


#: Of `extra-single-image`.
EXTRAS_FIELDS = (
    Field("resize_mode", "int", 0, nullable=False),
    Field("show_extras_results", "bool", True, nullable=False),
    Field("gfpgan_visibility", "float", 0.0, nullable=False),
    Field("codeformer_visibility", "float", 0.0, nullable=False),
    Field("codeformer_weight", "float", 0.0, nullable=False),
    Field("upscaling_resize", "float", 2.0, nullable=False),
    Field("upscaling_resize_w", "int", 512, nullable=False),
    Field("upscaling_resize_h", "int", 512, nullable=False),
    Field("upscaling_crop", "bool", True, nullable=False),
    Field("upscaler_1", "str", "None", nullable=False),
    Field("upscaler_2", "str", "None", nullable=False),
    Field("extras_upscaler_2_visibility", "float", 0.0, nullable=False),
    Field("upscale_first", "bool", False, nullable=False),
    Field("image", "str", "", nullable=False),
)


def check_factor(fields: dict[str, Any], *, echoes: bool) -> None:
    """:raises InvalidError: it enlarges by nothing."""
    if fields["upscaling_resize"] > 0:
        return
    where = ["body", "upscaling_resize"]
    if echoes:
        text = "Input should be greater than 0"
        entry = {"type": "greater_than", "loc": where, "msg": text, "input": fields["upscaling_resize"]}
        raise InvalidError({**entry, "ctx": {"gt": 0.0}})
    text, limit = "ensure this value is greater than 0", {"limit_value": 0}
    raise InvalidError({"loc": where, "msg": text, "type": "value_error.number.not_gt", "ctx": limit})


def fields_of(profile: Profile, route: str) -> tuple[Field, ...]:
    """What a route's body may have, in the order of the answer's `parameters`."""
    return tuple(_fields(profile, route))


def _fields(profile: Profile, route: str) -> Iterator[Field]:
    for group in profile["fields"][route]:
        for name, (kind, *default) in profile["fields"][group].items():
            if name not in profile.get("missing_fields", ()):
                yield Field(name, kind.rstrip("!"), default[0] if default else None, not kind.endswith("!"))


def _text(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError
    return str(value)


def _flag(value: Any) -> bool:
    return WORDS[str(value).lower()]


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


#: How a kind is converted, and pydantic 1's name and message for a value that cannot be.
CONVERTED: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "int": (int, "integer", "value is not a valid integer"),
    "float": (float, "float", "value is not a valid float"),
    "str": (_text, "str", "str type expected"),
    "bool": (_flag, "bool", "value could not be parsed to a boolean"),
    "list": (_items, "list", "value is not a valid list"),
    "dict": (dict, "dict", "value is not a valid dict"),
}


def read_fields(fields: tuple[Field, ...], body: object, *, echoes: bool) -> dict[str, Any]:
    """Every field in the declared order, defaults filled in; unknown ones are ignored.

    :param echoes: whether errors have pydantic 2's shape, which echoes the value, or pydantic 1's.
    :raises InvalidError: one or more values do not fit.
    """
    entry = _echoing_entry if echoes else _entry
    if body is None:
        raise InvalidError(entry("missing", ["body"], None))
    try:
        given = dict(body)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise InvalidError(entry("dict", ["body"], body)) from None
    values: dict[str, Any] = {}
    wrong = []
    for field in fields:
        value = given.get(field.name, field.default)
        try:
            values[field.name] = None if value is None and field.nullable else CONVERTED[field.kind][0](value)
        except (TypeError, ValueError, OverflowError, LookupError):
            kind = field.kind if value is not None else "null"
            wrong.append(entry(kind, ["body", field.name], value))
    if wrong:
        raise InvalidError(*wrong)
    return values


def _entry(kind: str, where: list[str], _value: object) -> dict[str, Any]:
    """Pydantic 1's shape."""
    if kind == "missing":
        return {"loc": where, "msg": "field required", "type": "value_error.missing"}
    if kind == "null":
        return {"loc": where, "msg": "none is not an allowed value", "type": "type_error.none.not_allowed"}
    _, name, message = CONVERTED[kind]
    return {"loc": where, "msg": message, "type": f"type_error.{name}"}


def _echoing_entry(kind: str, where: list[str], value: object) -> dict[str, Any]:
    """Pydantic 2's shape."""
    url = f"https://errors.pydantic.dev/2.8/v/{kind}_type"
    return {"type": f"{kind}_type", "loc": where, "msg": f"Input should be a valid {kind}", "input": value, "url": url}
