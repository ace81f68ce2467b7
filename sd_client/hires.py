"""The second pass of txt2img, over its enlarged picture: how it is asked for, and what in the answer proves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sd_client.accounts import extra, stated
from sd_client.capabilities import is_native
from sd_client.errors import DroppedError
from sd_client.limits import Limits
from sd_client.models import Capabilities, Hires


def hires_fields(hires: Hires, capabilities: Capabilities, *, cfg_scale: float) -> dict[str, Any]:
    """Sides by pixels: by a factor a WebUI would round them down itself."""
    fields: dict[str, Any] = {
        "enable_hr": True,
        "hr_resize_x": hires.width,
        "hr_resize_y": hires.height,
        "hr_upscaler": hires.upscaler,
        "denoising_strength": hires.strength,
    }
    if is_native(capabilities.checkpoints):
        return {**fields, "hr_steps": hires.steps}
    # The last two are Forge's: without the one it fails, and for the other it takes 1. A1111 does not read them.
    return {**fields, "hr_second_pass_steps": hires.steps, "hr_additional_modules": [], "hr_cfg": cfg_scale}


def fits(hires: Hires, limits: Limits, *, width: int, height: int) -> bool:
    """Whether a WebUI is known to paint all four sides as they are asked for; none is learned from a second pass."""
    return all(side % limits.sure_size_step == 0 for side in (width, height, hires.width, hires.height))


def check_hires(info: Mapping[str, Any], hires: Hires) -> None:
    """
    The size of the picture is another matter.

    :raises DroppedError: the answer does not name the upscaler.
    """
    named = extra(info, "Hires upscaler") == hires.upscaler or stated(
        info, lambda account: _upscaler(account) == hires.upscaler
    )
    if not named:
        raise DroppedError(
            "the WebUI used another upscaler, or does not say that it made the second pass", reason="wrong_upscaler"
        )


def _upscaler(account: Mapping[str, Any]) -> object:
    hires = account.get("hires")
    return hires.get("upscaler") if isinstance(hires, dict) and hires.get("enabled") is True else None
