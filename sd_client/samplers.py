"""How each WebUI spells samplers and schedulers, and the fewest steps that its samplers can do.

Callers use A1111's names. A1111 ≥ 1.9 lists samplers and schedulers separately, older ones have joined names
(``DPM++ 2M Karras``), stable-diffusion.cpp's server writes ``euler_a``, and most of them silently replace an unknown
name: so only names from a WebUI's own lists are ever sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sd_client.models import Capabilities, Sampler, normal_form

#: Words that end a sampler's alias but mean a scheduler, for WebUIs that do not list their schedulers.
_WELL_KNOWN = ("Karras", "Exponential", "Polyexponential", "SGM Uniform", "Simple", "Normal", "Beta", "DDIM Uniform")
_WELL_KNOWN_SCHEDULERS = tuple(Sampler(name=name) for name in _WELL_KNOWN)

#: What A1111 1.10 lists. Forge, which lists more, has another k-diffusion, whose SDE samplers can do one step.
_A1111_SCHEDULERS = frozenset(
    {
        *("automatic", "uniform", "karras", "exponential", "polyexponential", "sgm_uniform", "kl_optimal"),
        *("align_your_steps", "simple", "normal", "ddim", "beta"),
    }
)
_SDE = ("k_dpmpp_2m_sde", "k_dpmpp_2m_sde_heun", "k_dpmpp_3m_sde")
_REVERSE = ("k_dpm_fast", "k_dpm_ad")
#: A1111's option ``uni_pc_order``, if the WebUI does not report it.
_UNIPC_ORDER = 3


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """
    What to send to one WebUI; None: send nothing, so that its own default holds.

    :param aliases: other names of the sampler there: KoboldCpp reports ``ddim_trailing`` for its ``DDIM``.
    """

    sampler: str | None = None
    scheduler: str | None = None
    aliases: tuple[str, ...] = field(default=(), compare=False)


def spell(capabilities: Capabilities, sampler: str | None, scheduler: str | None) -> Spelling | None:
    """This WebUI's spelling of what was asked for; None if it does not offer that."""
    schedulers = capabilities.schedulers or ()
    found_scheduler = _find(schedulers, scheduler)
    if sampler is None:
        known = scheduler is None or found_scheduler is not None
        return Spelling(scheduler=_name(found_scheduler)) if known else None
    found = _named(capabilities.samplers, sampler)
    halves = None if found else _halves(capabilities.samplers, schedulers or _WELL_KNOWN_SCHEDULERS, sampler)
    if halves is not None:
        # KoboldCpp lists "DPM++ 2M Karras" as an alias of "DPM++ 2M", and would paint it without Karras.
        head, tail = halves
        offered = tail in schedulers and (scheduler is None or found_scheduler == tail)
        return _spelling(head, tail) if offered else None
    found = found or _find(capabilities.samplers, sampler)
    if found and (scheduler is None or found_scheduler):
        return _spelling(found, found_scheduler)
    joined = _find(capabilities.samplers, f"{sampler} {scheduler}") if scheduler is not None else None
    return _spelling(joined, None) if joined else None


def _spelling(sampler: Sampler, scheduler: Sampler | None) -> Spelling:
    return Spelling(sampler=sampler.name, scheduler=_name(scheduler), aliases=sampler.aliases)


def _name(found: Sampler | None) -> str | None:
    return None if found is None else found.name


def _halves(samplers: Iterable[Sampler], schedulers: Iterable[Sampler], name: str) -> tuple[Sampler, Sampler] | None:
    """The two parts of an old joined name: its last words are a scheduler, the words before them a sampler."""
    words = name.replace("_", " ").split()
    for cut in range(1, len(words)):
        tail = _find(schedulers, " ".join(words[cut:]))
        head = _find(samplers, " ".join(words[:cut]))
        if head and tail:
            return head, tail
    return None


def _find(listed: Iterable[Sampler], wanted: str | None) -> Sampler | None:
    """By name first, then by alias."""
    if wanted is None:
        return None
    listed = tuple(listed)
    form = normal_form(wanted)
    aliased = (sampler for sampler in listed if any(normal_form(alias) == form for alias in sampler.aliases))
    return _named(listed, wanted) or next(aliased, None)


def _named(listed: Iterable[Sampler], wanted: str) -> Sampler | None:
    form = normal_form(wanted)
    return next((sampler for sampler in listed if normal_form(sampler.name) == form), None)


# --- The fewest steps -------------------------------------------------------------------------------------------------
# Some samplers of A1111 and Forge fail, always with a 500, when they are given too few steps. This was seen on A1111
# 1.10.1 and on Forge, and read in A1111's sd_samplers_timesteps, sd_samplers_kdiffusion and UniPC. The samplers are
# recognised by the aliases that these two list; other servers list other aliases for them, or none.


def with_fewest_steps(
    samplers: Iterable[Sampler], schedulers: Iterable[Sampler], options: Mapping[str, Any]
) -> tuple[Sampler, ...]:
    """
    The samplers of a WebUI, each with the fewest steps that it can do.

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
    # With this option the WebUI does all steps, however small the strength.
    any_strength = options.get("img2img_fix_steps") is True
    return tuple(_with_fewest(sampler, fewest, any_strength=any_strength) for sampler in samplers)


def _with_fewest(sampler: Sampler, fewest: Mapping[str, tuple[int, int]], *, any_strength: bool) -> Sampler:
    found = next((fewest[alias] for alias in sampler.aliases if alias in fewest), None)
    if found is None:
        return sampler
    return replace(
        sampler,
        fewest_steps=found[0],
        fewest_img2img_steps=0 if any_strength else found[1],
        fewest_hires_steps=found[1] + 1,  # the first of them does not count
    )


def enough_steps(
    capabilities: Capabilities, spelling: Spelling, *, steps: int, strength: float | None, hires_steps: int | None
) -> bool:
    """
    Whether this WebUI's sampler can do a job of so many steps.

    :param strength: None for txt2img.
    :param hires_steps: of its second pass; None if it has none.
    """
    listed = capabilities.samplers if spelling.sampler else ()
    sampler = next((one for one in listed if one.name == spelling.sampler), None)
    if sampler is None:
        return True
    if strength is None:
        return steps >= sampler.fewest_steps and (hires_steps is None or hires_steps >= sampler.fewest_hires_steps)
    return img2img_steps(steps, strength) >= sampler.fewest_img2img_steps


def img2img_steps(steps: int, strength: float) -> int:
    """The steps that A1111 does of those asked for, without the one that it always does."""
    return int(min(strength, 0.999) * steps)
