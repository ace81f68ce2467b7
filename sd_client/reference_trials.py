"""
Shows that a WebUI really uses a reference picture with a model. Which adapter goes with which kind of model no API
says, and one that does not fit is left out without a word.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from sd_client.errors import (
    DroppedError,
    MissingRouteError,
    OutOfMemoryError,
    UselessReferenceError,
    WebUIAuthError,
    WebUIBusyError,
    WebUIStatusError,
)
from sd_client.models import Capabilities, Checkpoint, GenerationParams, ReferenceWay
from sd_client.references import dropped, possible_ways
from sd_client.small_jobs import SmallJobs, small_pixels
from sd_client.trials import Trials


class ReferenceTrials:
    """
    :param known: what is known of each way with each model.
    :param count: receives ``passed`` or ``failed`` after each trial.
    """

    def __init__(self, known: Trials, *, count: Callable[[str], None] = lambda result: None) -> None:
        self._known = known
        self._count = count

    def useless(self, able: Mapping[str, Capabilities], params: GenerationParams) -> dict[str, UselessReferenceError]:
        """
        What is to be said of the WebUIs of which all ways for the job have failed lately.

        :param able: those that can do the job otherwise.
        """
        if params.reference is None:
            return {}
        failed = functools.cache(lambda way: self._known.failed(params.checkpoint, _name(way)))
        ways = {webui: possible_ways(capabilities, params.reference) for webui, capabilities in able.items()}
        return {webui: _useless(own) for webui, own in ways.items() if all(webui in failed(way) for way in own)}

    def prove(self, small: SmallJobs, params: GenerationParams) -> ReferenceWay:
        """
        The first way that works, which takes small pictures if it is not known yet.

        :raises UselessReferenceError: none does.
        :raises WebUIError: a picture could not be painted.
        """
        if params.reference is None:
            raise LookupError("the job has no reference picture")
        webui, model = small.webui, params.checkpoint
        ways = possible_ways(small.capabilities, params.reference)
        plain: bytes | None = None
        for way in ways:
            known = self._known.find(webui, model, _name(way))
            if known is None:
                plain = plain or small_pixels(small.paint(model))
                passed = _passes(small, model, way, plain)
                self._known.put(webui, model, _name(way), passed=passed)
                self._count("passed" if passed else "failed")
            if passed if known is None else known.passed:
                return way
        raise _useless(ways)

    def check(self, small: SmallJobs, params: GenerationParams, way: ReferenceWay) -> None:
        """
        Tries a way once more, after a job whose answer leaves open whether it worked.

        :raises DroppedError: it does not.
        """
        self._known.forget(small.webui, params.checkpoint, _name(way))
        try:
            found = self.prove(small, params)
        except UselessReferenceError as error:
            raise dropped() from error
        if found != way:
            raise dropped()

    def fail(self, webui: str, capabilities: Capabilities, params: GenerationParams) -> None:
        """The method by which the job was done did not work after all: it is not used for a while."""
        ways = possible_ways(capabilities, params.reference) if params.reference else ()
        model = params.checkpoint
        used = next((way.method for way in ways if webui not in self._known.failed(model, _name(way))), None)
        for way in ways:
            if way.method == used:
                self._known.put(webui, model, _name(way), passed=False)


def _name(way: ReferenceWay) -> str:
    return "\0".join((way.method, way.model, way.module))


def _useless(ways: tuple[ReferenceWay, ...]) -> UselessReferenceError:
    return UselessReferenceError(sum(way.method == "adapter" for way in ways))


def _passes(small: SmallJobs, model: Checkpoint, way: ReferenceWay, plain: bytes) -> bool:
    try:
        return small_pixels(small.paint(model, way=way)) != plain
    except (OutOfMemoryError, WebUIBusyError, WebUIAuthError, MissingRouteError):
        raise
    except (DroppedError, WebUIStatusError):  # left out without a word, or with one
        return False
