"""What a WebUI has left out counts against it for jobs that ask for the like, and for a while."""

from __future__ import annotations

from typing import Any

import pytest

from sd_client.drops import SHUNNED_S, Drops
from sd_client.errors import InvalidReason
from sd_client.models import Hires, Lora, Reference
from tests.sd_client.jobs import job

ASKED: dict[InvalidReason, dict[str, Any]] = {
    "lora_dropped": {"loras": (Lora(name="tiny", weight=1.0),)},
    "wrong_upscaler": {"hires": Hires(width=128, height=128, upscaler="Latent", steps=5, strength=0.6)},
    "wrong_clip_skip": {"clip_skip": 2},
    "reference_dropped": {"reference": Reference(pictures={}, weight=0.8)},
}


@pytest.mark.parametrize("reason", ASKED)
def test_jobs_that_ask_for_the_like(reason: InvalidReason) -> None:
    now = [1000.0]
    drops = Drops(clock=lambda: now[0])
    drops.add("w", reason)
    for other, changes in ASKED.items():
        params = job(**changes)
        assert params.has_extras
        assert drops.lately("w", params) == (other == reason)
        assert not drops.lately("another", params)
    assert not drops.lately("w", job())
    assert not job().has_extras
    now[0] += SHUNNED_S
    assert not drops.lately("w", job(**ASKED[reason]))
