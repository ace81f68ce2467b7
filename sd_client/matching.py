"""What one WebUI can do of a job, and what it calls what the job needs."""

from __future__ import annotations

from dataclasses import dataclass

from sd_client.hires import fits
from sd_client.limits import Limits
from sd_client.loras import find_loras
from sd_client.models import Capabilities, Checkpoint, GenerationParams, ListedLora, ReferenceWay, bare_name
from sd_client.references import possible_ways
from sd_client.samplers import Spelling, enough_steps, spell


@dataclass(frozen=True, kw_only=True)
class Match:
    """
    :param checkpoint: the job's model as this WebUI lists it.
    :param spelling: the job's sampler and scheduler as this WebUI calls them.
    :param loras: the job's LoRAs as this WebUI lists them.
    :param reference: how the WebUI is asked to use the job's reference picture: the first way that it has, until a
        trial has shown which one works.
    """

    checkpoint: Checkpoint
    spelling: Spelling
    loras: tuple[ListedLora, ...] = ()
    reference: ReferenceWay | None = None


def match(capabilities: Capabilities, params: GenerationParams) -> Match | None:
    """None if the WebUI lacks something that the job needs; its limits are another matter, see :func:`is_within`."""
    checkpoint = find_checkpoint(capabilities, params.checkpoint)
    spelling = spell(capabilities, params.sampler, params.scheduler)
    loras = find_loras(capabilities, params.loras) if params.loras else ()
    ways = possible_ways(capabilities, params.reference) if params.reference else ()
    if checkpoint is None or spelling is None or loras is None or (params.reference and not ways):
        return None
    hires_steps = params.hires.steps if params.hires else None
    able = (
        enough_steps(capabilities, spelling, steps=params.steps, strength=params.strength, hires_steps=hires_steps)
        and params.seed + params.batch_size - 1 <= capabilities.max_seed
        and (params.clip_skip == 1 or capabilities.clip_skip is not None)
        and (params.hires is None or params.hires.upscaler in capabilities.hires_upscalers)
        and (capabilities.inpaint_options or params.inpainting is None or params.inpainting.has_plain_form())
    )
    return (
        Match(checkpoint=checkpoint, spelling=spelling, loras=loras, reference=next(iter(ways), None)) if able else None
    )


def is_within(limits: Limits, params: GenerationParams) -> bool:
    """Whether a WebUI with these limits would paint the job as it was asked for."""
    return (
        limits.allow(width=params.width, height=params.height, steps=params.steps, cfg_scale=params.cfg_scale)
        and limits.allow_prompt(params.prompt)
        and limits.allow_prompt(params.negative_prompt)
        and (params.hires is None or fits(params.hires, limits, width=params.width, height=params.height))
    )


def find_checkpoint(capabilities: Capabilities, wanted: Checkpoint) -> Checkpoint | None:
    """
    The same file as this WebUI lists it: by its path there, else by its hash if both know it, else by its name, else
    by its bare name if that names one file. Never one whose hash is known to be another.
    """
    for same in (_same_path, _same_hash, _same_name):
        for checkpoint in capabilities.checkpoints:
            if same(checkpoint, wanted) and checkpoint.may_be(wanted):
                return checkpoint
    stem = wanted.stem.lower()
    bare = [one for one in capabilities.checkpoints if one.stem.lower() == stem and one.may_be(wanted)]
    return bare[0] if len(bare) == 1 else None


def _same_path(one: Checkpoint, other: Checkpoint) -> bool:
    return one.path == other.path


def _same_hash(one: Checkpoint, other: Checkpoint) -> bool:
    return bool(one.known_hash) and one.known_hash == other.known_hash


def _same_name(one: Checkpoint, other: Checkpoint) -> bool:
    return one.model_name.lower() == other.model_name.lower()


def loaded_model(capabilities: Capabilities) -> str | None:
    """``model_name`` of the checkpoint that the WebUI reports as loaded."""
    if not capabilities.loaded:
        return None
    for checkpoint in capabilities.checkpoints:
        if capabilities.loaded in checkpoint.ranked_names:
            return checkpoint.model_name
    return bare_name(capabilities.loaded)
