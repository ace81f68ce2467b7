"""The French pages say what the English ones say, as far as it can be counted: none is changed without the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.running import ROOT

DOCS = ROOT / "docs"
FRENCH = DOCS / "fr"
PAGES = sorted(str(path.relative_to(FRENCH)) for path in FRENCH.rglob("*.md"))

_BLOCK = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What is for people within code: the only part that is in the page's language.
_COMMENT = re.compile(r"\s*(?:#|//) .*")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Language or title, and lines without comments, of each piece of code."""
    return [
        (kind, [bare for line in code.splitlines() if (bare := _COMMENT.sub("", line))])
        for kind, code in _BLOCK.findall(text)
    ]


def outline(text: str) -> list[str]:
    """Headings with their level, rows of tables, entries of lists and pictures, in their order."""
    return re.findall(r"^(?:#+|\||\*(?= )|-(?= )|\d+\.(?= )|!(?=\[))", _BLOCK.sub("", text), re.MULTILINE)


def targets(page: Path) -> list[Path]:
    """What a page links to within the documentation."""
    links = [link.partition("#")[0] for link in _LINK.findall(_BLOCK.sub("", page.read_text(encoding="utf-8")))]
    return [(page.parent / link).resolve() for link in links if link and "://" not in link]


def test_every_guide_is_there_in_french() -> None:
    guides = {str(path.relative_to(DOCS)) for path in (DOCS / "guides").glob("*.md")}
    assert set(PAGES) == guides | {"quickstart.md"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_same_code_and_the_same_parts(page: str) -> None:
    english, french = ((folder / page).read_text(encoding="utf-8") for folder in (DOCS, FRENCH))
    assert outline(french) == outline(english)
    assert blocks(french) == blocks(english)
    assert outline(french)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_leads_to_the_same_places(page: str) -> None:
    """In French where there is a page for it; and each version leads to the other."""
    english, french = targets(DOCS / page), targets(FRENCH / page)
    assert [path for path in french if path in english and path.relative_to(DOCS).as_posix() in PAGES] == []
    assert (FRENCH / page).resolve() == english[0]
    assert (DOCS / page).resolve() == french[0]
    meant = [FRENCH / path.relative_to(DOCS) if str(path.relative_to(DOCS)) in PAGES else path for path in english[1:]]
    assert set(french[1:]) >= set(meant)


def test_the_readme_has_the_same_code() -> None:
    english, french = (blocks((ROOT / name).read_text(encoding="utf-8")) for name in ("README.md", "README.fr.md"))
    assert french
    assert [block for block in french if block not in english] == []
