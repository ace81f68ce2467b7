"""What the WebUIs of a pool cannot paint, told before it is painted: sizes, steps, guidance, seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sd_client.models import Capabilities, Sampler
from sd_client.samplers import enough_steps, img2img_steps, spell
from services.problems import Problem


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The part of a request that the catalogue has a say in; None where the caller left it open."""

    model: str | None = None
    sampler: str | None = None
    scheduler: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    prompt: str = field(default="", repr=False)
    negative_prompt: str = field(default="", repr=False)
    seed: int = 0
    batch_size: int = 1
    inpaint_fill: str | None = None
    strength: float | None = None


def limit_problems(able: Sequence[Capabilities], wanted: Wanted) -> list[Problem]:
    """:param able: the WebUIs that have the model and the sampler; at least one."""
    problems = [*_size_problems(able, wanted), *_amount_problems(able, wanted)]
    problems += [*_prompt_problems(able, wanted), *_seed_problems(able, wanted)]
    return problems or _together(able, wanted)


def _together(able: Sequence[Capabilities], wanted: Wanted) -> list[Problem]:
    """Where some WebUI can do each of it, and none can do all."""
    if wanted.width is None or wanted.height is None:
        return []
    steps, cfg_scale, last_seed = wanted.steps or 1, wanted.cfg_scale or 1.0, wanted.seed + wanted.batch_size - 1
    for c in able:
        within = c.limits.allow(width=wanted.width, height=wanted.height, steps=steps, cfg_scale=cfg_scale)
        if within and last_seed <= c.max_seed:
            return []
    message = "cannot be painted by any one WebUI together with the other fields; try multiples of 64, or less"
    return [Problem(field="width", message=message, received=f"{wanted.width}x{wanted.height}")]


def _size_problems(able: Sequence[Capabilities], wanted: Wanted) -> list[Problem]:
    step = min(c.limits.size_step for c in able)
    problems = []
    for name, pixels in (("width", wanted.width), ("height", wanted.height)):
        if pixels is not None and all(pixels % c.limits.size_step for c in able):
            below, above = pixels // step * step, (pixels // step + 1) * step
            nearest_sizes = f"{below} and {above}" if below else str(above)
            message = f"must be a multiple of {step} for this model; the nearest are {nearest_sizes}"
            problems.append(Problem(field=name, message=message, received=pixels))
    return problems or _area_problems(able, wanted)


def _area_problems(able: Sequence[Capabilities], wanted: Wanted) -> list[Problem]:
    """Both fields are named: which of them should be smaller is the caller's to say."""
    if wanted.width is None or wanted.height is None:
        return []
    pixels = wanted.width * wanted.height
    if any(c.limits.allow_pixels(pixels) for c in able):
        return []
    most = max(c.limits.most_pixels or 0 for c in able)
    message = f"width x height is too much for this model; {most} pixels can be painted"
    received = f"{wanted.width}x{wanted.height}"
    return [Problem(field=name, message=message, received=received) for name in ("width", "height")]


def _amount_problems(able: Sequence[Capabilities], wanted: Wanted) -> list[Problem]:
    """Steps and guidance that every WebUI would lower in silence."""
    problems = []
    if wanted.steps is not None and not any(c.limits.allow_steps(wanted.steps) for c in able):
        most: float = max(c.limits.most_steps or 0 for c in able)
        problems.append(_too_much("steps", wanted.steps, most))
    if wanted.cfg_scale is not None and not any(c.limits.allow_cfg_scale(wanted.cfg_scale) for c in able):
        most = max(c.limits.most_cfg_scale or 0.0 for c in able)
        problems.append(_too_much("cfg_scale", wanted.cfg_scale, most))
    return problems


def _too_much(name: str, received: float, most: float) -> Problem:
    return Problem(field=name, message=f"must be at most {most:g} for this model", received=received)


def _prompt_problems(able: Sequence[Capabilities], wanted: Wanted) -> list[Problem]:
    """Texts that every WebUI would cut in silence."""
    problems = []
    for name, prompt in (("prompt", wanted.prompt), ("negative_prompt", wanted.negative_prompt)):
        if prompt and not any(c.limits.allow_prompt(prompt) for c in able):
            most = max(c.limits.most_prompt_bytes or 0 for c in able)
            message = f"must have at most {most} bytes of UTF-8 for this model's WebUI, which cuts longer ones"
            problems.append(Problem(field=name, message=message, received=f"{len(prompt.encode())} bytes"))
    return problems


def _seed_problems(able: Sequence[Capabilities], wanted: Wanted) -> list[Problem]:
    largest = max(c.max_seed for c in able)
    if wanted.seed + wanted.batch_size - 1 <= largest:
        return []
    batch = f" with batch_size {wanted.batch_size}: image i has seed + i" if wanted.batch_size > 1 else ""
    message = f"must be at most {largest - wanted.batch_size + 1} for this model{batch}"
    return [Problem(field="seed", message=message, received=wanted.seed)]


def able_in_steps(
    able: Sequence[Capabilities], wanted: Wanted, *, sampler: str | None, scheduler: str | None
) -> list[Capabilities]:
    """Those of the WebUIs whose sampler can do so few steps."""
    if wanted.steps is None:
        return list(able)
    return [
        c
        for c in able
        if (spelling := spell(c, sampler, scheduler)) is None
        or enough_steps(c, spelling, steps=wanted.steps, strength=wanted.strength)
    ]


def few_steps_problems(
    able: Sequence[Capabilities], wanted: Wanted, *, sampler: str | None, scheduler: str | None
) -> list[Problem]:
    """Both fields are named: a WebUI would fail, which of the two should change is the caller's to say."""
    if wanted.steps is None or able_in_steps(able, wanted, sampler=sampler, scheduler=scheduler):
        return []
    found = [_sampler(c, sampler, scheduler) for c in able]
    if wanted.strength is None:
        whose = "none was given, and SD_SAMPLER, this service's default, " if wanted.sampler is None else ""
        message = f"must be at least {min(one.fewest_steps for one in found)} with the sampler {found[0].name!r}"
        return [
            Problem(field="steps", message=message, received=wanted.steps),
            Problem(
                field="sampler", message=f"{whose}{found[0].name!r} fails with so few steps", received=wanted.sampler
            ),
        ]
    fewest = min(one.fewest_img2img_steps for one in found)
    message = (
        f"strength x steps must be at least {fewest} with the sampler {found[0].name!r}, and is "
        f"{img2img_steps(wanted.steps, wanted.strength)} in whole steps; raise one of them, or use another sampler"
    )
    return [
        Problem(field="strength", message=message, received=wanted.strength),
        Problem(field="steps", message=message, received=wanted.steps),
    ]


def _sampler(capabilities: Capabilities, sampler: str | None, scheduler: str | None) -> Sampler:
    spelling = spell(capabilities, sampler, scheduler)
    return next(one for one in capabilities.samplers if spelling and one.name == spelling.sampler)
