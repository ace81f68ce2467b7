"""What a WebUI has left out counts against it for jobs that ask for the like, in all processes, for a while."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sd_client.drops import Drops
from sd_client.errors import InvalidReason
from sd_client.models import Hires, Lora, Reference
from sd_client.trials import FAILED_S, Trials
from state.sqlite import STATE_FILE, SqliteStore
from tests.clock import Clock
from tests.sd_client.jobs import job

ASKED: dict[InvalidReason, dict[str, Any]] = {
    "lora_dropped": {"loras": (Lora(name="tiny", weight=1.0),)},
    "wrong_upscaler": {"hires": Hires(width=128, height=128, upscaler="Latent", steps=5, strength=0.6)},
    "wrong_clip_skip": {"clip_skip": 2},
    "reference_dropped": {"reference": Reference(pictures={}, weight=0.8)},
}


@pytest.mark.parametrize("reason", ASKED)
def test_jobs_that_ask_for_the_like(tmp_path: Path, reason: InvalidReason) -> None:
    clock = Clock()
    with closing(SqliteStore(tmp_path / STATE_FILE)) as store:
        here, there = (Drops(Trials(store, "drop", start_of=lambda webui: "its start", now=clock)) for _ in "ab")
        here.add("w", reason)
        for other, changes in ASKED.items():
            params = job(**changes)
            assert params.has_extras
            assert there.lately(params) == ({"w"} if other == reason else set())
        assert there.lately(job()) == set()
        assert not job().has_extras
        clock.now += FAILED_S
        assert there.lately(job(**ASKED[reason])) == set()
