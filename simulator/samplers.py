"""Samplers and schedulers by version, and what becomes of a name nobody knows."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from simulator.errors import HTTPError


@dataclass(frozen=True)
class Sampler:
    """One sampler as /sdapi/v1/samplers shows it."""

    name: str
    alias: str
    options: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"name": self.name, "aliases": [self.alias], "options": self.options}


@dataclass(frozen=True)
class Scheduler:
    """One scheduler as /sdapi/v1/schedulers shows it."""

    name: str
    label: str
    aliases: tuple[str, ...] = ()
    default_rho: float = -1.0
    need_inner_model: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "label": self.label,
            "aliases": list(self.aliases) or None,
            "default_rho": self.default_rho,
            "need_inner_model": self.need_inner_model,
        }


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What is used in the end; `schedule` is what the infotext says, None in versions without schedulers."""

    sampler: str
    schedule: str | None
    shown: str | None = None
    """The schedule type that is reported among the extra parameters, unless it is the automatic one."""


class SamplerTable(ABC):
    """How a version reads sampler_name, sampler_index and scheduler."""

    samplers: tuple[Sampler, ...]
    schedulers: tuple[Scheduler, ...]

    @abstractmethod
    def resolve(self, name: str, scheduler: str | None) -> Sampling:
        """:raises HTTPError: the version refuses unknown names."""


KARRAS = {"scheduler": "karras"}
SECOND = {"second_order": "True"}
ENSD = {"uses_ensd": "True"}
BROWNIAN = {"brownian_noise": "True"}
DISCARD = {"discard_next_to_last_sigma": "True"}
EXPONENTIAL = {"scheduler": "exponential"}

SAMPLERS_1_10 = (
    Sampler("DPM++ 2M", "k_dpmpp_2m", KARRAS),
    Sampler("DPM++ SDE", "k_dpmpp_sde", KARRAS | SECOND | BROWNIAN),
    Sampler("DPM++ 2M SDE", "k_dpmpp_2m_sde", EXPONENTIAL | BROWNIAN),
    Sampler("DPM++ 2M SDE Heun", "k_dpmpp_2m_sde_heun", EXPONENTIAL | BROWNIAN | {"solver_type": "heun"}),
    Sampler("DPM++ 2S a", "k_dpmpp_2s_a", KARRAS | ENSD | SECOND),
    Sampler("DPM++ 3M SDE", "k_dpmpp_3m_sde", EXPONENTIAL | DISCARD | BROWNIAN),
    Sampler("Euler a", "k_euler_a", ENSD),
    Sampler("Euler", "k_euler"),
    Sampler("LMS", "k_lms"),
    Sampler("Heun", "k_heun", SECOND),
    Sampler("DPM2", "k_dpm_2", KARRAS | DISCARD | SECOND),
    Sampler("DPM2 a", "k_dpm_2_a", KARRAS | DISCARD | ENSD | SECOND),
    Sampler("DPM fast", "k_dpm_fast", ENSD),
    Sampler("DPM adaptive", "k_dpm_ad", ENSD),
    Sampler("Restart", "restart", KARRAS | SECOND),
    Sampler("DDIM", "ddim"),
    Sampler("DDIM CFG++", "ddim_cfgpp"),
    Sampler("PLMS", "plms"),
    Sampler("UniPC", "unipc"),
    Sampler("LCM", "k_lcm"),
)

SCHEDULERS_1_10 = (
    Scheduler("automatic", "Automatic"),
    Scheduler("uniform", "Uniform", need_inner_model=True),
    Scheduler("karras", "Karras", default_rho=7.0),
    Scheduler("exponential", "Exponential"),
    Scheduler("polyexponential", "Polyexponential", default_rho=1.0),
    Scheduler("sgm_uniform", "SGM Uniform", aliases=("SGMUniform",), need_inner_model=True),
    Scheduler("kl_optimal", "KL Optimal"),
    Scheduler("align_your_steps", "Align Your Steps"),
    Scheduler("simple", "Simple", need_inner_model=True),
    Scheduler("normal", "Normal", need_inner_model=True),
    Scheduler("ddim", "DDIM", need_inner_model=True),
    Scheduler("beta", "Beta", need_inner_model=True),
)


class SplitSamplers(SamplerTable):
    """1.10: sampler and scheduler apart, old joined names split, unknown ones replaced without a word."""

    def __init__(
        self,
        samplers: tuple[Sampler, ...] = SAMPLERS_1_10,
        schedulers: tuple[Scheduler, ...] = SCHEDULERS_1_10,
    ) -> None:
        self.samplers = samplers
        self.schedulers = schedulers

    def resolve(self, name: str, scheduler: str | None) -> Sampling:
        """Exact, case-sensitive names; aliases of samplers do not count."""
        found = self._scheduler(scheduler)
        for one in self.schedulers:
            for ending in (one.label, one.name, *one.aliases):
                if name.endswith(f" {ending}"):
                    name, found = name.removesuffix(f" {ending}"), one
        sampler = next((one for one in self.samplers if one.name == name), self.samplers[0])
        if found.name != "automatic":
            return Sampling(sampler=sampler.name, schedule=found.label, shown=found.label)
        own = next((one for one in self.schedulers if one.name == sampler.options.get("scheduler")), None)
        if own is None:
            return Sampling(sampler=sampler.name, schedule=found.label)
        return Sampling(sampler=sampler.name, schedule=own.label, shown=own.label)

    def _scheduler(self, name: str | None) -> Scheduler:
        return next((one for one in self.schedulers if name in (one.name, one.label)), self.schedulers[0])


SAMPLERS_1_6 = (
    Sampler("DPM++ 2M Karras", "k_dpmpp_2m_ka", KARRAS),
    Sampler("DPM++ SDE Karras", "k_dpmpp_sde_ka", KARRAS | SECOND | BROWNIAN),
    Sampler("DPM++ 2M SDE Exponential", "k_dpmpp_2m_sde_exp", EXPONENTIAL | BROWNIAN),
    Sampler("DPM++ 2M SDE Karras", "k_dpmpp_2m_sde_ka", KARRAS | BROWNIAN),
    Sampler("Euler a", "k_euler_a", ENSD),
    Sampler("Euler", "k_euler"),
    Sampler("LMS", "k_lms"),
    Sampler("Heun", "k_heun", SECOND),
    Sampler("DPM2", "k_dpm_2", DISCARD),
    Sampler("DPM2 a", "k_dpm_2_a", DISCARD | ENSD),
    Sampler("DPM++ 2S a", "k_dpmpp_2s_a", ENSD | SECOND),
    Sampler("DPM++ 2M", "k_dpmpp_2m"),
    Sampler("DPM++ SDE", "k_dpmpp_sde", SECOND | BROWNIAN),
    Sampler("DPM++ 2M SDE", "k_dpmpp_2m_sde_ka", BROWNIAN),
    Sampler("DPM fast", "k_dpm_fast", ENSD),
    Sampler("DPM adaptive", "k_dpm_ad", ENSD),
    Sampler("LMS Karras", "k_lms_ka", KARRAS),
    Sampler("DPM2 Karras", "k_dpm_2_ka", KARRAS | DISCARD | ENSD | SECOND),
    Sampler("DPM2 a Karras", "k_dpm_2_a_ka", KARRAS | DISCARD | ENSD | SECOND),
    Sampler("DPM++ 2S a Karras", "k_dpmpp_2s_a_ka", KARRAS | ENSD | SECOND),
    Sampler("Restart", "restart", KARRAS | SECOND),
    Sampler("DDIM", "ddim"),
    Sampler("PLMS", "plms"),
    Sampler("UniPC", "unipc"),
)


class JoinedSamplers(SamplerTable):
    """Up to 1.8: the scheduler is part of the sampler's name, and an unknown name is a 404."""

    samplers: tuple[Sampler, ...] = SAMPLERS_1_6
    schedulers: tuple[Scheduler, ...] = ()

    def resolve(self, name: str, scheduler: str | None) -> Sampling:
        """Exact names only.

        :raises HTTPError: 404, which must not be read as "no such route".
        """
        if all(one.name != name for one in self.samplers):
            raise HTTPError(404, "Sampler not found")
        return Sampling(sampler=name, schedule=None)
