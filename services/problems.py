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
    """

    field: str
    message: str
    received: object = None


class InvalidParamsError(ValueError):
    """The request cannot be carried out as it stands. Sending it again gives the same."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{problem.field}: {problem.message}" for problem in problems))
        self.problems = tuple(problems)


class ModelNotFoundError(InvalidParamsError):
    """The only problem is a model that no WebUI has."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'steps'?"``, or nothing where no name is near."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""
