"""The tags by which a prompt asks for LoRAs, ``<lora:NAME:WEIGHT>``: read, and taken out of it.

A1111 takes out whatever looks like a tag, and ignores what it cannot use without a word. So each must be one that can
be checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from sd_client.models import Lora

#: How a tag begins; it ends at the next ``>``.
_BEGINNING: Final = re.compile(r"<(\w+):")

SMALLEST_WEIGHT: Final = -2.0
LARGEST_WEIGHT: Final = 2.0

#: Kinds of tags, as A1111 and its extensions have them.
_NETWORKS: Final = ("lora", "lyco", "hypernet")

#: Of a tag, in a message.
_MOST_SHOWN_CHARS = 60


class TagError(ValueError):
    """A tag cannot be used; the text says why, as a phrase after the name of the field that it is in."""


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """A prompt without its tags, and what they ask for."""

    prompt: str
    loras: tuple[Lora, ...]


class _Tag(NamedTuple):
    """Where it stands, and what is before and behind its first colon."""

    start: int
    end: int
    kind: str
    inside: str


def read_tags(prompt: str) -> Tagged:
    """
    A tag without a weight has 1.

    :raises TagError: see its text.
    """
    tags = list(_tags(prompt))
    if not tags:
        return Tagged(prompt=prompt, loras=())
    starts, ends = [tag.start for tag in tags], [tag.end for tag in tags]
    words = [prompt[end:start] for end, start in zip([0, *ends], [*starts, len(prompt)], strict=True)]
    # With a blank between them, so that what stood around a tag does not become one.
    return Tagged(prompt=" ".join(words).strip(), loras=tuple(_lora(tag) for tag in tags))


def without_tags(prompt: str) -> str:
    """What is left of a prompt whose tags can be read."""
    return read_tags(prompt).prompt if "<" in prompt else prompt


def refuse_tags(text: str) -> None:
    """:raises TagError: there is one, where it would be read as words."""
    if found := next(_tags(text), None):
        raise TagError(f"must not contain {_shown(found)}: tags work in 'prompt' only; here it would be read as words")


def _tags(text: str) -> Iterator[_Tag]:
    """
    What A1111 takes for tags. One pattern for all of it would need quadratic time for many beginnings.

    :raises TagError: one of a network has no end.
    """
    at = text.find("<")
    while at >= 0 and (found := _BEGINNING.search(text, at)):
        at = found.end()
        end = text.find(">", at)
        if end < 0 and found[1].lower() in _NETWORKS:
            raise TagError(f"has {found[0]!r} without the '>' at its end")
        if end < 0:
            continue
        if end > at:
            yield _Tag(found.start(), end + 1, found[1], text[at:end])
            at = end + 1


def _lora(found: _Tag) -> Lora:
    kind, inside = found.kind, found.inside
    if kind != "lora":
        others = "write" if kind.lower() == "lora" else "the only tag that is known is"
        message = f"must not contain {_shown(found)}: a WebUI would leave it out without a word"
        raise TagError(f"{message}; {others} <lora:NAME:WEIGHT>")
    name, *numbers = inside.split(":")
    if len(numbers) > 1:
        raise TagError(f"must not contain {_shown(found)}: a LoRA has one weight, <lora:NAME:WEIGHT>")
    weight = _weight(numbers[0]) if numbers else 1.0
    if weight is None:
        raise TagError(
            f"must not contain {_shown(found)}: the weight must be a number between -2 and 2, and not 0, which would "
            "change nothing"
        )
    return Lora(name=name, weight=weight)


def _weight(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if math.isfinite(weight) and weight and SMALLEST_WEIGHT <= weight <= LARGEST_WEIGHT else None


def _shown(found: _Tag) -> str:
    tag = f"<{found.kind}:{found.inside}>"
    return repr(tag if len(tag) <= _MOST_SHOWN_CHARS else tag[:_MOST_SHOWN_CHARS] + "…")
