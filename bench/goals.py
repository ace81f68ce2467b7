"""What the project wants to reach, beside what one file of results says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.results_file import Results
from bench.tables import NONE, Table, number
from bench.targets import LITELLM_PROXY, N1, N3, NGINX, SERVICE, STATIC, UPSTREAM, X_ACCEL


@dataclass(frozen=True, kw_only=True)
class Goal:
    """``bound``: at most this, or with ``at_least`` no less. ``measured`` is None where it could not be."""

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
        digits = 2 if self.bound < 10 else 1
        verdict = {True: "met", False: "missed", None: "not measured"}[self.met]
        shown = NONE if self.measured is None else f"{number(self.measured, digits)} {self.unit}"
        return [self.what, f"{sign} {self.bound:g} {self.unit}", shown, verdict]


def table(results: Results) -> Table:
    rows = [goal.row() for goal in goals(results)]
    return Table(title="Goals", header=("what", "goal", "measured", ""), rows=rows)


def goals(results: Results) -> list[Goal]:
    return [*_cpu(results), *_latency(results), *_memory(results), *_overload(results)]


def _cpu(results: Results) -> Iterator[Goal]:
    big, image = "txt2img 1024²", "GET image 1024²"
    yield Goal(what=f"CPU of {big} in that of nginx", bound=4.5, unit="×", measured=results.ratio(big, SERVICE, NGINX))
    for name, bound in ((N1, 60), (N3, 7), (LITELLM_PROXY, 6)):
        measured = results.ratio(big, name, SERVICE)
        yield Goal(what=f"CPU of {big}, less than {name}", bound=bound, measured=measured, unit="×", at_least=True)
    measured = results.ratio("img2img 1024²", N3, SERVICE)
    yield Goal(what=f"CPU of img2img 1024², less than {N3}", bound=4, measured=measured, unit="×", at_least=True)
    measured = results.ratio(image, SERVICE, STATIC)
    yield Goal(what=f"CPU of {image} in that of nginx", bound=3, unit="×", measured=measured)
    measured = results.ratio(image, X_ACCEL, STATIC)
    yield Goal(what=f"CPU of {image} in that of nginx, with X-Accel", bound=2.5, unit="×", measured=measured)


def _latency(results: Results) -> Iterator[Goal]:
    measured = results.added_ms("txt2img 1024²", SERVICE, UPSTREAM)
    yield Goal(what="latency added to txt2img 1024², one client, p50", bound=10, unit="ms", measured=measured)
    for limits, bound in (("in memory", 0.35), ("in Redis", 0.7)):
        measured = results.limiter_ms(limits)
        yield Goal(what=f"rate limits {limits}, per request", bound=bound, unit="ms", measured=measured)


def _memory(results: Results) -> Iterator[Goal]:
    small, batch = results.memory("txt2img 1024²"), results.memory("txt2img 4 × 1024²")
    queued, img2img = results.memory("img2img 1024², in the queue"), results.memory("img2img 1024²")
    for what, bound, row, key in (
        ("RSS per running txt2img", 0.1, small, "waiting_mb_per_job"),
        ("RSS per running img2img of 3.2 MB", 4, img2img, "waiting_mb_per_job"),
        ("RSS per queued img2img of 3.2 MB", 4, queued, "waiting_mb_per_job"),
        ("peak RSS per simultaneous answer of 2 MB", 1, small, "peak_mb_per_job"),
        ("peak RSS per simultaneous answer of 8 MB", 2, batch, "peak_mb_per_job"),
    ):
        yield Goal(what=what, bound=bound, unit="MB", measured=None if row is None else row[key])
    after = None if batch is None else batch["after_mb"] / batch["idle_mb"]
    yield Goal(what="worker's RSS after the bursts, in that of an idle one", bound=2, unit="×", measured=after)


def _overload(results: Results) -> Iterator[Goal]:
    for situation in ("128 callers, 128 places", "256 callers, 128 places", "128 callers, 32 places"):
        row = results.overload(situation)
        measured = None if row is None else row["health_p99_ms"]
        yield Goal(what=f"GET health, p99, with {situation}", bound=15, unit="ms", measured=measured)
    row = results.overload("128 callers, 32 places")
    measured = None if row is None else row["refused_p99_ms"]
    yield Goal(what="refusing the surplus, p99", bound=50, unit="ms", measured=measured)
    measured = None if row is None else row["gpu_share"]
    yield Goal(what="GPU speed under overload", bound=0.95, unit="of full", measured=measured, at_least=True)
