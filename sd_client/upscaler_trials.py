"""
Shows that an upscaler does more than Lanczos, by a small picture that it enlarges alone: where its weights are missing
or broken, A1111 uses Lanczos in its place, and the answer of a second pass names the upscaler all the same. Some
upscalers (LDSR) are listed in the same way with and without their weights.
"""

from __future__ import annotations

from sd_client.client import JobCall, WebUIClient
from sd_client.errors import DroppedError, UselessUpscalerError
from sd_client.models import SMALL_SIZE, Capabilities, GenerationParams, UpscaleParams
from sd_client.reference_trials import small_reference
from sd_client.trials import Trials
from sd_client.upscaling import is_provable


class UpscalerTrials:
    """:param known: what trials of upscalers have shown, which need no model."""

    def __init__(self, known: Trials) -> None:
        self._known = known

    def useless(self, params: GenerationParams) -> dict[str, str]:
        """The upscaler of the job's second pass, by the WebUIs on which it has failed lately."""
        if params.hires is None:
            return {}
        return dict.fromkeys(self._known.failed(None, params.hires.upscaler), params.hires.upscaler)

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
        Enlarges a small picture by the upscaler of the job's second pass, if it is not known yet.

        :param task_id: unused, since no WebUI knows the picture that it enlarges by an id.
        :raises UselessUpscalerError: it does what Lanczos does; that is remembered.
        :raises WebUIError: the picture could not be enlarged.
        """
        name = params.hires.upscaler if params.hires else ""
        if not capabilities.upscales or name not in capabilities.upscalers or not is_provable(name):
            return  # latent ones have no weights, and other servers cannot be asked
        known = self._known.find(webui, None, name)
        if known is None:
            try:
                client.upscale(_small_upscale(name), capabilities, timeout_s=timeout_s, call=call)
            except DroppedError as error:
                self._known.put(webui, None, name, passed=False)
                raise UselessUpscalerError(name) from error
            self._known.put(webui, None, name, passed=True)
        elif not known.passed:
            raise UselessUpscalerError(name)


def _small_upscale(upscaler: str) -> UpscaleParams:
    width, height = SMALL_SIZE
    return UpscaleParams(
        image=small_reference().file,
        from_width=width,
        from_height=height,
        width=2 * width,
        height=2 * height,
        upscaler=upscaler,
    )
