"""What A1111 and Forge tell of one job by its id, where they run with their page: whether it runs, and how far it is.

Everything else that they tell is of whatever runs, whoever asked for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic_core import to_json

from sd_client.errors import InvalidAnswerError, WebUIStatusError
from sd_client.transport import Transport

_PATH = "/internal/progress"

TaskState = Literal["running", "waiting", "ended", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """
    :param state: "waiting" is in the WebUI's own queue, behind somebody else's job; "unknown": it has not come yet, or
        the WebUI does not note jobs by our ids.
    :param fraction: 0 … 1, and 0 while it waits behind somebody else's.
    """

    state: TaskState
    fraction: float = 0.0


def look_at_task(transport: Transport, task_id: str, *, timeout_s: float) -> Task | None:
    """
    None where the WebUI does not tell (``--nowebui``, other servers).

    :raises WebUIError: it did not answer.
    """
    try:
        told = transport.post(_PATH, to_json({"id_task": task_id, "live_preview": False}), timeout_s=timeout_s)
    except (WebUIStatusError, InvalidAnswerError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("active"), bool):
        return None
    if told["active"]:
        fraction = told.get("progress")
        return Task(state="running", fraction=fraction if isinstance(fraction, int | float) else 0.0)
    if told.get("queued") is True:
        return Task(state="waiting")
    return Task(state="ended", fraction=1.0) if told.get("completed") is True else Task(state="unknown")
