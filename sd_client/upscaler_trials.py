"""
Shows that an upscaler does more than Lanczos, by a small picture that it enlarges alone: where its weights are missing
or broken, A1111 uses Lanczos in its place, and the answer of a second pass names the upscaler all the same. Some
upscalers (LDSR) are listed in the same way with and without their weights.
"""

from __future__ import annotations

from sd_client.errors import DroppedError, UselessUpscalerError
from sd_client.models import GenerationParams, JobParams, UpscaleParams
from sd_client.small_jobs import SmallJobs
from sd_client.trials import Trials
from sd_client.upscaling import is_provable


class UpscalerTrials:
    """:param known: what trials of upscalers have shown, which need no model."""

    def __init__(self, known: Trials) -> None:
        self._known = known

    def useless(self, params: JobParams) -> dict[str, str]:
        """The job's upscaler, by the WebUIs on which it has failed lately."""
        name = params.upscaler if isinstance(params, UpscaleParams) else params.hires and params.hires.upscaler
        return dict.fromkeys(self._known.failed(None, name), name) if name else {}

    def prove(self, small: SmallJobs, params: GenerationParams) -> None:
        """
        Enlarges a small picture by the upscaler of the job's second pass, if it is not known yet.

        :raises UselessUpscalerError: it does what Lanczos does; that is remembered.
        :raises WebUIError: the picture could not be enlarged.
        """
        name, able = params.hires.upscaler if params.hires else "", small.capabilities
        if not able.upscales or name not in able.upscalers or not is_provable(name):
            return  # latent ones have no weights, and other servers cannot be asked
        known = self._known.find(small.webui, None, name)
        if known is None:
            self.check(small, name)
        elif not known.passed:
            raise UselessUpscalerError(name)

    def check(self, small: SmallJobs, name: str) -> None:
        """
        The same whatever is known, after an enlarged picture that is what Lanczos makes of it: some pictures are so
        smooth that another upscaler makes the same of them.
        """
        try:
            small.enlarge(name)
        except DroppedError as error:
            self._known.put(small.webui, None, name, passed=False)
            raise UselessUpscalerError(name) from error
        self._known.put(small.webui, None, name, passed=True)
