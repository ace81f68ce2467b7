"""What becomes of a WebUI whose jobs fail, and of a checkpoint that it cannot load: for how long neither gets a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

#: A WebUI that lost a job is out for this long, twice as long after each further one, up to the longest.
FIRST_OUT_S = 2.0
LONGEST_OUT_S = 60.0
#: Jobs in a row that a WebUI may answer with an error before it is out: the jobs may be to blame.
ANSWERED_ERRORS = 3
#: The longest that such errors can keep a WebUI from everybody, however often somebody sends such jobs.
LONGEST_OUT_AFTER_ANSWERS_S = 5.0
#: After a success no more failures than these are remembered, so that as many successes let all be forgotten.
_REMEMBERED_FAILURES = 3

#: How long a checkpoint is not sent to a WebUI that could paint nothing else either: it may be the WebUI's fault, which
#: somebody mends.
BRIEFLY_S = 30.0
#: And to one that can paint with others, at most: until the WebUI lists other files or was down.
BROKEN_S = 3600.0

#: By WebUI and ``model_name``: until when it is not sent, by the schedule's clock.
Broken = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """
    A WebUI that failed jobs lately. If it were not doubted, one that fails at once would be idle at once, and draw all
    jobs to itself while a good one is busy.

    :param failures: since the last job that succeeded.
    :param until: it gets no job before; after that one at a time, until one succeeds. None: it is not out.
    :param recent: failures, less the jobs that succeeded since; it grows if jobs succeed only now and then.
    :param doubted_until: until then it gets no job that another WebUI could do, even if that one is busy.
    """

    failures: int
    until: float | None
    recent: int = 1
    doubted_until: float = 0.0

    def after_success(self) -> Trouble | None:
        """None if nothing is left of it."""
        recent = min(self.recent, _REMEMBERED_FAILURES) - 1
        return Trouble(failures=0, until=None, recent=recent) if recent > 0 else None

    def by_clock(self, now: float, future_s: float) -> Trouble:
        """Whatever would last longer than anything does comes from a clock that was set back: it is over now."""
        longest = now + LONGEST_OUT_S + future_s
        if self.doubted_until <= longest and (self.until or now) <= longest:
            return self
        until = self.until if (self.until or now) <= longest else now
        return replace(self, until=until, doubted_until=min(self.doubted_until, now))

    def after_pardon(self) -> Trouble | None:
        """Its last doubt was without reason."""
        left = replace(self, recent=self.recent - 1, doubted_until=0.0)
        return left if left.recent > 0 or left.failures else None


def after_failure(before: Trouble | None, *, now: float, answered: bool) -> Trouble:
    """:param answered: see :func:`sd_client.schedule.failed`."""
    failures = 1 if before is None else before.failures + 1
    beyond = failures - (ANSWERED_ERRORS if answered else 1)
    longest_s = LONGEST_OUT_AFTER_ANSWERS_S if answered else LONGEST_OUT_S
    until = now + _growing_s(beyond, longest_s) if beyond >= 0 else None
    return replace(after_doubt(before, now=now), failures=failures, until=until)


def after_doubt(before: Trouble | None, *, now: float) -> Trouble:
    """It could not do what another one perhaps can."""
    before = before or Trouble(failures=0, until=None, recent=0)
    recent = before.recent + 1
    return replace(before, recent=recent, doubted_until=now + _growing_s(recent - 1, LONGEST_OUT_S))


def _growing_s(times: int, longest_s: float) -> float:
    return min(FIRST_OUT_S * 2.0 ** min(times, 10), longest_s)


def with_broken(broken: Broken, webui: str, models: Sequence[str], *, now: float, sure: bool) -> Broken:
    """:param sure: it is the checkpoint, for another model was painted on that WebUI before and after."""
    until = now + (BROKEN_S if sure else BRIEFLY_S)
    return {**broken, webui: {**broken.get(webui, {}), **dict.fromkeys(models, until)}}


def broken_now(broken: Broken, now: float) -> dict[str, frozenset[str]]:
    """``model_name`` of those that are not sent, by WebUI."""
    return {
        webui: frozenset(name for name in models if is_broken(broken, webui, name, now))
        for webui, models in broken.items()
    }


def is_broken(broken: Broken, webui: str, model: str, now: float) -> bool:
    """Whether a checkpoint is not sent to a WebUI. A time too far in the future comes from another clock."""
    return now < broken.get(webui, {}).get(model, 0.0) <= now + BROKEN_S + 1
