"""For how long a checkpoint is not sent to a WebUI that could not paint with it."""

from __future__ import annotations

import pytest

from sd_client.failures import BRIEFLY_S, BROKEN_S, broken_now, with_broken
from sd_client.schedule import Schedule, broke, mended, painted_with
from sd_client.shared_schedule import ScheduleJson


@pytest.mark.parametrize(("sure", "for_s"), [(True, BROKEN_S), (False, BRIEFLY_S)])
def test_it_is_not_sent_for_a_while(sure: bool, for_s: float) -> None:
    broken = with_broken({}, "a", ["vae"], now=100.0, sure=sure)
    assert broken_now(broken, 100.0 + for_s - 0.1) == {"a": {"vae"}}
    assert broken_now(broken, 100.0 + for_s) == {"a": frozenset()}


def test_a_clock_that_was_set_back_keeps_none_away() -> None:
    broken = with_broken({}, "a", ["vae"], now=10_000.0, sure=True)
    assert broken_now(broken, 100.0) == {"a": frozenset()}


def test_each_webui_has_its_own() -> None:
    schedule = broke(Schedule(), "a", ["vae"], now=0.0, sure=True)
    schedule = broke(schedule, "a", ["unet"], now=1.0, sure=False)
    schedule = broke(schedule, "b", ["vae"], now=1.0, sure=True)
    assert broken_now(schedule.broken, 2.0) == {"a": {"vae", "unet"}, "b": {"vae"}}
    assert broken_now(mended(schedule, "a").broken, 2.0) == {"b": {"vae"}}
    assert mended(schedule, "c") == schedule


def test_it_is_stored_with_the_schedule() -> None:
    schedule = broke(painted_with(Schedule(), "a", "good"), "a", ["vae"], now=0.0, sure=True)
    assert ScheduleJson().load(ScheduleJson().dump(schedule)) == schedule
