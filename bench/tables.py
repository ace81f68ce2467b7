"""Tables as text for a terminal, and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def as_text(table: Table) -> str:
    """The first column to the left, the others, which are numbers, to the right; an empty row is a line."""
    lines = [table.header, *(row for row in table.rows if row)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    shown = [_aligned(row, widths) if row else rule for row in (table.header, (), *table.rows)]
    return "\n".join([table.title, "", *shown, ""]) + "\n"


def as_markdown(table: Table) -> str:
    rule = [" --- ", *[" ---: "] * (len(table.header) - 1)]
    lines = ["| " + " | ".join(row) + " |" for row in (table.header, *table.rows) if row]
    lines.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join([f"**{table.title}**", "", *lines, ""])


def number(value: float | None, digits: int = 1) -> str:
    """With as many decimals as make sense at its size."""
    if value is None:
        return NONE
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")  # a narrow space, which no line breaks at
    return f"{value:.{digits if abs(value) < 100 else 0}f}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = [
        word.ljust(width) if column == 0 else word.rjust(width)
        for column, (word, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join([first, *others]).rstrip()
