"""What the project wants to reach, beside what one file of results says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.results_file import Results
from bench.tables import NONE, Table, number
from bench.targets import LITELLM_PROXY, OLDER, OPENAI, SERVICE

#: The most that one request may cost, as a multiple of an older checkout's CPU.
CPU_RATIOS = {
    "txt2img 512²": 0.75,
    "txt2img 1024²": 1.1,
    "img2img 1024²": 1.1,
    "GET image 1024²": 1.0,
    "GET health": 1.0,
}
#: The same of a picture through OpenAI's API, by whom it is compared to.
OPENAI_RATIOS = {SERVICE: 1.15, LITELLM_PROXY: 0.33}
#: Of 50 WebUIs.
BUSY_SHARE = 0.95


@dataclass(frozen=True, kw_only=True)
class Goal:
    """``bound``: at most this, or with ``at_least`` no less. ``measured`` is None where it could not be measured."""

    what: str
    bound: float
    unit: str
    measured: float | None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def row(self) -> list[str]:
        sign = "≥" if self.at_least else "≤"
        verdict = {True: "met", False: "missed", None: "not measured"}[self.met]
        shown = NONE if self.measured is None else f"{number(self.measured, 2)} {self.unit}"
        return [self.what, f"{sign} {self.bound:g} {self.unit}", shown, verdict]


def table(results: Results) -> Table:
    rows = [goal.row() for goal in goals(results)]
    return Table(title="Goals", header=("what", "goal", "measured", ""), rows=rows)


def goals(results: Results) -> list[Goal]:
    older = list(_against_older(results)) if results.start(OLDER) else []
    return [*older, *_openai(results), *_memory(results), *_busy(results)]


def _against_older(results: Results) -> Iterator[Goal]:
    for workload, bound in CPU_RATIOS.items():
        measured = results.ratio(workload, SERVICE, OLDER)
        yield Goal(what=f"CPU of {workload}, against the {OLDER}", bound=bound, unit="×", measured=measured)
    for key, what in (("start_s", "from start to healthy"), ("idle_mb", "RSS of an idle worker")):
        measured = _quotient(results.start(SERVICE), results.start(OLDER), key)
        yield Goal(what=f"{what}, against the {OLDER}", bound=1.0, unit="×", measured=measured)


def _openai(results: Results) -> Iterator[Goal]:
    for other, bound in OPENAI_RATIOS.items():
        measured = results.ratio("txt2img 1024²", OPENAI, other)
        yield Goal(
            what=f"CPU of txt2img 1024² by OpenAI's API, against {other}", bound=bound, unit="×", measured=measured
        )


def _quotient(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None, key: str) -> float | None:
    return None if one is None or other is None else float(one[key]) / float(other[key])


def _memory(results: Results) -> Iterator[Goal]:
    for what, bound, row, key in (
        ("peak RSS per simultaneous answer of 2 MB", 5, "txt2img 1024²", "peak_mb_per_job"),
        ("RSS per running img2img of 3.2 MB", 4, "img2img 1024²", "waiting_mb_per_job"),
        ("RSS per queued img2img of 3.2 MB", 4, "img2img 1024², in the queue", "waiting_mb_per_job"),
    ):
        found = results.memory(row)
        yield Goal(what=what, bound=bound, unit="MB", measured=None if found is None else found[key])


def _busy(results: Results) -> Iterator[Goal]:
    for redis in ("", ", Redis"):
        row = results.overload(f"50 WebUIs{redis}")
        measured = None if row is None else row["busy_share"]
        what = f"share of time in which 50 WebUIs are busy{redis}"
        yield Goal(what=what, bound=BUSY_SHARE, unit="of it", measured=measured, at_least=True)
    row = results.overload("128 callers, 32 places")
    for key, what, bound in (("health_p99_ms", "GET health", 15), ("refused_p99_ms", "refusing the surplus", 50)):
        measured = None if row is None else row[key]
        yield Goal(what=f"{what}, p99, 128 callers, 32 places", bound=bound, unit="ms", measured=measured)
