"""What a WebUI reports about the job that it runs: how far it is, whose it is, and whether somebody ended it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import to_json

from sd_client.errors import InvalidAnswerError, StopReason, WebUIStatusError
from sd_client.transport import Transport, number

TaskState = Literal["running", "waiting", "ended", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """
    The progress of the job that runs, or ran last.

    :param fraction: 0 … 1.
    :param running: a job does.
    :param interrupted: somebody ended the job; both flags stay until the next one begins.
    :param skipped: somebody ended the round of the job that ran.
    :param job_timestamp: when the job began, by the WebUI's clock, as the job's ``info`` has it; "" if not reported.
    """

    fraction: float
    running: bool = False
    interrupted: bool = False
    skipped: bool = False
    job_timestamp: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """
    One job by its id, which A1111 and Forge report if they run with their page.

    :param state: "waiting" is in the WebUI's own queue, behind somebody else's job; "unknown": it has not come yet, or
        the WebUI does not keep our ids.
    :param fraction: 0 … 1, and 0 while it waits behind somebody else's.
    """

    state: TaskState
    fraction: float = 0.0


def read_progress(transport: Transport, *, genkey: str, timeout_s: float) -> Progress | None:
    """
    None if the server does not report it.

    :param genkey: KoboldCpp reports only on the job with this key; "" for the others.
    :raises WebUIError: it did not answer.
    """
    path = "/sdapi/v1/progress?skip_current_image=true" + (f"&genkey={genkey}" if genkey else "")
    try:
        answer = transport.get(path, timeout_s=timeout_s)
    except WebUIStatusError:
        return None
    if not isinstance(answer, dict):
        return None
    state = answer.get("state")
    state = state if isinstance(state, dict) else {}
    return Progress(
        fraction=number(answer.get("progress")),
        running=number(state.get("job_count")) != 0,
        interrupted=state.get("interrupted") is True,
        skipped=state.get("skipped") is True,
        job_timestamp=str(state.get("job_timestamp") or ""),
    )


def read_task(transport: Transport, task_id: str, *, timeout_s: float) -> Task | None:
    """
    None if the WebUI does not report jobs by their ids (``--nowebui``, other servers).

    :raises WebUIError: it did not answer.
    """
    try:
        body = to_json({"id_task": task_id, "live_preview": False})
        answer = transport.post("/internal/progress", body, timeout_s=timeout_s)
    except (WebUIStatusError, InvalidAnswerError):
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("active"), bool):
        return None
    if answer["active"]:
        return Task(state="running", fraction=number(answer.get("progress")))
    if answer.get("queued") is True:
        return Task(state="waiting")
    return Task(state="ended", fraction=1.0) if answer.get("completed") is True else Task(state="unknown")


def stop_reason(progress: Progress, info: Mapping[str, Any]) -> StopReason | None:
    """
    How somebody ended the job; None if nobody did, or if that can no longer be known.

    A1111 and Forge keep the flags until the next job begins, and clear them then: an interrupt that came before this
    job does not count, and what the WebUI reports while another job runs is about that job.

    :param progress: as reported just after the answer. :param info: the answer's.
    """
    if progress.running:
        return None
    timestamp = info.get("job_timestamp")
    if isinstance(timestamp, str) and timestamp and progress.job_timestamp not in ("", timestamp):
        return None
    return "interrupted" if progress.interrupted else "skipped" if progress.skipped else None
