"""A1111's hires fix in the service's own terms: a second pass over the enlarged picture."""

from __future__ import annotations

from typing import Final

from api.doors.translation import Translation, boolean, number

#: The members of ``hires``, by A1111's names.
_NUMBERS: Final = {"hr_second_pass_steps": "steps", "denoising_strength": "strength"}
_SIDES: Final = {"hr_resize_x": "width", "hr_resize_y": "height"}
_NAMES: Final = {"hr_scale": "scale", "hr_upscaler": "upscaler", **_NUMBERS, **_SIDES}
#: What can differ from the first pass in A1111's second, and what says that it does not.
_AS_BEFORE: Final = {
    "hr_checkpoint_name": ("", "Use same checkpoint"),
    "hr_additional_modules": ([], ["Use same choices"]),
}
#: The same, where it may be repeated: A1111's name and the service's own for it in the first pass.
_SAME_AS: Final = {
    "hr_prompt": ("prompt", "prompt"),
    "hr_negative_prompt": ("negative_prompt", "negative_prompt"),
    "hr_cfg": ("cfg_scale", "cfg_scale"),
    "hr_sampler_name": ("sampler_name", "sampler"),
    "hr_scheduler": ("scheduler", "scheduler"),
}
_NOTHING: Final = ("", "Use same sampler", "Use same scheduler")

#: Fields of A1111 that are read where its hires fix is on.
FIELDS: Final = ("enable_hr", *_NAMES)

_SCALE: Final = 2.0
_SIDE: Final = 512
#: More than any bound of the service's allows.
_LARGEST_SIDE: Final = 65_536


def has_hires(found: Translation) -> bool:
    """Whether it is asked for; what is neither yes nor no is refused."""
    wanted = boolean(found.given.get("enable_hr", False))
    if not isinstance(wanted, bool):
        found.refuse("enable_hr", "must be true or false")
    return wanted is True


def carry_hires(found: Translation) -> None:
    """What the second pass is to be, once the rest has been carried."""
    hires = {own: number(found.given[name]) for name, own in _NUMBERS.items() if name in found.given}
    upscaler = found.given.get("hr_upscaler", "")
    if upscaler != "":
        hires["upscaler"] = upscaler
    found.values["hires"] = hires | _size(found)
    found.names |= {"hires": "enable_hr", **{f"hires.{own}": name for name, own in _NAMES.items()}}
    for name, harmless in _AS_BEFORE.items():
        if name in found.given and found.given[name] not in harmless:
            found.refuse(name, "must be left out: the second pass is made with what the first is made with")
    for name, (first, own) in _SAME_AS.items():
        wanted = found.given.get(name, "")
        if wanted not in _NOTHING and found.values.get(own, "") not in (wanted, number(wanted)):
            found.refuse(name, f"must be left out, or the same as {first}, which is used for both passes")


def _size(found: Translation) -> dict[str, object]:
    """A side that is 0 follows from the other one and the picture's shape, as in A1111."""
    asked = {own: number(found.given.get(name, 0)) for name, own in _SIDES.items()}
    given = {own: value for own, value in asked.items() if isinstance(value, bool) or value != 0}
    if not given:
        return {"scale": number(found.given.get("hr_scale", _SCALE))}
    if len(given) == 1:
        ((known, value),) = given.items()
        (missing,) = _SIDES.values() - given.keys()
        first = {own: found.values.get(own, _SIDE) for own in _SIDES.values()}
        # From sides that are refused anyway nothing follows.
        if all(_is_side(side) for side in (value, *first.values())):
            given[missing] = int(value * first[missing] / first[known]) // 8 * 8  # type: ignore[operator]
    return given


def _is_side(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST_SIDE
