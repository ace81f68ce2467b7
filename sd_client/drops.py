"""Which WebUIs have left out lately what jobs asked for: others are preferred for such jobs, for a while."""

from __future__ import annotations

from collections.abc import Iterator

from sd_client.errors import InvalidReason
from sd_client.models import JobParams, UpscaleParams
from sd_client.trials import Trials


class Drops:
    """:param known: what jobs have shown of each kind of thing, whatever their model."""

    def __init__(self, known: Trials) -> None:
        self._known = known

    def add(self, webui: str, reason: InvalidReason) -> None:
        self._known.put(webui, None, reason, passed=False)

    def lately(self, params: JobParams) -> set[str]:
        """The WebUIs that have left out a kind of thing that this job asks for."""
        return {webui for reason in _reasons(params) for webui in self._known.failed(None, reason)}


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
