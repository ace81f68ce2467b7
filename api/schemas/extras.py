"""The fields that are lists or objects, as the service's own values, and what is wrong with their members together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from api.schemas.fields import MOST_LORAS, HiresFields
from api.schemas.values import whole
from services.extras import is_larger
from services.generation_request import PROMPT, AskedHires, AskedLora
from services.lora_tags import read_tags
from services.problems import Problem

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
    sides = [name for name in ("width", "height") if name in given]
    if len(sides) == 1:
        missing = "height" if sides == ["width"] else "width"
        return [Problem(field=f"hires.{missing}", message=f"is required with {sides[0]}; or send 'scale' alone")]
    if sides and "scale" in given:
        return [Problem(field="hires.scale", message="cannot be sent with width and height; send one or the other")]
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
