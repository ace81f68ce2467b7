"""What of LoRAs and other extras the pool can do, before a job is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sd_client.hires import fits
from sd_client.loras import find_loras
from sd_client.models import Capabilities, Hires, Lora, ReferenceMethod, normal_form
from sd_client.references import methods_of
from services.generation_request import AskedHires, AskedLora, AskedMethod
from services.problems import CapabilityMissingError, InvalidParamsError, Problem, known_names, nearest
from services.webui_limits import Wanted

_MOST_SHOWN_CHARS = 60


@dataclass(kw_only=True)
class Extras:
    """
    What the pool makes of a request's extras.

    :param able: the WebUIs that can do all of it; as many as before where there is a problem.
    :param reference_methods: by which a reference picture may be used, the preferred one first.
    :param missing: those of the problems that no WebUI of the pool could do, whatever the values.
    """

    able: list[Capabilities]
    loras: tuple[Lora, ...] = ()
    hires: Hires | None = None
    reference_methods: tuple[ReferenceMethod, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)

    def lack(self, problem: Problem) -> None:
        self.problems.append(problem)
        self.missing.append(problem)


def settle_extras(able: Sequence[Capabilities], wanted: Wanted, clip_skip: int) -> Extras:
    """
    :param able: the WebUIs that can do the rest of the request; at least one.
    :param clip_skip: the request's, or the service's default.
    """
    extras = Extras(able=list(able))
    if clip_skip > 1:
        _settle_clip_skip(extras, clip_skip, asked=wanted.clip_skip is not None)
    if wanted.loras:
        _settle_loras(extras, wanted.loras)
    if wanted.hires:
        _settle_hires(extras, wanted, wanted.hires)
    if wanted.reference is not None:
        _settle_reference(extras, wanted.reference_method)
    return extras


def _settle_reference(extras: Extras, asked: AskedMethod) -> None:
    known = methods_of(way for capabilities in extras.able for way in capabilities.references)
    methods = tuple(method for method in known if asked in ("auto", method))
    if not known:
        message = (
            "no WebUI of this service can take a reference picture with this model: install the ControlNet extension "
            "in one, or ask without 'reference'"
        )
        extras.lack(Problem(field="reference", message=message))
        return
    if not methods:
        message = f"no WebUI of this service offers this method with this model; there is {', '.join(known)}"
        extras.lack(Problem(field="reference_method", message=message, received=asked))
        return
    extras.reference_methods = methods
    extras.able = [c for c in extras.able if any(way.method in methods for way in c.references)]


def chosen_upscaler(asked: str | None, names: Sequence[str], *, default: str | None) -> str:
    """
    :param names: those that there are.
    :raises CapabilityMissingError: there are none.
    :raises InvalidParamsError: it is none of them.
    """
    if not names:
        message = "no WebUI of this service enlarges pictures"
        raise CapabilityMissingError([Problem(field="upscaler", message=message)])
    wanted = asked or default
    if wanted is None:
        message = f"is required, since this service has no default (SD_UPSCALER); known: {known_names(names)}"
        raise InvalidParamsError([Problem(field="upscaler", message=message)])
    same = [name for name in names if normal_form(name) == normal_form(wanted)]
    if same:
        return wanted if wanted in same else same[0]
    known = f"{nearest(wanted, names)} (known: {known_names(names)})"
    if asked is None:
        message = f"none was given, and SD_UPSCALER, this service's default, is not an upscaler of this service{known}"
        raise InvalidParamsError([Problem(field="upscaler", message=message)])
    message = f"is not an upscaler of this service{known}"
    raise InvalidParamsError(
        [Problem(field="upscaler", message=message, received=asked[:_MOST_SHOWN_CHARS], is_text=True)]
    )


def _settle_hires(extras: Extras, wanted: Wanted, asked: AskedHires) -> None:
    names = list(dict.fromkeys(name for capabilities in extras.able for name in capabilities.hires_upscalers))
    if not names:
        message = "no WebUI of this service makes a second pass with this model; leave it out"
        extras.lack(Problem(field="hires", message=message))
        return
    matches = _named(asked.upscaler, names)
    if len(matches) != 1:
        known = f"{nearest(asked.upscaler, names)} (known: {known_names(names)})"
        message = f"is not an upscaler for a second pass with this model{known}"
        shown = asked.upscaler[:_MOST_SHOWN_CHARS]
        extras.problems.append(Problem(field="hires.upscaler", message=message, received=shown, is_text=True))
        return
    if wanted.width is None or wanted.height is None or wanted.steps is None:
        return  # one of them is wrong, or left out of what is checked
    fitting = [capabilities for capabilities in extras.able if matches[0] in capabilities.hires_upscalers]
    step = min(capabilities.limits.sure_size_step for capabilities in fitting)
    width, height = asked.size(wanted.width, wanted.height, step=step)
    hires = Hires(
        width=width,
        height=height,
        upscaler=matches[0],
        steps=asked.steps or wanted.steps,
        strength=asked.strength,
    )
    sides = {"width": wanted.width, "height": wanted.height}
    fitting = [capabilities for capabilities in fitting if fits(hires, capabilities.limits, **sides)]
    if not fitting:
        message = f"all sides, of the first pass and of the second, must be multiples of {step} with this model"
        received = f"{wanted.width}x{wanted.height}, {width}x{height}"
        extras.problems.append(Problem(field="hires", message=message, received=received))
    elif not is_larger(hires.width, hires.height, **sides):
        extras.problems.append(Problem(field="hires.scale", message=f"does not enlarge {wanted.width}x{wanted.height}"))
    extras.hires, extras.able = hires, fitting or extras.able


def is_larger(final_width: int, final_height: int, *, width: int, height: int) -> bool:
    """In one direction at least, and smaller in none."""
    return final_width >= width and final_height >= height and (final_width, final_height) != (width, height)


def _settle_clip_skip(extras: Extras, clip_skip: int, *, asked: bool) -> None:
    fitting = [capabilities for capabilities in extras.able if capabilities.clip_skip]
    if not fitting:
        message = "no WebUI of this service can use another layer than the last with this model; send 1"
        message = message if asked else f"none was given, and SD_CLIP_SKIP, this service's default, is not 1: {message}"
        extras.lack(Problem(field="clip_skip", message=message, received=clip_skip if asked else None))
    extras.able = fitting or extras.able


def _settle_loras(extras: Extras, asked: Sequence[AskedLora]) -> None:
    names = list(dict.fromkeys(lora.name for capabilities in extras.able for lora in capabilities.loras))
    if not names:
        message = "no WebUI of this service offers LoRAs with this model; leave them out"
        extras.lack(Problem(field=asked[0].root, message=message))
        return
    loras: list[Lora] = []
    for one in asked:
        matches = _named(one.name, names)
        if len(matches) != 1:
            extras.problems.append(_unknown(one, matches, names))
        elif any(lora.name == matches[0] for lora in loras):
            extras.problems.append(_problem(one, "is asked for twice"))
        else:
            loras.append(Lora(name=matches[0], weight=one.weight))
    if len(loras) < len(asked):
        return
    extras.loras = tuple(loras)
    fitting = [capabilities for capabilities in extras.able if find_loras(capabilities, loras) is not None]
    if not fitting:
        message = f"no single WebUI has all of these LoRAs: {', '.join(lora.name for lora in loras)}"
        extras.problems.append(Problem(field=asked[0].root, message=message))
    extras.able = fitting or extras.able


def _named(name: str, names: Sequence[str]) -> list[str]:
    """Exactly so, else without regard to case."""
    folded = name.casefold()  # once: a caller's name may be as long as a prompt
    return [name] if name in names else [known for known in names if known.casefold() == folded]


def _unknown(asked: AskedLora, matches: Sequence[str], names: Sequence[str]) -> Problem:
    if matches:
        return _problem(asked, f"is ambiguous: it could be {' or '.join(map(repr, matches))}")
    known = f"{nearest(asked.name, names)} (known: {known_names(names)})"
    return _problem(asked, f"is not a LoRA available with this model{known}")


def _problem(asked: AskedLora, message: str) -> Problem:
    if asked.is_tag:
        message = f"has a tag for {asked.shown!r}, which {message}"
        return Problem(field=asked.field, message=message)
    return Problem(field=asked.field, message=message, received=asked.shown, is_text=True)
