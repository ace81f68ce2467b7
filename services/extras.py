"""What of LoRAs and other extras the pool can do, before a job is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sd_client.loras import find_loras
from sd_client.models import Capabilities, Lora
from services.generation_request import AskedLora
from services.problems import Problem, known_names, nearest
from services.webui_limits import Wanted


@dataclass(kw_only=True)
class Extras:
    """
    What the pool makes of a request's extras.

    :param able: the WebUIs that can do all of it; as many as before where there is a problem.
    :param missing: those of the problems that no WebUI of the pool could do, whatever the values.
    """

    able: list[Capabilities]
    loras: tuple[Lora, ...] = ()
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
    return extras


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
    return [name] if name in names else [known for known in names if known.casefold() == name.casefold()]


def _unknown(asked: AskedLora, matches: Sequence[str], names: Sequence[str]) -> Problem:
    if matches:
        return _problem(asked, f"is ambiguous: it could be {' or '.join(map(repr, matches))}")
    known = f"{nearest(asked.name, names)} (known: {known_names(names)})"
    return _problem(asked, f"is not a LoRA of this service{known}")


def _problem(asked: AskedLora, message: str) -> Problem:
    if asked.is_tag:
        message = f"has a tag for {asked.shown!r}, which {message}"
        return Problem(field=asked.field, message=message)
    return Problem(field=asked.field, message=message, received=asked.shown, is_text=True)
