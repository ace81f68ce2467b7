"""The second pass of txt2img as A1111 and its forks make it, over the picture enlarged by an upscaler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.errors import CrashError
from simulator.flavour import Profile

#: What is used where there is no upscaler, or none whose weights are there.
PLAIN = "Lanczos"

#: The field by which the fault "upscaler-fake" says that no upscaler has its weights.
FAKE_UPSCALER = "simulator_fake_upscaler"


@dataclass(frozen=True, kw_only=True)
class SecondPass:
    """Sizes in pixels."""

    size: tuple[int, int]
    texts: Mapping[str, Any]
    """What the infotext says of it, nulls included."""
    effect: str
    """Stands for what it changes in the picture."""


def second_pass(fields: Mapping[str, Any], profile: Profile) -> SecondPass | None:
    """None where none was asked for.

    :raises CrashError: where and as the WebUI fails.
    """
    if not fields.get("enable_hr"):
        return None
    strength = fields["denoising_strength"]
    if strength is None:
        raise CrashError("TypeError", "'>' not supported between instances of 'NoneType' and 'int'")
    modes = [mode["name"] for mode in profile["lists"].get("latent-upscale-modes", [])]
    upscaler = fields["hr_upscaler"] or modes[0]
    if upscaler not in (*modes, *profile["upscalers"]):
        raise CrashError("Exception", f"could not find upscaler named {upscaler}")
    has_modules = "hr_additional_modules" in fields
    if has_modules and fields["hr_additional_modules"] is None:
        raise CrashError("TypeError", "argument of type 'NoneType' is not iterable")
    steps = fields["hr_second_pass_steps"] or 0
    used = PLAIN if upscaler == "None" or has_no_weights(upscaler, profile) else upscaler
    return SecondPass(
        size=_size(fields),
        texts={
            **({"Hires Module 1": "Built-in"} if has_modules else {}),
            "Hires prompt": None,
            "Hires negative prompt": None,
            **({"Hires CFG Scale": fields["hr_cfg"], "Hires Distilled CFG Scale": None} if has_modules else {}),
            "Hires schedule type": None,
            **_size_text(fields),
            **({"Hires steps": steps} if steps else {}),
            "Hires upscaler": fields["hr_upscaler"],
        },
        effect=f"hires {used} {steps} {strength} {fields.get('hr_cfg', '')}",
    )


def has_no_weights(upscaler: str, profile: Profile) -> bool:
    """Whether Lanczos stands in for it. LDSR is listed without a path, whether its weights are there or not."""
    return upscaler == "LDSR" or str(profile["upscaler_paths"].get(upscaler)).startswith("http")


def _size(fields: Mapping[str, Any]) -> tuple[int, int]:
    width, height = fields["width"], fields["height"]
    across, down = fields["hr_resize_x"] or 0, fields["hr_resize_y"] or 0
    if not across and not down:
        across, down = int(width * fields["hr_scale"]), int(height * fields["hr_scale"])
    across, down = across or int(down * width / height), down or int(across * height / width)
    return (across // 8 * 8, down // 8 * 8)


def _size_text(fields: Mapping[str, Any]) -> dict[str, Any]:
    across, down = fields["hr_resize_x"] or 0, fields["hr_resize_y"] or 0
    return {"Hires resize": f"{across}x{down}"} if across or down else {"Hires upscale": fields["hr_scale"]}
