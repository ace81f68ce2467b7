"""
Shows that a LoRA changes what a model paints. One that was made for another kind of model is loaded, is named in the
answer, and does nothing; which kinds go together no WebUI says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sd_client.client import JobCall, WebUIClient
from sd_client.errors import DroppedError, UselessLoraError
from sd_client.matching import match
from sd_client.models import SMALL_SIZE, Capabilities, GenerationParams, Lora, PaintedImage, UsedLora, small_picture
from sd_client.pixels import rgb

#: How long one that has failed is not tried again: its file may be replaced.
FAILED_S = 600.0

#: So many are remembered, which is more than any WebUI has.
_MOST = 20_000


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """
    :param hash: of the file that passed; None if the WebUI does not say.
    :param failed: when it failed; None if it passed.
    """

    hash: str | None = None
    failed: float | None = None


class LoraTrials:
    """What this process knows of each LoRA with each model, by the WebUI's id."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str, str], _Trial] = {}
        self._mutex = threading.Lock()

    def useless(self, webui: str, params: GenerationParams) -> str | None:
        """The first of the job's LoRAs that has failed lately there."""
        return next((lora.name for lora in params.loras if self._has_failed(webui, params, lora)), None)

    def prove(
        self,
        webui: str,
        client: WebUIClient,
        capabilities: Capabilities,
        params: GenerationParams,
        *,
        task_id: str,
        timeout_s: float,
        call: JobCall,
    ) -> None:
        """
        Paints a small picture without LoRAs, and one with each of the job's that is not known yet.

        :raises UselessLoraError: one changes nothing, or is left out; it is remembered.
        :raises WebUIError: a picture could not be painted.
        """
        ends = time.monotonic() + timeout_s

        def painted(*loras: Lora) -> PaintedImage:
            small = small_picture(params.checkpoint, loras=loras)
            matched = match(capabilities, small)
            if matched is None:
                raise LookupError("the WebUI does not offer what it offered for the job")
            left_s = max(0.001, ends - time.monotonic())
            return client.generate(small, capabilities, matched, task_id=task_id, timeout_s=left_s, call=call)[0]

        if name := self.useless(webui, params):
            raise UselessLoraError(name)
        unknown = [lora for lora in params.loras if self._key(webui, params, lora.name) not in self._known]
        plain = painted() if unknown else None
        for lora in unknown:
            try:
                changed = painted(replace(lora, weight=1.0))
            except DroppedError as error:
                self._put(webui, params, lora.name, _Trial(failed=self._clock()))
                raise UselessLoraError(lora.name) from error
            if plain is not None and _pixels(plain) == _pixels(changed):
                self._put(webui, params, lora.name, _Trial(failed=self._clock()))
                raise UselessLoraError(lora.name)
            self._put(webui, params, lora.name, _Trial(hash=changed.used.loras[0].hash))

    def check(self, webui: str, params: GenerationParams, used: tuple[UsedLora, ...]) -> None:
        """:raises DroppedError: a file is not the one that was tried; the next job tries it."""
        for lora in used:
            trial = self._known.get(self._key(webui, params, lora.name))
            if trial is not None and trial.hash and lora.hash and trial.hash != lora.hash:
                self.forget(webui, params)
                raise DroppedError("a LoRA's file has changed since it was tried", reason="lora_dropped")

    def forget(self, webui: str, params: GenerationParams) -> None:
        """The next job with one of these LoRAs tries them again."""
        with self._mutex:
            for lora in params.loras:
                self._known.pop(self._key(webui, params, lora.name), None)

    def _has_failed(self, webui: str, params: GenerationParams, lora: Lora) -> bool:
        key = self._key(webui, params, lora.name)
        trial = self._known.get(key)
        if trial is None or trial.failed is None:
            return False
        if self._clock() - trial.failed < FAILED_S:
            return True
        with self._mutex:
            self._known.pop(key, None)
        return False

    def _put(self, webui: str, params: GenerationParams, name: str, trial: _Trial) -> None:
        with self._mutex:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[self._key(webui, params, name)] = trial

    @staticmethod
    def _key(webui: str, params: GenerationParams, name: str) -> tuple[str, str, str]:
        return webui, params.checkpoint.path, name


def _pixels(image: PaintedImage) -> bytes:
    return rgb(image.data, size=SMALL_SIZE, message="the WebUI painted a small picture in another size")
