from __future__ import annotations

import time

import pytest

from state.beats import until_beat


@pytest.mark.parametrize(
    ("now", "phase_s", "expected"),
    [(100.0, 0.0, 5.0), (101.0, 0.0, 4.0), (104.75, 0.0, 0.25), (101.0, 2.0, 1.0), (101.0, 7.0, 1.0)],
)
def test_the_next_beat(now: float, phase_s: float, expected: float) -> None:
    assert until_beat(5.0, now=now, phase_s=phase_s) == expected


def test_whoever_waits_arrives_on_a_beat() -> None:
    after_s = until_beat(0.5)
    assert 0 < after_s <= 0.5
    late_s = (time.monotonic() + after_s) % 0.5
    assert late_s < 0.4  # the two clock readings are hardly apart
