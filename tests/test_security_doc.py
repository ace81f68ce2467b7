"""What the security page says is held by a test is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
POINTS = re.findall(r"^\| (API\d+) [^|]+\|([^|]+)\|([^|]+)\|$", PAGE, re.MULTILINE)
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))


def test_every_point_has_an_answer_and_a_test() -> None:
    assert [point for point, _, _ in POINTS] == [f"API{number}" for number in range(1, 11)]
    assert [point for point, answer, tests in POINTS if not answer.strip() or "`tests/" not in tests] == []


@pytest.mark.parametrize("name", NAMED)
def test_every_named_test_is_there(name: str) -> None:
    assert (ROOT / name).is_file()


def test_the_readme_leads_to_it() -> None:
    assert "(docs/security.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
