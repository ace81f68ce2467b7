"""What is wrong with a request, field by field."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """
    :param message: what is accepted, as a phrase after the field's name: "must be between 1 and 150".
    :param received: what came, short enough to be shown; None where showing it says nothing.
    :param is_text: ``received`` is a text as it came, not words about what came.
    """

    field: str
    message: str
    received: object = None
    is_text: bool = False


class InvalidParamsError(ValueError):
    """The request cannot be carried out as it stands. Sending it again gives the same."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = tuple(problems)


class ModelNotFoundError(InvalidParamsError):
    """The only problem is a model that no WebUI has."""


class CapabilityMissingError(InvalidParamsError):
    """The only problem is something that no WebUI of the pool can do."""


#: A list in a message ends here; the whole one is at GET options.
_MOST_NAMES = 20


def known_names(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    shown = ", ".join(names[:_MOST_NAMES])
    return shown + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """
    ``"; did you mean 'steps'?"``, or nothing where no name is near.

    :param cutoff: how alike the names must be, 0 … 1 (difflib's ratio).
    """
    by_lower = {candidate.lower(): candidate for candidate in known if candidate != name}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""
