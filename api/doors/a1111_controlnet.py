"""ControlNet in the service's own terms: a unit of an IP-Adapter or of ``reference_only`` is a reference picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from api.doors.translation import Translation, equal_to, is_empty, is_false, one_of
from api.schemas.values import shown_text

SCRIPT: Final = "controlnet"
#: What a picture is called in a unit.
PICTURES: Final = ("image", "input_image")

_ATTENTION: Final = "reference_only"
#: What the names of modules that look at more than a face begin with.
_ADAPTERS: Final = ("ip-adapter-auto", "ip-adapter_clip", "CLIP-ViT")

_WEIGHT: Final = 1.0
#: Accepted at values that change nothing: the service decides what a unit is sent with.
_NEUTRAL: Final[Mapping[str, Callable[[object], bool]]] = {
    "guidance_start": equal_to(0),
    "guidance_end": equal_to(1),
    "control_mode": lambda value: value == 0 or one_of("Balanced")(value),
    "hr_option": one_of("Both"),
    "threshold_a": equal_to(0.5, -1),
    "threshold_b": equal_to(0.5, -1),
    "advanced_weighting": is_empty,
    "inpaint_crop_input_image": is_false,
    **dict.fromkeys(("mask", "mask_image", "effective_region_mask"), is_empty),
}
#: Without an effect: the whole picture is used, by the adapter that works with the model.
_UNREAD: Final = frozenset(
    {"enabled", "module", "model", "weight", "resize_mode", "processor_res", "pixel_perfect", "low_vram", "lowvram"}
    | {"save_detected_map", "use_preview_as_input", *PICTURES}
)


def carry_reference(found: Translation, name: str, script: object) -> None:
    """:param name: of the script, as the request writes it."""
    place = f"alwayson_scripts.{shown_text(name)}"
    args = script.get("args") if isinstance(script, dict) else None
    if not isinstance(args, list) or not all(isinstance(unit, dict) for unit in args):
        found.refuse_at(place, "must have a list of units, each an object")
        return
    units = [(number, unit) for number, unit in enumerate(args) if not is_false(unit.get("enabled", True))]
    if len(units) > 1:
        found.refuse_at(place, f"has {len(units)} units; one is taken, of an IP-Adapter or reference_only")
    elif units:
        number, unit = units[0]
        _carry_unit(found, f"{place}.args[{number}]", {key: value for key, value in unit.items() if value is not None})


def _carry_unit(found: Translation, place: str, unit: Mapping[str, object]) -> None:
    module = unit.get("module", "none")
    method = _method(module)
    if method is None:
        found.refuse_at(
            f"{place}.module", "only reference_only and IP-Adapters that look at the whole picture are taken"
        )
        return
    wrong = [name for name, accepts in _NEUTRAL.items() if name in unit and not accepts(unit[name])]
    for name in (*wrong, *sorted(unit.keys() - _NEUTRAL.keys() - _UNREAD)[:10]):
        found.refuse_at(f"{place}.{shown_text(name)}", "cannot be chosen here; leave it out")
    pictures = [name for name in PICTURES if not is_empty(unit.get(name, ""))]
    if len(pictures) != 1:
        found.refuse_at(f"{place}.image", "must be one picture, as base64")
        return
    found.carry(f"{place}.{pictures[0]}", "reference", unit[pictures[0]])
    found.carry(f"{place}.weight", "reference_weight", unit.get("weight", _WEIGHT))
    found.carry(f"{place}.module", "reference_method", method, received=shown_text(str(module)))


def _method(module: object) -> str | None:
    if module == _ATTENTION:
        return "attention"
    return "adapter" if isinstance(module, str) and module.startswith(_ADAPTERS) else None
