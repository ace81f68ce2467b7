"""What fuzzing has found is played again: `make fuzz` looks for more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.seeds import SEEDS_OF
from tests.fuzz.targets import TARGETS

CASES = sorted(path for path in (Path(__file__).parent / "fuzz" / "cases").rglob("*") if path.is_file())


def test_every_target_has_cases() -> None:
    assert {case.parent.name for case in CASES} == TARGETS.keys() == SEEDS_OF.keys()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_case(case: Path) -> None:
    TARGETS[case.parent.name](case.read_bytes())


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_what_fuzzing_begins_with(target: str) -> None:
    for seed in SEEDS_OF[target]:
        TARGETS[target](seed)
