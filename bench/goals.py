"""What the project wants to reach, beside what one file of results says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.results_file import Results, quotient
from bench.tables import NONE, Table, number
from bench.targets import LITELLM_PROXY, OPENAI, SERVICE, build

#: The most that one request may cost, as a multiple of an older build's CPU, by the commit of that build.
CPU_RATIOS: Mapping[str, Mapping[str, float]] = {
    "85dd92f": {
        "txt2img 512²": 0.75,
        "txt2img 1024²": 1.1,
        "img2img 1024²": 1.1,
        "GET image 1024²": 1.0,
        "GET health": 1.0,
    },
    "c0e2bf9": {
        "inpainting 1024²": 0.5,
        "inpainting 1024², nothing kept": 0.6,
        "inpainting of a 12 MP photo": 0.5,
        "img2img 1024²": 0.7,
    },
}
#: The same of what a start shows, by the key of its row.
START_RATIOS: Mapping[str, Mapping[str, float]] = {
    "85dd92f": {"start_s": 1.0, "idle_mb": 1.0},
    "c0e2bf9": {"pss_mb": 0.85},
}
START_KEYS = {
    "start_s": "from start to healthy",
    "idle_mb": "RSS of an idle worker",
    "pss_mb": "PSS of two idle workers and their master",
}
#: The same of the CPU a second that an idle service takes before so many WebUIs: by the commit, how many WebUIs are
#: before this service and how many before that build.
IDLE_RATIOS: Mapping[str, Mapping[tuple[int, int], float]] = {"c0e2bf9": {(16, 16): 0.25, (200, 16): 1.0}}
#: Of a picture through OpenAI's API, by whom it is compared to.
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
    return [*_cpu(results), *_starts(results), *_idle(results), *_openai(results), *_memory(results), *_busy(results)]


def _cpu(results: Results) -> Iterator[Goal]:
    for commit, bounds in CPU_RATIOS.items():
        for workload, bound in bounds.items():
            measured = results.ratio(workload, SERVICE, build(commit))
            yield Goal(what=f"CPU of {workload}, against {build(commit)}", bound=bound, unit="×", measured=measured)


def _starts(results: Results) -> Iterator[Goal]:
    for commit, bounds in START_RATIOS.items():
        for key, bound in bounds.items():
            measured = quotient(results.start(SERVICE), results.start(build(commit)), key)
            what = f"{START_KEYS[key]}, against {build(commit)}"
            yield Goal(what=what, bound=bound, unit="×", measured=measured)


def _idle(results: Results) -> Iterator[Goal]:
    for commit, bounds in IDLE_RATIOS.items():
        for (webuis, theirs), bound in bounds.items():
            mine, other = results.idle(webuis, SERVICE), results.idle(theirs, build(commit))
            what = f"CPU of an idle service before {webuis} WebUIs, against {build(commit)} before {theirs}"
            yield Goal(what=what, bound=bound, unit="×", measured=quotient(mine, other, "cpu_ms_per_s"))


def _openai(results: Results) -> Iterator[Goal]:
    for other, bound in OPENAI_RATIOS.items():
        measured = results.ratio("txt2img 1024²", OPENAI, other)
        yield Goal(
            what=f"CPU of txt2img 1024² by OpenAI's API, against {other}", bound=bound, unit="×", measured=measured
        )


def _memory(results: Results) -> Iterator[Goal]:
    for what, bound, row, key in (
        ("peak RSS per simultaneous answer of 2 MB", 5, "txt2img 1024²", "peak_mb_per_job"),
        ("RSS per running img2img of 3.2 MB", 4, "img2img 1024²", "waiting_mb_per_job"),
        ("RSS per queued img2img of 3.2 MB", 4, "img2img 1024², in the queue", "waiting_mb_per_job"),
        (
            "RSS per queued inpainting of a 12 MP photo",
            6,
            "inpainting of a 12 MP photo, in the queue",
            "waiting_mb_per_job",
        ),
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
