"""A job on the WebUI that it was granted, while its caller waits beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotYet

from sd_client import schedule
from sd_client.errors import JobCancelledError, LimitError, QueueUnavailableError, WebUIError, WebUITimeoutError
from sd_client.models import Capabilities, PaintedImage
from sd_client.orders import CHECK_S, Order
from sd_client.painting import Painting
from sd_client.schedule import Schedule
from sd_client.shared_schedule import SharedSchedule

log = logging.getLogger(__name__)


class Attempt:
    """
    The call itself runs in a thread of its own, which holds the lease until the WebUI's answer has come: the caller's
    thread can leave before that, at its deadline or because nobody waits for the picture any more.

    :param ticket: of the job in the schedule.
    :param crowded: its WebUI may have other jobs at the same time.
    """

    def __init__(
        self,
        order: Order,
        painting: Painting,
        *,
        shared: SharedSchedule,
        ticket: str,
        crowded: bool,
        clock: Callable[[], float],
    ) -> None:
        self._order = order
        self._painting = painting
        self._shared = shared
        self._ticket = ticket
        self._crowded = crowded
        self._clock = clock

    def run(self, capabilities: Capabilities) -> tuple[PaintedImage, ...]:
        """:raises WebUIError: how it failed is in the order's course as well."""
        order, course = self._order, self._order.course
        begun = self._clock()
        deadline = min(begun + order.run_s, order.ends)
        self._painting.start(
            order.params, capabilities, task_id=order.task_id, timeout_s=deadline - begun + order.run_s
        )
        try:
            return self._watch(deadline, capabilities)
        except BaseException as error:
            if isinstance(error, WebUIError) and not isinstance(error, JobCancelledError | LimitError):
                course.failures.append(error)
            self._abandon()
            raise
        finally:
            asked_s = self._clock() - begun if self._painting.asked_s is None else self._painting.asked_s
            course.webui_s = (course.webui_s or 0.0) + asked_s

    def _watch(self, deadline: float, capabilities: Capabilities) -> tuple[PaintedImage, ...]:
        result = self._painting.result
        while True:
            try:
                return result.result(timeout=max(0.0, min(CHECK_S, deadline - self._clock())))
            except NotYet:
                if result.done():
                    continue
                if self._clock() >= deadline:
                    raise WebUITimeoutError(_too_long(capabilities)) from None
                self._raise_if_cancelled()
                self._order.check()

    def _raise_if_cancelled(self) -> None:
        job = self._shared.seen().find(self._ticket)
        if job is not None and job.cancelled:
            raise JobCancelledError("the caller cancelled the job")

    def _abandon(self) -> None:
        try:
            if not self._painting.result.done():
                self._shared.change(self._abandoned)
        except QueueUnavailableError as error:
            log.warning("the end of an abandoned job cannot be written: %s", error.__cause__)
        finally:
            self._painting.abandon()

    def _abandoned(self, state: Schedule) -> Schedule:
        # Of several jobs on its WebUI, those that it has end before the interrupt, and it gets no other until then.
        state = schedule.cancel(state, self._ticket) if self._crowded else state
        return schedule.disclaim(state, self._ticket)


def _too_long(capabilities: Capabilities) -> str:
    if capabilities.can_interrupt or capabilities.ends_on_hang_up:
        return "the job took longer than allowed and is being interrupted"
    return "the job took longer than allowed; its WebUI cannot interrupt it and goes on"
