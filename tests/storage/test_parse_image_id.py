from uuid import UUID

import pytest

from storage import parse_image_id

GOOD = "0b9f1c2d-3e4f-4a5b-8c6d-7e8f90a1b2c3"

HOSTILE = [
    "",
    " ",
    ".",
    "..",
    "/",
    "~",
    "-",
    "None",
    "null",
    "0",
    "%",
    "*",
    "../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/pass",
    "..\\..\\windows\\system32",
    "/etc/passwd",
    "file:///etc/passwd",
    "C:\\autoexec.bat",
    "\0",
    "\n",
    GOOD + "\n",
    GOOD + "\r\n",
    GOOD + " ",
    " " + GOOD,
    "\t" + GOOD,
    "\ufeff" + GOOD,
    GOOD + "\0",
    GOOD + "\0.png",
    GOOD + ".png",
    GOOD + ".json",
    GOOD + "/",
    GOOD + "/..",
    "../" + GOOD,
    "./" + GOOD,
    GOOD[:-4] + "/../",
    GOOD[:-5] + "\n/../",
    "{" + GOOD + "}",
    "(" + GOOD + ")",
    '"' + GOOD + '"',
    "urn:uuid:" + GOOD,
    "uuid:" + GOOD,
    GOOD.replace("-", ""),
    GOOD.replace("-", "_"),
    GOOD.replace("-", "\u2010"),
    GOOD.replace("-", "\u2212"),
    GOOD.replace("-", " "),
    GOOD.replace("-", "", 1) + "-",
    "-" + GOOD.replace("-", "", 1),
    "0b9f1c2-d3e4f-4a5b-8c6d-7e8f90a1b2c3",
    "0b9f-1c2d3e4f-4a5b-8c6d-7e8f90a1b2c3",
    GOOD[:-1],
    GOOD + "0",
    GOOD[:-1] + "g",
    GOOD[:-1] + "\u0663",  # ARABIC-INDIC DIGIT THREE: int() takes it
    GOOD[:-1] + "\uff13",  # FULLWIDTH DIGIT THREE
    GOOD[:-1] + "\uff41",  # FULLWIDTH LATIN SMALL LETTER A
    GOOD[:-1] + "\u0430",  # CYRILLIC SMALL LETTER A
    GOOD[:-1] + "\u200b",
    GOOD[:-1] + "\ud800",
    GOOD[:-2] + "_0",
    "0x" + GOOD[2:],
    "+" + GOOD[1:],
    "-" + GOOD[1:],
    GOOD + "," + GOOD,
    GOOD + "?format=webp",
    GOOD * 10_000,
    "a" * 1_000_000,
]


def test_there_are_enough_hostile_ids() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 40


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_ids_are_no_ids(text: str) -> None:
    assert parse_image_id(text) is None


@pytest.mark.parametrize("text", [GOOD, GOOD.upper(), GOOD.title(), str(UUID(int=0)), str(UUID(int=2**128 - 1))])
def test_the_canonical_form_is_read(text: str) -> None:
    image_id = parse_image_id(text)
    assert isinstance(image_id, UUID)
    assert str(image_id) == text.lower()
