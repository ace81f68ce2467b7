"""The fewest steps that a sampler can do, from what its WebUI lists; what may be another server is refused nothing."""

from __future__ import annotations

from typing import Any

import pytest

from sd_client.models import Capabilities, Sampler
from sd_client.samplers import Spelling, enough_steps, with_fewest_steps
from simulator.flavour import load_profile
from tests.sd_client.jobs import CAPABILITIES

NAMES = {name: alias for name, (alias, *_) in load_profile("a1111")["samplers"].items()}
SAMPLERS = tuple(Sampler(name=name, aliases=(alias,)) for name, alias in NAMES.items())
A1111 = tuple(Sampler(name=name) for name in load_profile("a1111")["schedulers"])
FORGE = tuple(Sampler(name=name) for name in load_profile("forge")["schedulers"])


def fewest(
    samplers: tuple[Sampler, ...] = SAMPLERS,
    schedulers: tuple[Sampler, ...] = A1111,
    options: dict[str, Any] | None = None,
) -> dict[str, tuple[int, int]]:
    """Of the samplers that do not do everything."""
    found = with_fewest_steps(samplers, schedulers, options or {})
    seen = {one.name: (one.fewest_steps, one.fewest_img2img_steps) for one in found}
    return {name: steps for name, steps in seen.items() if steps != (1, 0)}


ANY_SERVER = {"UniPC": (3, 3), "DPM fast": (1, 1), "DPM adaptive": (1, 1)}
ONLY_A1111 = {"DPM++ 2M SDE": (2, 1), "DPM++ 2M SDE Heun": (2, 1), "DPM++ 3M SDE": (2, 1)}


def test_a1111_and_forge() -> None:
    assert fewest() == ANY_SERVER | ONLY_A1111
    assert fewest(schedulers=FORGE) == ANY_SERVER
    assert fewest(schedulers=()) == ANY_SERVER, "whose they are cannot be told now"


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"uni_pc_order": 2}, {"UniPC": (2, 2)}),
        ({"uni_pc_order": "3"}, {}),
        ({"uni_pc_order": 0}, {}),
    ],
)
def test_the_operators_order(options: dict[str, Any], changed: dict[str, tuple[int, int]]) -> None:
    assert fewest(options=options) == ANY_SERVER | ONLY_A1111 | changed


def test_options_with_which_they_do_not_fail() -> None:
    assert "DPM fast" not in fewest(options={"eta_ancestral": 0})
    fixed = fewest(options={"img2img_fix_steps": True})
    assert {img2img for _, img2img in fixed.values()} == {0}
    assert fixed["UniPC"] == (3, 0)


def test_other_servers_are_refused_nothing() -> None:
    assert fewest(tuple(Sampler(name=name) for name in NAMES)) == {}, "SD.Next lists no aliases"
    names = load_profile("a1111-1.6")["joined_names"]
    old = tuple(Sampler(name=name, aliases=(alias,)) for name, alias in names.items())
    assert set(fewest(old, schedulers=())) == set(ANY_SERVER)


@pytest.mark.parametrize(
    ("steps", "strength", "hires", "enough"),
    [
        *((1, None, None, False), (2, None, None, False), (3, None, None, True)),
        *((4, 0.0, None, False), (4, 0.5, None, False), (4, 1.0, None, True)),
        *((3, None, 3, False), (9, None, 3, False), (3, None, 4, True), (2, None, 9, False)),
    ],
)
def test_enough(steps: int, strength: float | None, hires: int | None, enough: bool) -> None:
    listed = Capabilities(
        checkpoints=CAPABILITIES.checkpoints, samplers=with_fewest_steps(SAMPLERS, A1111, {}), schedulers=A1111
    )
    job = {"steps": steps, "strength": strength, "hires_steps": hires}
    assert enough_steps(listed, Spelling(sampler="UniPC"), **job) == enough
    assert enough_steps(listed, Spelling(sampler="Euler"), **job)
    assert enough_steps(listed, Spelling(), **job)


def test_a_second_pass_does_all_its_steps() -> None:
    """As seen on A1111: also with the option by which img2img does all of them."""
    for options in ({}, {"img2img_fix_steps": True}):
        seen = {one.name: one.fewest_hires_steps for one in with_fewest_steps(SAMPLERS, A1111, options)}
        few = {"UniPC": 4, **dict.fromkeys(("DPM fast", "DPM adaptive", *ONLY_A1111), 2)}
        assert {name: steps for name, steps in seen.items() if steps != 1} == few
