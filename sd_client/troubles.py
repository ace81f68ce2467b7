"""What becomes of a WebUI whose jobs fail: how long it gets none, or none that another WebUI could do."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: A WebUI that lost a job is out for this long, twice as long after each further one, up to the longest.
FIRST_OUT_S = 2.0
LONGEST_OUT_S = 60.0
#: Jobs that a WebUI answered, but with an error, one after another, before it is out: the jobs may be to blame.
ANSWERED_ERRORS = 3
#: And the longest that this can cost the others, whoever sends such jobs however often.
LONGEST_OUT_AFTER_ANSWERS_S = 5.0
#: After a success no more failures than these are remembered, so that as many successes let all be forgotten.
_REMEMBERED_FAILURES = 3


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """
    A WebUI that failed jobs lately. Without doubts, whoever fails at once would be idle at once, and draw all jobs to
    itself while a good one is busy.

    :param failures: since the last job that succeeded.
    :param until: it gets no job before; after that one at a time, until one succeeds. None: it is not out.
    :param recent: failures, less the jobs that succeeded since; it grows where jobs succeed now and then only.
    :param doubted_until: before that it gets no job that a WebUI without doubts could do, though that may be busy.
    """

    failures: int
    until: float | None
    recent: int = 1
    doubted_until: float = 0.0

    def after_success(self) -> Trouble | None:
        """None where nothing is left of it."""
        recent = min(self.recent, _REMEMBERED_FAILURES) - 1
        return Trouble(failures=0, until=None, recent=recent) if recent > 0 else None

    def by_clock(self, now: float, future_s: float) -> Trouble:
        """What would last longer than anything does is of a clock that was set back: it is over now."""
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
