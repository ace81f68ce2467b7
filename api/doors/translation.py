"""A door's request in the terms of the service's own API.

Each field of the door's API is *carried* (it has a counterpart here), *neutral* (accepted at values that change
nothing), *unread* (accepted at any value, without effect) or *refused*. The door's own tables say which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from api.schemas import FIELDS, from_form, root
from api.schemas.values import shown
from services.generation_request import Mode
from services.problems import Problem

#: The service's fields that take a number.
NUMBERS: Final = frozenset(
    name for name, found in FIELDS["inpainting"].model_fields.items() if found.annotation in (int, float)
)


@dataclass(frozen=True, kw_only=True)
class Neutral:
    """
    Values at which a field changes nothing.

    :param accepts: whether a value is one of them.
    :param message: why another one is refused, and what to do instead.
    """

    accepts: Callable[[object], bool]
    message: str


@dataclass(kw_only=True)
class Translation:
    """
    :param given: the door's fields, without those that are null; once all is read, those that are still needed.
    :param words: pieces of the service's own sentences that name its fields and values, and what the door says instead.
    :ivar values: of the fields of :mod:`api.schemas`.
    :ivar names: what those are called at the door.
    :ivar received: what came for them, where the value is not that.
    :ivar problems: what the service's own fields have no word for, by the door's names.
    :ivar ignored: fields without an effect that the door's API does not have.
    """

    given: Mapping[str, object]
    mode: Mode = "txt2img"
    words: Sequence[tuple[str, str]] = ()
    values: dict[str, object] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    received: dict[str, object] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, body: Mapping[str, object], *, mode: Mode, words: Sequence[tuple[str, str]] = ()) -> Translation:
        given = {name: value for name, value in body.items() if value is not None}
        return cls(given=given, mode=mode, words=words)

    def carry(self, name: str, own: str, value: object, *, received: object = None) -> None:
        """
        Numbers that came as text are read as numbers, where one is due.

        :param name: at the door; :param own: here.
        :param received: what came, if that is not the value itself.
        """
        if isinstance(value, str) and own in NUMBERS:
            value = from_form("inpainting", {own: value.strip()})[own]
        self.values[own] = value
        self.names[own] = name
        if received is not None:
            self.received[own] = received

    def refuse(self, name: str, message: str, *, with_value: bool = True) -> None:
        """:param with_value: whether the answer shows the value; it must not where it may be a secret."""
        value = self.given.get(name)
        received = shown(value) if with_value and value is not None else None
        self.problems.append(Problem(field=name, message=message, received=received, is_text=isinstance(value, str)))

    def refuse_at(self, place: str, message: str) -> None:
        """:param place: within a field; nothing of its value is shown."""
        self.problems.append(Problem(field=place, message=message))

    def check_neutral(self, table: Mapping[str, Neutral]) -> None:
        """Refuses every field of the table that has another value than one that changes nothing."""
        for name, neutral in table.items():
            if name in self.given and not neutral.accepts(self.given[name]):
                self.refuse(name, neutral.message)

    def renamed(self, problems: Iterable[Problem]) -> list[Problem]:
        """The problems in the door's own terms, which those found by the door itself have already."""
        return [found if found in self.problems else self._renamed(found) for found in problems]

    def _renamed(self, found: Problem) -> Problem:
        message = found.message
        # Members of a field have the same names everywhere.
        for own, theirs in self.words if root(found.field) == found.field else ():
            message = message.replace(own, theirs)
        received, is_text = found.received, found.is_text
        if found.field in self.received and received == self.values[found.field]:
            received, is_text = shown(self.received[found.field]), False
        name = self.names.get(found.field, found.field)
        return Problem(field=name, message=message, received=received, is_text=is_text)


def number(value: object) -> object:
    """Text that is a number as that number; anything else unchanged, for the field's own check to refuse."""
    return from_form("txt2img", {"cfg_scale": value.strip()})["cfg_scale"] if isinstance(value, str) else value


def boolean(value: object) -> object:
    """0 and 1, which some programs send, also as text, as what they mean; anything else as it is."""
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), number(value))
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else value


def one_of(*accepted: object) -> Callable[[object], bool]:
    """Whether a value is one of these texts."""
    return lambda value: isinstance(value, str) and value in accepted


def equal_to(*accepted: float) -> Callable[[object], bool]:
    """Whether a value is one of these numbers, also written as text."""

    def accepts(value: object) -> bool:
        read = number(value)
        return isinstance(read, int | float) and not isinstance(read, bool) and read in accepted

    return accepts


def is_false(value: object) -> bool:
    return boolean(value) is False


def is_true(value: object) -> bool:
    return boolean(value) is True


def is_empty(value: object) -> bool:
    """An empty text, list or object."""
    return isinstance(value, str | list | dict) and not value


def ignored_header(names: Collection[str], *, most: int = 40) -> str:
    """``X-Ignored-Fields``: sorted, and never more than a header can hold."""
    return ", ".join(_CUT_ESCAPE.sub("", quote(name[:80], safe="")[:80]) for name in sorted(names)[:most])


_CUT_ESCAPE: Final = re.compile("%.?$")
