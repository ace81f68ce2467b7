"""Writes docs/errors.md from the table that /docs/errors is made from: ``.venv/bin/python -m tools.error_docs``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from api.error_guide import Entry, entries

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"

_HEAD = """\
# Errors

Every failure is `application/problem+json` (RFC 9457); its shape is in [API](api.md#errors). Its `code` is one of
these, and its `type` leads to the same text on the service itself: `GET /docs/errors`. `retryable` says whether the
same request may succeed later.
"""


def page() -> str:
    """The whole of docs/errors.md."""
    return "\n".join([_HEAD, *map(_section, entries())])


def _section(entry: Entry) -> str:
    advice = entry.advice
    return f"""\
## {entry.code}

{entry.status} · {entry.title}

- **Cause.** {advice.cause}
- **What to do.** {advice.remedy}
- **Try again?** {advice.retry}
{_reasons(advice.reasons)}"""


def _reasons(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    rows = "\n".join(f"| `{reason}` | {meaning} |" for reason, meaning in reasons.items())
    return f"\n| `reason` | what it means |\n| --- | --- |\n{rows}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
