"""
What is left of a WebUI that may have failed to load a checkpoint, and how it is healed.

Forge takes the model that was loaded before as loaded still, although nothing is: every job of it fails until another
model was painted. A1111 keeps it, but leaves its option at the broken file, so that jobs of its own page fail.
"""

from __future__ import annotations

from dataclasses import dataclass

from sd_client.client import WebUIClient
from sd_client.errors import InvalidAnswerError, WebUIError, WebUIStatusError
from sd_client.models import DUMMY_HASH, Capabilities, Checkpoint, GenerationParams

#: Other models that are tried; each may have to be loaded.
_MOST_OTHERS = 3
_SMALL = 64  # pixels


@dataclass(frozen=True, kw_only=True)
class Found:
    """
    What a look at a WebUI has shown after a job of it failed.

    :param painted: ``model_name`` of the model that it could paint with last; None where with none that was tried.
    :param broken: of those that it is not to be sent again.
    """

    painted: str | None
    broken: tuple[str, ...]


def may_be_broken(error: BaseException, capabilities: Capabilities) -> bool:
    """Whether a failure may be one to load the model: a plain 500 of a server that changes models."""
    changes = all(checkpoint.hash != DUMMY_HASH for checkpoint in capabilities.checkpoints)
    return type(error) is WebUIStatusError and error.status == 500 and changes


class ModelLook:
    """
    :param before: ``model_name`` of what it painted with, or had loaded, before the job; "" where that is not known.
    :param timeout_s: for each picture, its model's loading included.
    """

    def __init__(self, client: WebUIClient, capabilities: Capabilities, *, before: str, timeout_s: float) -> None:
        self._client = client
        self._capabilities = capabilities
        self._before = before
        self._timeout_s = timeout_s

    def look(self, suspect: Checkpoint) -> Found | None:
        """
        One small picture with the suspect; where that fails, with others until one can be painted, which heals Forge,
        and the option is put back to the model before. None where the WebUI does not answer.
        """
        try:
            if self._paints(suspect):
                return Found(painted=suspect.model_name, broken=())
            for other in self._others(suspect):
                if self._paints(other):
                    self._put_back(suspect, other)
                    return Found(painted=other.model_name, broken=(suspect.model_name,))
        except WebUIError:
            return None
        dead = (self._before,) if self._before and self._before != suspect.model_name else ()
        return Found(painted=None, broken=(suspect.model_name, *dead))

    def _others(self, suspect: Checkpoint) -> list[Checkpoint]:
        """The one before first: where it can be painted, the option is back by that."""
        others = [one for one in self._capabilities.checkpoints if one.model_name != suspect.model_name]
        return sorted(others, key=lambda one: one.model_name != self._before)[:_MOST_OTHERS]

    def _paints(self, checkpoint: Checkpoint) -> bool:
        params = GenerationParams(
            prompt="a small picture",
            negative_prompt="",
            steps=1,
            cfg_scale=7.0,
            width=_SMALL,
            height=_SMALL,
            seed=1,
            batch_size=1,
            checkpoint=checkpoint,
        )
        try:
            self._client.txt2img(params, self._capabilities, task_id="look", timeout_s=self._timeout_s)
        except (WebUIStatusError, InvalidAnswerError):
            return False
        return True

    def _put_back(self, suspect: Checkpoint, painted: Checkpoint) -> None:
        before = next((one for one in self._capabilities.checkpoints if one.model_name == self._before), None)
        if before is not None and before.model_name not in (suspect.model_name, painted.model_name):
            self._client.choose(before, timeout_s=self._timeout_s)
