"""Writes what is made from ``api/errors.toml``, docs/errors.md and web/titles.js: ``make error-docs``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from api.error_table import ERRORS, ErrorKind

_ROOT = Path(__file__).resolve().parents[1]

_PAGE_HEAD = """\
# Errors

Every failure is `application/problem+json` (RFC 9457); [API](api.md#errors) describes its shape. Its `code` is one of
these, and its `type` leads to the same text on the service itself: `GET /docs/errors`. `retryable` says whether the
same request may succeed later.
"""

_TITLES_HEAD = """\
// Made from api/errors.toml by `make error-docs`: how the page calls each code, and its icon.

export const TITLES = {
"""


def made() -> dict[Path, str]:
    """Each file with its text."""
    return {_ROOT / "docs" / "errors.md": _page(), _ROOT / "web" / "titles.js": _titles()}


def _page() -> str:
    return "\n".join([_PAGE_HEAD, *map(_section, ERRORS.values())])


def _section(error: ErrorKind) -> str:
    return f"""\
## {error.code}

{error.status} · {error.title}

- **Cause.** {error.cause}
- **What to do.** {error.remedy}
- **Try again?** {error.retry}
{_reasons(error.reasons)}"""


def _reasons(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    rows = "\n".join(f"| `{reason}` | {meaning} |" for reason, meaning in reasons.items())
    return f"\n| `reason` | what it means |\n| --- | --- |\n{rows}\n"


def _titles() -> str:
    """Without the codes that nobody reads: the caller has hung up."""
    rows = [
        f'  {error.code}: {{ title: {json.dumps(error.page_title)}, icon: "i-{error.page_icon}" }},\n'
        for error in ERRORS.values()
        if error.page_title
    ]
    return "".join([_TITLES_HEAD, *rows, "};\n"])


if __name__ == "__main__":
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
