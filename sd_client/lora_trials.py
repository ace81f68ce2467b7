"""
Shows that a LoRA changes what a model paints. One that was made for another kind of model is loaded, is named in the
answer, and does nothing; which kinds go together no WebUI says.
"""

from __future__ import annotations

from dataclasses import replace

from sd_client.errors import DroppedError, UselessLoraError
from sd_client.models import GenerationParams, UsedLora
from sd_client.small_jobs import SmallJobs, small_pixels
from sd_client.trials import Trials


class LoraTrials:
    """:param known: what is known of each LoRA with each model, by its name."""

    def __init__(self, known: Trials) -> None:
        self._known = known

    def useless(self, params: GenerationParams) -> dict[str, str]:
        """By WebUI, the first of the job's LoRAs that has failed lately there."""
        failed: dict[str, str] = {}
        for lora in params.loras:
            for webui in self._known.failed(params.checkpoint, lora.name):
                failed.setdefault(webui, lora.name)
        return failed

    def prove(self, small: SmallJobs, params: GenerationParams) -> None:
        """
        Paints a small picture without LoRAs, and one with each of the job's that is not known yet.

        :raises UselessLoraError: one changes nothing, or is left out; it is remembered.
        :raises WebUIError: a picture could not be painted.
        """
        webui, model = small.webui, params.checkpoint
        if name := self.useless(params).get(webui):
            raise UselessLoraError(name)
        plain: bytes | None = None
        for lora in params.loras:
            if self._known.find(webui, model, lora.name):
                continue
            plain = plain or small_pixels(small.paint(model))
            try:
                changed = small.paint(model, loras=(replace(lora, weight=1.0),))
            except DroppedError as error:
                self._known.put(webui, model, lora.name, passed=False)
                raise UselessLoraError(lora.name) from error
            passed = small_pixels(changed) != plain
            hash_ = changed.used.loras[0].hash
            self._known.put(webui, model, lora.name, passed=passed, hash=hash_)
            if not passed:
                raise UselessLoraError(lora.name)

    def check(self, webui: str, params: GenerationParams, used: tuple[UsedLora, ...]) -> None:
        """:raises DroppedError: a file is not the one that was tried; the next job tries it."""
        for lora in used:
            tried = self._known.find(webui, params.checkpoint, lora.name)
            if tried and tried.hash and lora.hash and tried.hash != lora.hash:
                self.forget(webui, params)
                raise DroppedError("a LoRA's file has changed since it was tried", reason="lora_dropped")

    def forget(self, webui: str, params: GenerationParams) -> None:
        """The next job with one of these LoRAs tries them again."""
        for lora in params.loras:
            self._known.forget(webui, params.checkpoint, lora.name)
