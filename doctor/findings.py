"""Findings, and their output for people and for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]

#: The exit status of each, as monitoring plugins have it.
STATUS: dict[Level, int] = {"ok": 0, "warning": 1, "error": 2}

_WIDTH = 110


@dataclass(frozen=True, kw_only=True)
class Finding:
    """
    :param level: ``warning``: the service works, but not as it should; ``error``: something of it will not work.
    :param subject: what was checked: ``webui 0``, ``redis``.
    :param text: the fact; never contains a password.
    :param remedy: what to do about it; empty if nothing is wrong.
    """

    level: Level
    subject: str
    text: str
    remedy: str = ""


def ok(subject: str, text: str) -> Finding:
    return Finding(level="ok", subject=subject, text=text)


def warning(subject: str, text: str, remedy: str) -> Finding:
    return Finding(level="warning", subject=subject, text=text, remedy=remedy)


def error(subject: str, text: str, remedy: str) -> Finding:
    return Finding(level="error", subject=subject, text=text, remedy=remedy)


def exit_status(findings: Sequence[Finding]) -> int:
    return max((STATUS[finding.level] for finding in findings), default=0)


def as_json(findings: Sequence[Finding]) -> str:
    worst = {status: level for level, status in STATUS.items()}[exit_status(findings)]
    return json.dumps({"status": worst, "findings": [asdict(finding) for finding in findings]}, indent=2)


def as_text(findings: Sequence[Finding]) -> str:
    """A table for people; each remedy is below its finding."""
    subject_width = max((len(finding.subject) for finding in findings), default=0)
    lines = []
    for finding in findings:
        head = f"{finding.level:7}  {finding.subject:{subject_width}}  "
        lines += _wrapped(finding.text, head)
        lines += _wrapped(f"-> {finding.remedy}", " " * len(head)) if finding.remedy else []
    counts = {level: sum(finding.level == level for finding in findings) for level in STATUS}
    lines += ["", f"errors: {counts['error']}, warnings: {counts['warning']}, in order: {counts['ok']}"]
    return "\n".join(lines)


def _wrapped(text: str, head: str) -> list[str]:
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
