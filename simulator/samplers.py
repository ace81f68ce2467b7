"""Which sampler and scheduler a version makes of the names it is sent."""

from dataclasses import dataclass
from typing import Any

from simulator.errors import HTTPError
from simulator.flavour import Profile

SCHEDULER_DEFAULTS = {"aliases": None, "default_rho": -1.0, "need_inner_model": False}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What is used in the end; `schedule` is what the infotext says, None in versions without schedulers."""

    sampler: str
    schedule: str | None = None
    shown: str | None = None
    """The schedule type that is reported among the extra parameters, unless it is the automatic one."""


class JoinedSamplers:
    """A1111 before 1.9 and SD.Next: names in any case, and no schedulers apart from them."""

    def __init__(self, profile: Profile) -> None:
        aliased = profile.get("joined_names", {}).items()
        self.samplers: list[dict[str, Any]] = [
            {"name": name, "aliases": [alias], "options": {}} for name, alias in aliased
        ]
        self.samplers += [{"name": name, "options": {}} for name in profile.get("plain_names", ())]

    def resolve(self, name: str, _scheduler: str | None) -> Sampling:
        """:raises HTTPError: 404, which must not be read as "no such route"."""
        for one in self.samplers:
            if one["name"].lower() == name.lower():
                return Sampling(sampler=one["name"])
        raise HTTPError(404, "Sampler not found")


class SplitSamplers:
    """A1111 1.9 and later: sampler and scheduler apart, old joined names split, unknown ones replaced in silence."""

    def __init__(self, profile: Profile) -> None:
        self.samplers = [
            {"name": name, "aliases": [alias], "options": options[0] if options else {}}
            for name, (alias, *options) in profile["samplers"].items()
        ]
        self.schedulers = [
            {"name": name, "label": label, **SCHEDULER_DEFAULTS, **(differing[0] if differing else {})}
            for name, (label, *differing) in profile["schedulers"].items()
        ]

    def resolve(self, name: str, scheduler: str | None) -> Sampling:
        """Exact, case-sensitive names; aliases of samplers do not count."""
        found = self._scheduler(scheduler)
        for one in self.schedulers:
            for ending in (one["label"], one["name"], *(one["aliases"] or ())):
                if name.endswith(f" {ending}"):
                    name, found = name.removesuffix(f" {ending}"), one
        sampler = next((one for one in self.samplers if one["name"] == name), self.samplers[0])
        if found["name"] == "automatic":
            found = self._scheduler(sampler["options"].get("scheduler"))
        shown = None if found["name"] == "automatic" else found["label"]
        return Sampling(sampler=sampler["name"], schedule=found["label"], shown=shown)

    def _scheduler(self, name: str | None) -> dict[str, Any]:
        return next((one for one in self.schedulers if name in (one["name"], one["label"])), self.schedulers[0])


Samplers = JoinedSamplers | SplitSamplers
