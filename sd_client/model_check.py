"""
Checks a WebUI that may have failed to load a checkpoint, and heals it.

Forge believes that the model it had before is still loaded, although nothing is: every job of it fails until another
model was painted. A1111 keeps that model, but leaves its option at the broken file, so that jobs from its page fail.
SD.Next has nothing loaded then.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace

from sd_client.capabilities import is_native
from sd_client.client import WebUIClient
from sd_client.errors import InvalidAnswerError, WebUIError, WebUIStatusError
from sd_client.job import ModelCheck
from sd_client.matching import find_checkpoint, loaded_model, match
from sd_client.models import Capabilities, Checkpoint, small_picture

log = logging.getLogger(__name__)

#: Other models that are tried; each may have to be loaded.
_MOST_OTHERS = 3


class ModelChecker:
    """
    For one job.

    :param wanted: the job's model.
    :param before: ``model_name`` of what the WebUI painted with, or had loaded, before the job; "" if that is unknown.
    :param sound: it has painted with another model just before the job.
    :param timeout_s: for each picture, the loading of its model included.
    :param place: of the WebUI in ``SD_WEBUI_URL``, for the log.
    """

    def __init__(
        self,
        client: WebUIClient,
        capabilities: Capabilities,
        wanted: Checkpoint,
        *,
        before: str,
        sound: bool,
        timeout_s: float,
        place: int,
    ) -> None:
        self._client = client
        self._capabilities = capabilities
        self._wanted = wanted
        self._before = before
        self._sound = sound
        self._timeout_s = timeout_s
        self._place = place
        self._chosen: str | None = None

    def remember_choice(self) -> None:
        """Reads the WebUI's option before the job, whose own model is in it afterwards. Raises nothing."""
        if is_native(self._capabilities.checkpoints):
            return
        with suppress(WebUIError):  # the job will show what is wrong
            self._chosen = self._client.chosen_model()
        if self._chosen is not None:
            self._before = loaded_model(replace(self._capabilities, loaded=self._chosen)) or self._before

    def is_due(self, error: BaseException) -> bool:
        """
        Whether a server that changes models may have failed to load this one: it answered a plain 500, or no picture,
        as SD.Next does.
        """
        plain = type(error) is WebUIStatusError and error.status == 500
        nothing = isinstance(error, InvalidAnswerError) and error.reason in ("model_not_loaded", "missing_images")
        return (plain or nothing) and not is_native(self._capabilities.checkpoints)

    def check(self) -> ModelCheck | None:
        """
        Paints one small picture with the job's model. If that fails, it paints with others until one works, which heals
        Forge, and puts the option back to what it was before the job. None if the WebUI does not answer.
        """
        suspect = find_checkpoint(self._capabilities, self._wanted)
        if suspect is None:
            return None
        try:
            found = self._found(suspect)
        except WebUIError:
            return None
        if not found.broken:
            return found
        painted = f"{found.painted} was painted, so that it goes on" if found.painted else "nor with others"
        text = "a webui cannot paint with %s; %s"
        log.warning(text, ", ".join(found.broken), painted, extra={"webui": self._place})
        # By the pool's name for the model, which may not be this WebUI's.
        return replace(found, broken=(self._wanted.model_name, *found.broken[1:]))

    def _found(self, suspect: Checkpoint) -> ModelCheck:
        others = self._others(suspect)
        sure = self._sound
        if self._paints(suspect):
            return ModelCheck(painted=suspect.model_name, broken=())
        healer = self._first_painted(others)
        # Forge may have been dead for the suspect only. It is tried once more if a third model can heal Forge of that.
        if healer is not None and not sure and len(others) > 1:
            if self._paints(suspect):
                return ModelCheck(painted=suspect.model_name, broken=())
            healer, sure = self._first_painted(others), True
        if healer is None:
            return ModelCheck(painted=None, broken=(suspect.model_name, *(other.model_name for other in others)))
        self._put_back(suspect, healer)
        return ModelCheck(painted=healer.model_name, broken=(suspect.model_name,), sure=sure)

    def _others(self, suspect: Checkpoint) -> list[Checkpoint]:
        """The one before first: painting it puts the option back as well."""
        others = [one for one in self._capabilities.checkpoints if one.model_name != suspect.model_name]
        return sorted(others, key=lambda one: one.model_name != self._before)[:_MOST_OTHERS]

    def _first_painted(self, others: list[Checkpoint]) -> Checkpoint | None:
        return next((other for other in others if self._paints(other)), None)

    def _paints(self, checkpoint: Checkpoint) -> bool:
        params = small_picture(checkpoint)
        matched = match(self._capabilities, params)
        if matched is None:
            return False
        try:
            self._client.generate(params, self._capabilities, matched, task_id="look", timeout_s=self._timeout_s)
        except (WebUIStatusError, InvalidAnswerError):
            return False
        return True

    def _put_back(self, suspect: Checkpoint, painted: Checkpoint) -> None:
        if self._before in (suspect.model_name, painted.model_name):
            return
        known = (one.title for one in self._capabilities.checkpoints if one.model_name == self._before)
        title = self._chosen or next(known, None)
        if title is not None:
            self._client.choose(title, timeout_s=self._timeout_s)
