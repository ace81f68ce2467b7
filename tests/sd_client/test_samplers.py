"""The spelling of samplers and schedulers, against the lists that each kind of server gives."""

from __future__ import annotations

import pytest

from sd_client.models import Capabilities, Checkpoint, Sampler, normal_form
from sd_client.samplers import Spelling, spell

CHECKPOINTS = (Checkpoint(title="m.safetensors", model_name="m"),)


def offering(samplers: tuple[Sampler, ...], schedulers: tuple[Sampler, ...] | None) -> Capabilities:
    return Capabilities(checkpoints=CHECKPOINTS, samplers=samplers, schedulers=schedulers)


def named(*names: str) -> tuple[Sampler, ...]:
    return tuple(Sampler(name=name) for name in names)


#: A1111 1.10.1, Forge, reForge.
A1111 = offering(
    (
        Sampler(name="DPM++ 2M", aliases=("k_dpmpp_2m",)),
        Sampler(name="DPM++ SDE", aliases=("k_dpmpp_sde",)),
        Sampler(name="DPM++ 2M SDE", aliases=("k_dpmpp_2m_sde",)),
        Sampler(name="DPM++ 2S a", aliases=("k_dpmpp_2s_a",)),
        Sampler(name="Euler a", aliases=("k_euler_a", "k_euler_ancestral")),
        Sampler(name="Euler", aliases=("k_euler",)),
        Sampler(name="DPM2", aliases=("k_dpm_2",)),
        Sampler(name="DPM2 a", aliases=("k_dpm_2_a",)),
        Sampler(name="DDIM", aliases=("ddim",)),
    ),
    (
        Sampler(name="automatic", aliases=("Automatic",)),
        Sampler(name="karras", aliases=("Karras",)),
        Sampler(name="sgm_uniform", aliases=("SGM Uniform", "SGMUniform")),
        Sampler(name="kl_optimal", aliases=("KL Optimal",)),
    ),
)
#: A1111 1.6: joined names, no route for schedulers.
OLD_A1111 = offering(named("DPM++ 2M Karras", "DPM++ 2M", "DPM++ 2S a Karras", "Euler a", "Euler"), None)
#: stable-diffusion.cpp's server.
SDCPP = offering(
    named("default", "euler", "euler_a", "dpm2", "dpm++2s_a", "dpm++2m", "dpm++2mv2", "lcm", "ddim_trailing"),
    named("default", "discrete", "karras", "exponential", "sgm_uniform", "kl_optimal"),
)
#: KoboldCpp: an old joined name is an alias of the sampler without its scheduler.
_KOBOLD_SAMPLERS = (
    Sampler(name="default", aliases=("default",)),
    Sampler(name="DPM++ 2M", aliases=("dpm++2m", "k_dpmpp_2m", "DPM++ 2M Karras")),
    Sampler(name="DDIM", aliases=("ddim_trailing", "ddim")),
    Sampler(name="LCM", aliases=("lcm", "k_lcm")),
)
KOBOLDCPP = offering(_KOBOLD_SAMPLERS, named("default", "discrete", "karras", "exponential", "lcm"))
KOBOLDCPP_WITHOUT_SCHEDULERS = offering(_KOBOLD_SAMPLERS, None)
#: SD.Next: no aliases, and what it lists as schedulers are none.
SDNEXT = offering(named("Default", "UniPC", "DPM++ 2M", "Euler", "Euler a"), ())

CASES: list[tuple[str, Capabilities, str | None, str | None, tuple[str | None, str | None] | None]] = [
    ("nothing asked", A1111, None, None, (None, None)),
    ("by name", A1111, "Euler a", None, ("Euler a", None)),
    ("by another spelling", A1111, "euler_a", None, ("Euler a", None)),
    ("without spaces", A1111, "dpm++2m", None, ("DPM++ 2M", None)),
    ("not a longer name", A1111, "DPM2", None, ("DPM2", None)),
    ("ancestral", A1111, "dpm2_a", None, ("DPM2 a", None)),
    ("by alias", A1111, "k_dpmpp_2m", None, ("DPM++ 2M", None)),
    ("by alias, the second", A1111, "k_euler_ancestral", None, ("Euler a", None)),
    ("both", A1111, "Euler", "Karras", ("Euler", "karras")),
    ("a scheduler alone", A1111, None, "karras", (None, "karras")),
    ("a scheduler by its label", A1111, "DDIM", "SGM Uniform", ("DDIM", "sgm_uniform")),
    ("a scheduler by its alias", A1111, "DDIM", "SGMUniform", ("DDIM", "sgm_uniform")),
    ("an old name is split", A1111, "DPM++ 2M Karras", None, ("DPM++ 2M", "karras")),
    ("an old name, the longer sampler", A1111, "DPM++ 2M SDE Karras", None, ("DPM++ 2M SDE", "karras")),
    ("an old name, ancestral", A1111, "DPM++ 2S a Karras", None, ("DPM++ 2S a", "karras")),
    ("an old name in snake case", A1111, "euler_a_karras", None, ("Euler a", "karras")),
    ("an old name, two words of scheduler", A1111, "Euler KL Optimal", None, ("Euler", "kl_optimal")),
    ("an old name by alias", A1111, "k_dpmpp_2m Karras", None, ("DPM++ 2M", "karras")),
    ("an old name and its scheduler", A1111, "DPM++ 2M Karras", "karras", ("DPM++ 2M", "karras")),
    ("an old name and another scheduler", A1111, "DPM++ 2M Karras", "automatic", None),
    ("unknown sampler", A1111, "PLMS", None, None),
    ("unknown sampler, known scheduler", A1111, "PLMS", "karras", None),
    ("unknown scheduler", A1111, "Euler", "beta", None),
    ("unknown scheduler alone", A1111, None, "beta", None),
    ("a scheduler as sampler", A1111, "Karras", None, None),
    ("1.6, joined", OLD_A1111, "DPM++ 2M", "Karras", ("DPM++ 2M Karras", None)),
    ("1.6, joined, ancestral", OLD_A1111, "dpm++2s_a", "karras", ("DPM++ 2S a Karras", None)),
    ("1.6, its own name", OLD_A1111, "DPM++ 2M Karras", None, ("DPM++ 2M Karras", None)),
    ("1.6, sampler alone", OLD_A1111, "DPM++ 2M", None, ("DPM++ 2M", None)),
    ("1.6, no such pair", OLD_A1111, "Euler", "Karras", None),
    ("1.6, scheduler alone", OLD_A1111, None, "Karras", None),
    ("sd.cpp", SDCPP, "Euler a", None, ("euler_a", None)),
    ("sd.cpp, both", SDCPP, "DPM++ 2M", "Karras", ("dpm++2m", "karras")),
    ("sd.cpp, old name", SDCPP, "DPM++ 2M Karras", None, ("dpm++2m", "karras")),
    ("sd.cpp, ancestral", SDCPP, "DPM++ 2S a", "SGM Uniform", ("dpm++2s_a", "sgm_uniform")),
    ("sd.cpp, unknown", SDCPP, "DDIM", None, None),
    ("KoboldCpp, its alias is split", KOBOLDCPP, "DPM++ 2M Karras", None, ("DPM++ 2M", "karras")),
    ("KoboldCpp, in snake case", KOBOLDCPP, "dpm++_2m_karras", None, ("DPM++ 2M", "karras")),
    ("KoboldCpp, its alias and the scheduler", KOBOLDCPP, "DPM++ 2M Karras", "Karras", ("DPM++ 2M", "karras")),
    ("KoboldCpp, its alias and another", KOBOLDCPP, "DPM++ 2M Karras", "exponential", None),
    ("KoboldCpp, by alias", KOBOLDCPP, "ddim_trailing", None, ("DDIM", None)),
    ("KoboldCpp, alias and scheduler", KOBOLDCPP, "k_lcm", "karras", ("LCM", "karras")),
    ("without schedulers, its alias", KOBOLDCPP_WITHOUT_SCHEDULERS, "DPM++ 2M Karras", None, None),
    ("without schedulers, by alias", KOBOLDCPP_WITHOUT_SCHEDULERS, "k_dpmpp_2m", None, ("DPM++ 2M", None)),
    ("SD.Next", SDNEXT, "euler a", None, ("Euler a", None)),
    ("SD.Next, no schedulers", SDNEXT, "Euler a", "Karras", None),
    ("SD.Next, no schedulers to split off", SDNEXT, "DPM++ 2M Karras", None, None),
    ("no lists", offering((), None), None, None, (None, None)),
    ("no lists, a sampler", offering((), None), "Euler", None, None),
]


@pytest.mark.parametrize(
    ("capabilities", "sampler", "scheduler", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_spell(
    capabilities: Capabilities,
    sampler: str | None,
    scheduler: str | None,
    expected: tuple[str | None, str | None] | None,
) -> None:
    wanted = None if expected is None else Spelling(sampler=expected[0], scheduler=expected[1])
    assert spell(capabilities, sampler, scheduler) == wanted


def test_a_name_beats_an_alias() -> None:
    crossed = offering((Sampler(name="A", aliases=("B",)), Sampler(name="B")), None)
    assert spell(crossed, "B", None) == Spelling(sampler="B")


@pytest.mark.parametrize(
    ("one", "other"),
    [("Euler a", "euler_a"), ("DPM++ 2M", "dpm++2m"), ("Karras", "karras"), ("SGM Uniform", "sgm_uniform")],
)
def test_one_form_for_all_spellings(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"), [("Euler", "Euler a"), ("DPM++ 2M", "DPM2"), ("DPM++ 2M", "DPM++ 2M SDE"), ("DPM2", "DPM++ 2")]
)
def test_different_samplers_keep_different_forms(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)
