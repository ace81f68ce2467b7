"""How each WebUI spells samplers and schedulers.

Callers use A1111's names. A1111 ≥ 1.9 has samplers and schedulers apart, older ones have joined names
(``DPM++ 2M Karras``), stable-diffusion.cpp's server writes ``euler_a``, and an unknown name is replaced in
silence by most of them: so only names from a WebUI's own lists are ever sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sd_client.models import Capabilities, Sampler, normal_form


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """What to send to one WebUI; None where nothing is sent and its own default holds."""

    sampler: str | None = None
    scheduler: str | None = None


def spell(capabilities: Capabilities, sampler: str | None, scheduler: str | None) -> Spelling | None:
    """This WebUI's spelling of what was asked for, or None where it does not offer that."""
    schedulers = capabilities.schedulers or ()
    found_scheduler = _find(schedulers, scheduler)
    if sampler is None:
        return Spelling(scheduler=found_scheduler) if scheduler is None or found_scheduler else None
    found_sampler = _find(capabilities.samplers, sampler)
    if found_sampler and (scheduler is None or found_scheduler):
        return Spelling(sampler=found_sampler, scheduler=found_scheduler)
    if scheduler is not None:
        joined = _find(capabilities.samplers, f"{sampler} {scheduler}")
        if joined:
            return Spelling(sampler=joined)
    return _split(capabilities.samplers, schedulers, sampler, scheduler)


def _split(
    samplers: Iterable[Sampler], schedulers: Iterable[Sampler], name: str, scheduler: str | None
) -> Spelling | None:
    """An old joined name: its last words are a scheduler, the words before them a sampler."""
    words = name.replace("_", " ").split()
    for cut in range(1, len(words)):
        tail = _find(schedulers, " ".join(words[cut:]))
        head = _find(samplers, " ".join(words[:cut]))
        if head and tail and (scheduler is None or _find(schedulers, scheduler) == tail):
            return Spelling(sampler=head, scheduler=tail)
    return None


def _find(listed: Iterable[Sampler], wanted: str | None) -> str | None:
    """The listed name for ``wanted``: by name first, then by alias."""
    if wanted is None:
        return None
    form = normal_form(wanted)
    listed = tuple(listed)
    for sampler in listed:
        if normal_form(sampler.name) == form:
            return sampler.name
    for sampler in listed:
        if any(normal_form(alias) == form for alias in sampler.aliases):
            return sampler.name
    return None
