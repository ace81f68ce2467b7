"""The fields that are lists or objects, as the service's own values, and what is wrong with their members together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from api.schemas.fields import MOST_LORAS, MOST_SCALE, HiresFields, UpscaleFields
from api.schemas.values import whole
from services.extras import is_larger
from services.generation_request import PROMPT, AskedHires, AskedLora
from services.lora_tags import read_tags
from services.problems import Problem
from services.upscaling import final_size

_DEFAULT_SCALE = 2.0
_INTEGERS = ("width", "height", "steps")


def asked_loras(prompt: str, loras: Sequence[Mapping[str, Any]]) -> tuple[AskedLora, ...]:
    """
    Those of the field, then those of the prompt's tags.

    :param loras: valid entries of the field.
    """
    if not loras and "<" not in prompt:
        return ()
    listed = [
        AskedLora(name=lora["name"], weight=lora.get("weight", 1.0), field=f"loras[{place}].name")
        for place, lora in enumerate(loras)
    ]
    tagged = [AskedLora(name=tag.name, weight=tag.weight, field=PROMPT) for tag in read_tags(prompt).loras]
    return (*listed, *tagged)


def too_many_loras(asked: Sequence[AskedLora]) -> list[Problem]:
    if len(asked) <= MOST_LORAS:
        return []
    message = f"asks for {len(asked)} LoRAs, with the tags of the prompt; at most {MOST_LORAS} are used together"
    return [Problem(field=asked[-1].root, message=message)]


def asked_hires(given: Mapping[str, Any]) -> AskedHires:
    """:param given: valid members of the field, without those that were left out."""
    values: dict[str, Any] = {name: field.default for name, field in HiresFields.model_fields.items()}
    values |= {name: whole(value) if name in _INTEGERS else value for name, value in given.items()}
    if values["width"] is None:
        values["scale"] = values["scale"] or _DEFAULT_SCALE
    return AskedHires(**values)


def hires_problems(given: Mapping[str, Any], *, width: int, height: int, most: int) -> list[Problem]:
    """
    :param given: valid members of the field.
    :param width: and ``height``: of the first pass, pixels.
    :param most: pixels of the final picture.
    """
    if problems := sides_problems(given, "hires."):
        return problems
    sides = "width" in given
    final = asked_hires(given).size(width, height, step=8)
    field, shown = "hires.height" if sides else "hires.scale", f"{final[0]} x {final[1]}"
    if final[0] * final[1] > most:
        message = f"the final picture must have at most {most} pixels"
        return [Problem(field=field, message=message, received=shown)]
    if not is_larger(*final, width=width, height=height):
        message = f"the final picture must be larger than {width} x {height}, and smaller in no direction"
        return [Problem(field=field, message=message, received=shown)]
    return []


def reference_problems(values: Mapping[str, Any]) -> list[Problem]:
    """Fields that only a reference picture gives a meaning."""
    if "reference" in values:
        return []
    message = "says how 'reference' is used, which is missing; send it, or leave this out"
    return [Problem(field=name, message=message) for name in ("reference_weight", "reference_method") if name in values]


def sides_problems(given: Collection[str], before: str = "") -> list[Problem]:
    """
    Either both sides, or a factor.

    :param given: the names of the members that were sent. :param before: what their names begin with in an answer.
    """
    sides = [name for name in ("width", "height") if name in given]
    if len(sides) == 1:
        missing = "height" if sides == ["width"] else "width"
        return [Problem(field=f"{before}{missing}", message=f"is required with {sides[0]}; or send 'scale' alone")]
    if sides and "scale" in given:
        return [Problem(field=f"{before}scale", message="cannot be sent with width and height; send one or the other")]
    return []


def upscaled_size(fields: UpscaleFields) -> tuple[int, int]:
    """Of the final picture, pixels."""
    if fields.width and fields.height:
        return fields.width, fields.height
    return final_size(fields.image.width, fields.image.height, fields.scale or _DEFAULT_SCALE)


def upscale_problems(fields: UpscaleFields, *, most: int) -> list[Problem]:
    """
    :param fields: each right on its own.
    :param most: pixels of the final picture.
    """
    before, final = (fields.image.width, fields.image.height), upscaled_size(fields)
    field, shown = "height" if fields.height else "scale", f"{final[0]} x {final[1]}"
    if final[0] * final[1] > most:
        message = f"the enlarged picture must have at most {most} pixels"
    elif not is_larger(*final, width=before[0], height=before[1]):
        message = f"the enlarged picture must be larger than {before[0]} x {before[1]}, and smaller in no direction"
    elif any(after > MOST_SCALE * side for side, after in zip(before, final, strict=True)):
        message = f"each side may become {MOST_SCALE:g} times as long at most; it is {before[0]} x {before[1]}"
    elif fields.height and not _has_shape(before, final):
        due = round(final[0] * before[1] / before[0] / 8) * 8
        message = f"must fit the picture's shape, {before[0]} x {before[1]}, within 1 %; with this width, it is {due}"
    else:
        return []
    return [Problem(field=field, message=message, received=shown)]


def _has_shape(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Within a hundredth, or what multiples of 8 cannot avoid."""
    off = abs(after[1] - after[0] * before[1] / before[0])
    return off <= max(after[1] / 100, 4)
