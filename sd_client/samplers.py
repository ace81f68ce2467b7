"""How each WebUI spells samplers and schedulers.

Callers use A1111's names. A1111 ≥ 1.9 has samplers and schedulers apart, older ones have joined names
(``DPM++ 2M Karras``), stable-diffusion.cpp's server writes ``euler_a``, and an unknown name is replaced in
silence by most of them: so only names from a WebUI's own lists are ever sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sd_client.models import Capabilities, Sampler, normal_form

#: Words that end a sampler's alias, but mean a scheduler, where a WebUI does not list its schedulers.
_WELL_KNOWN = ("Karras", "Exponential", "Polyexponential", "SGM Uniform", "Simple", "Normal", "Beta", "DDIM Uniform")
_WELL_KNOWN_SCHEDULERS = tuple(Sampler(name=name) for name in _WELL_KNOWN)


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """
    What to send to one WebUI; None where nothing is sent and its own default holds.

    :param aliases: what else the sampler is called there: KoboldCpp tells ``ddim_trailing`` for its ``DDIM``.
    """

    sampler: str | None = None
    scheduler: str | None = None
    aliases: tuple[str, ...] = field(default=(), compare=False)


def spell(capabilities: Capabilities, sampler: str | None, scheduler: str | None) -> Spelling | None:
    """This WebUI's spelling of what was asked for, or None where it does not offer that."""
    schedulers = capabilities.schedulers or ()
    found_scheduler = _find(schedulers, scheduler)
    if sampler is None:
        known = scheduler is None or found_scheduler is not None
        return Spelling(scheduler=_name(found_scheduler)) if known else None
    found = _named(capabilities.samplers, sampler)
    halves = None if found else _halves(capabilities.samplers, schedulers or _WELL_KNOWN_SCHEDULERS, sampler)
    if halves is not None:
        # KoboldCpp lists "DPM++ 2M Karras" as an alias of "DPM++ 2M": as such it would be painted without Karras.
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
