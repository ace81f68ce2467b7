"""Which WebUIs have left out lately what jobs asked for: others are preferred for such jobs, for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from sd_client.errors import InvalidReason
from sd_client.models import JobParams, UpscaleParams

#: For so long.
SHUNNED_S = 600.0


class Drops:
    """Of this process, by the WebUI's id and what was left out."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, InvalidReason], float] = {}

    def add(self, webui: str, reason: InvalidReason) -> None:
        self._seen[webui, reason] = self._clock()

    def lately(self, webui: str, params: JobParams) -> bool:
        """Whether it has left out a kind of thing that this job asks for."""
        now = self._clock()
        times = (self._seen.get((webui, reason)) for reason in _reasons(params))
        return any(seen is not None and now - seen < SHUNNED_S for seen in times)


def _reasons(params: JobParams) -> Iterator[InvalidReason]:
    if isinstance(params, UpscaleParams):
        yield "wrong_upscaler"
        return
    if params.loras:
        yield "lora_dropped"
    if params.hires is not None:
        yield "wrong_upscaler"
    if params.clip_skip > 1:
        yield "wrong_clip_skip"
    if params.reference is not None:
        yield "reference_dropped"
