"""What a caller wants of the pool, and for how long it waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sd_client.models import Course, GenerationParams

#: How often the caller is asked whether it still wants the picture.
CHECK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Order:
    """
    Times are seconds of the pool's clock; ``since`` is of the schedule's.

    :param task_id: what the WebUI calls the job.
    :param request: what its caller can ask for it by; "" where nobody can.
    :param since: when it began to wait.
    :param wait_until: how long it may wait for a WebUI.
    :param run_s: seconds it may run on one.
    :param ends: when its caller leaves at the latest.
    :param check: called every :data:`CHECK_S`; what it raises ends the job.
    :param course: where it is noted how the job goes.
    """

    params: GenerationParams
    task_id: str
    request: str
    since: float
    wait_until: float
    run_s: float
    ends: float
    check: Callable[[], None]
    course: Course
