"""Every error code of the API, with all that is said about it: the rows of ``errors.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

_FILE = Path(__file__).with_name("errors.toml")

_USUAL_RETRY = {True: "Yes, after the seconds in `Retry-After`.", False: "No. The same request gets the same answer."}


@dataclass(frozen=True, kw_only=True)
class ErrorKind:
    """One error code. ``errors.toml`` says at its beginning what each field means."""

    code: str
    status: int
    title: str
    retryable: bool | Literal["sometimes"]
    cause: str
    remedy: str
    retry: str
    operations: tuple[str, ...]
    detail: str = ""
    example: str = ""
    example_errors: tuple[Mapping[str, object], ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    page_title: str = ""
    page_icon: Literal["alert", "off", "clock"] = "alert"
    by_proxy: bool = False

    def __post_init__(self) -> None:
        """:raises ValueError: the answer would be unclear."""
        word = self.retry.split()[0].strip(".,:")
        if {True: "Yes", False: "No", "sometimes": "Sometimes"}[self.retryable] != word:
            raise ValueError(
                f"{_FILE.name}: retry of {self.code} begins with {word}, but retryable is {self.retryable}"
            )


def read_error_table(path: Path = _FILE) -> Mapping[str, ErrorKind]:
    """
    The kinds by their codes, in the file's order.

    :raises TypeError: a row lacks a field, or has an unknown one.
    :raises ValueError: a row contradicts itself.
    """
    rows = tomllib.loads(path.read_text(encoding="utf-8"))
    kinds = [_kind(code, row) for code, row in rows.items()]
    if kinds != sorted(kinds, key=lambda kind: kind.status):
        raise ValueError(f"{path.name}: the rows are not in the order of their statuses")
    return {kind.code: kind for kind in kinds}


def _kind(code: str, row: dict[str, Any]) -> ErrorKind:
    usual = _USUAL_RETRY.get(row.get("retryable", ""))
    return ErrorKind(code=code, **({"retry": usual} if usual else {}) | row)


#: Read once, when the service starts.
ERRORS: Final = read_error_table()
