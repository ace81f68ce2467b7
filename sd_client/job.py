"""A job: what its caller wants, its place on a WebUI, and how it ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from sd_client import schedule
from sd_client.errors import QueueUnavailableError, WebUIError
from sd_client.matching import Match, match
from sd_client.models import Capabilities, JobParams, UpscaleParams
from sd_client.schedule import Schedule
from sd_client.shared_schedule import SharedSchedule
from sd_client.upscaling import spelling

log = logging.getLogger(__name__)

#: How often the caller is asked whether it still wants the picture.
CHECK_S = 0.5

#: What a WebUI's failure says about it: that it answers with errors, does not answer, or has too little memory
#: (unless the job is too large for any).
Blame = Literal["answered", "silent", "memory"]


@dataclass(kw_only=True)
class JobReport:
    """
    How a job went so far, kept up to date while it goes, so that it is known of those that end in an error as well.

    :param queue_s: how long it waited for WebUIs; None if it was refused before.
    :param webui_s: how long WebUIs were waited for, from connecting to the end of the answer; None if none was.
    :param webui: the last one's place in ``SD_WEBUI_URL``, from 0 on.
    :param switches: WebUIs that had to load another model for it.
    :param failures: of WebUIs, those included that another one made good.
    """

    queue_s: float | None = None
    webui_s: float | None = None
    webui: int | None = None
    switches: int = 0
    failures: list[WebUIError] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """
    Times are seconds of ``time.monotonic``; ``since`` is of the schedule's clock.

    :param task_id: what the WebUI calls the job.
    :param request: what its caller can ask for it by; "" if nobody can.
    :param since: when it began to wait.
    :param wait_until: how long it may wait for a WebUI.
    :param run_s: seconds it may run on one.
    :param ends: when its caller leaves at the latest.
    :param check: called every :data:`CHECK_S`; whatever it raises ends the job.
    """

    params: JobParams
    task_id: str
    request: str
    since: float
    wait_until: float
    run_s: float
    ends: float
    check: Callable[[], None]
    report: JobReport
    _matches: dict[str, tuple[Capabilities, Match | None]] = field(default_factory=dict, init=False, repr=False)

    @property
    def model(self) -> str:
        """``model_name`` of the checkpoint that the job needs; "" if it needs none."""
        return "" if isinstance(self.params, UpscaleParams) else self.params.checkpoint.model_name

    def can_be_done(self, webui: str, capabilities: Capabilities) -> bool:
        """Whether a WebUI has all that the job needs; its limits are another matter."""
        if isinstance(self.params, UpscaleParams):
            return spelling(capabilities, self.params.upscaler) is not None
        return self.match(webui, capabilities) is not None

    def match(self, webui: str, capabilities: Capabilities) -> Match | None:
        """
        What a WebUI calls what a generation needs, None if it cannot do the job; worked out once per look at it.
        """
        if isinstance(self.params, UpscaleParams):
            return None
        known = self._matches.get(webui)
        if known is None or known[0] is not capabilities:
            known = self._matches[webui] = capabilities, match(capabilities, self.params)
        return known[1]


@dataclass(frozen=True, kw_only=True)
class Lease:
    """
    A job's place on a WebUI, its own until it leaves.

    :param switches: the WebUI had another model.
    :param proven: it has painted with the job's model just before, or has failed nothing lately.
    :param before: the model that it painted with before; "" if that is unknown.
    :param sound: it has just painted with another model.
    """

    ticket: str
    webui: str
    switches: bool
    model: str
    proven: bool
    before: str
    sound: bool


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """
    What a check of a WebUI's models has shown after a job failed there.

    :param painted: ``model_name`` of the model that it could paint with last; None if with none that was tried.
    :param broken: of those that it could not paint with.
    :param sure: it is their files' fault: another model was painted before they were tried last, and after that.
    """

    painted: str | None
    broken: tuple[str, ...]
    sure: bool = False


@dataclass(frozen=True, kw_only=True)
class Ending:
    """
    :param ran_s: how long the job ran; None if it failed, or was interrupted.
    :param webui_to_blame: None if the failure says nothing about the WebUI.
    :param found: None if the WebUI's models were not checked.
    """

    ran_s: float | None
    webui_to_blame: Blame | None
    found: ModelCheck | None = None


class Place:
    """
    A running job's place on its WebUI, in the schedule that all processes see.

    :param release: gives the lease back. It may raise QueueUnavailableError.
    :param crowded: the WebUI may have other jobs at the same time.
    """

    def __init__(
        self, lease: Lease, shared: SharedSchedule, release: Callable[[Lease, Ending], None], *, crowded: bool
    ) -> None:
        self.ticket = lease.ticket
        self.webui = lease.webui
        self._lease = lease
        self._shared = shared
        self._release = release
        self._crowded = crowded

    def is_alone(self) -> bool:
        """Whether the WebUI has no other job: its interrupt hits whatever runs. False if that is unknown now."""
        if not self._crowded:
            return True
        try:
            return self._shared.look().busy(self.webui) == 1
        except QueueUnavailableError as error:
            log.warning("the jobs on a WebUI cannot be looked at: %s", error.__cause__)
            return False

    def is_cancelled(self) -> bool:
        """Whether the job's caller has cancelled it, in any process."""
        job = self._shared.seen().find(self.ticket)
        return job is not None and job.cancelled

    def abandon(self) -> None:
        """The caller has left the job, which keeps its place until it has ended."""

        def change(state: Schedule) -> Schedule:
            # Of several jobs on its WebUI, those that it has end before the interrupt, and it gets no other until then.
            state = schedule.cancel(state, self.ticket) if self._crowded else state
            return schedule.disclaim(state, self.ticket)

        self._write("the end of an abandoned job", change)

    def disclaim(self) -> bool:
        """The caller has its answer, and the place is kept a while longer. False if that could not be written."""
        return self._write("the end of a failed job", lambda state: schedule.disclaim(state, self.ticket))

    def count(self, painted: int, pictures: int) -> None:
        """So many of the job's pictures are painted."""
        self._write(
            "the progress of a job",
            lambda state: schedule.count(state, self.ticket, painted=painted, pictures=pictures),
        )

    def give_back(self, ending: Ending) -> None:
        """To be called once."""
        try:
            self._release(self._lease, ending)
        except QueueUnavailableError:
            log.exception("a lease cannot be given back")  # the picture is there all the same

    def _write(self, what: str, change: Callable[[Schedule], Schedule]) -> bool:
        try:
            self._shared.change(change)
        except QueueUnavailableError as error:  # the job goes on, though others do not see it
            log.error("%s cannot be written: %s", what, error.__cause__)
            return False
        return True
