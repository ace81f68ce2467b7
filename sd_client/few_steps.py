"""Samplers of A1111 and Forge that break down when they are given too few steps: always a 500, after waiting.

Seen on A1111 1.10.1 and on Forge, and read in A1111's ``sd_samplers_timesteps``, ``sd_samplers_kdiffusion`` and UniPC.
They are known by the aliases that these two list; servers with other samplers of the same names list others, or none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sd_client.models import Capabilities, Sampler
from sd_client.samplers import Spelling

#: What A1111 1.10 lists. Forge, which lists more, has another k-diffusion, whose SDE samplers can do one step.
_A1111_SCHEDULERS = frozenset(
    {
        *("automatic", "uniform", "karras", "exponential", "polyexponential", "sgm_uniform", "kl_optimal"),
        *("align_your_steps", "simple", "normal", "ddim", "beta"),
    }
)
_SDE = ("k_dpmpp_2m_sde", "k_dpmpp_2m_sde_heun", "k_dpmpp_3m_sde")
_REVERSE = ("k_dpm_fast", "k_dpm_ad")

#: Option ``uni_pc_order`` of A1111, where it is not told.
_UNIPC_ORDER = 3


def with_fewest_steps(
    samplers: Iterable[Sampler], schedulers: Iterable[Sampler], options: Mapping[str, Any]
) -> tuple[Sampler, ...]:
    """
    The samplers of a WebUI, with the fewest steps that each can do.

    :param schedulers: and ``options``: what the same WebUI lists.
    """
    order = options.get("uni_pc_order")
    order = order if isinstance(order, int) and 1 <= order <= 50 else _UNIPC_ORDER
    fewest = {"unipc": (order, order)}
    if options.get("eta_ancestral") != 0:
        fewest |= dict.fromkeys(_REVERSE, (1, 1))
    listed = {scheduler.name for scheduler in schedulers}
    if listed and listed <= _A1111_SCHEDULERS:
        fewest |= dict.fromkeys(_SDE, (2, 1))
    # With this option all steps are done, however small the strength.
    any_strength = options.get("img2img_fix_steps") is True
    return tuple(_with_fewest(sampler, fewest, any_strength=any_strength) for sampler in samplers)


def _with_fewest(sampler: Sampler, fewest: Mapping[str, tuple[int, int]], *, any_strength: bool) -> Sampler:
    found = next((fewest[alias] for alias in sampler.aliases if alias in fewest), None)
    if found is None:
        return sampler
    return replace(sampler, fewest_steps=found[0], fewest_img2img_steps=0 if any_strength else found[1])


def enough_steps(capabilities: Capabilities, spelling: Spelling, *, steps: int, strength: float | None) -> bool:
    """
    Whether this WebUI's sampler can do a job of so many steps.

    :param strength: None for txt2img.
    """
    sampler = next((one for one in capabilities.samplers if one.name == spelling.sampler), None)
    if sampler is None:
        return True
    if strength is None:
        return steps >= sampler.fewest_steps
    return img2img_steps(steps, strength) >= sampler.fewest_img2img_steps


def img2img_steps(steps: int, strength: float) -> int:
    """The steps that A1111 does of those asked for, but for one that it always does."""
    return int(min(strength, 0.999) * steps)
