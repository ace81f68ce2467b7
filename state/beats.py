"""
When whatever recurs is due: on the beats of a clock that all processes of the host share, so that an idle service wakes
for all of it at the same moments. A thread that wakes alone finds nothing in the processor's caches.
"""

from __future__ import annotations

import time


def until_beat(period_s: float, *, now: float | None = None, phase_s: float = 0.0) -> float:
    """
    Seconds until the next beat: more than 0, and ``period_s`` at most.

    :param now: by ``time.monotonic``, if another moment than now.
    :param phase_s: how much later than the other beats of this period it is.
    """
    return period_s - ((time.monotonic() if now is None else now) - phase_s) % period_s
