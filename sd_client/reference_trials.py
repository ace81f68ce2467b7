"""
Shows that a WebUI really uses a reference picture with a model. Which adapter goes with which kind of model no API
says, and one that does not fit is left out without a word.
"""

from __future__ import annotations

import functools
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from PIL import Image

from sd_client.client import JobCall, WebUIClient
from sd_client.errors import (
    DroppedError,
    MissingRouteError,
    OutOfMemoryError,
    UselessReferenceError,
    WebUIAuthError,
    WebUIBusyError,
    WebUIStatusError,
)
from sd_client.matching import Match, match
from sd_client.models import (
    SMALL_SIZE,
    Capabilities,
    GenerationParams,
    Reference,
    ReferencePicture,
    ReferenceWay,
    small_picture,
)
from sd_client.pixels import fingerprint
from sd_client.references import dropped, possible_ways
from sd_client.trials import Trials, small_pixels


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
    ) -> ReferenceWay:
        """
        The first way that works, which takes small pictures if it is not known yet.

        :raises UselessReferenceError: none does.
        :raises WebUIError: a picture could not be painted.
        """
        if params.reference is None:
            raise LookupError("the job has no reference picture")
        ends = time.monotonic() + timeout_s

        def painted(way: ReferenceWay | None) -> bytes:
            reference = Reference(pictures={way.method: small_reference()}, weight=1.0) if way else None
            small = small_picture(params.checkpoint, reference=reference)
            matched = match(capabilities, small)
            if matched is None:
                raise LookupError("the WebUI does not offer what it offered for the job")
            return _paint(client, small, capabilities, replace(matched, reference=way), task_id, ends, call)

        ways = possible_ways(capabilities, params.reference)
        plain: bytes | None = None
        for way in ways:
            known = self._known.find(webui, params.checkpoint, _name(way))
            if known is None:
                plain = plain or painted(None)
                passed = self._passes(functools.partial(painted, way), plain)
                self._known.put(webui, params.checkpoint, _name(way), passed=passed)
                self._count("passed" if passed else "failed")
            if passed if known is None else known.passed:
                return way
        raise _useless(ways)

    def _passes(self, paint: Callable[[], bytes], plain: bytes) -> bool:
        try:
            return paint() != plain
        except (OutOfMemoryError, WebUIBusyError, WebUIAuthError, MissingRouteError):
            raise
        except (DroppedError, WebUIStatusError):  # left out without a word, or with one
            return False

    def check(
        self,
        webui: str,
        client: WebUIClient,
        capabilities: Capabilities,
        params: GenerationParams,
        way: ReferenceWay,
        *,
        task_id: str,
        timeout_s: float,
        call: JobCall,
    ) -> None:
        """
        Tries a way once more, after a job whose answer leaves open whether it worked.

        :raises DroppedError: it does not.
        """
        self._known.forget(webui, params.checkpoint, _name(way))
        try:
            found = self.prove(webui, client, capabilities, params, task_id=task_id, timeout_s=timeout_s, call=call)
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


def _paint(
    client: WebUIClient,
    small: GenerationParams,
    capabilities: Capabilities,
    matched: Match,
    task_id: str,
    ends: float,
    call: JobCall,
) -> bytes:
    """The pixels of a small picture."""
    left_s = max(0.001, ends - time.monotonic())
    image = client.generate(small, capabilities, matched, task_id=task_id, timeout_s=left_s, call=call)[0]
    return small_pixels(image)


@functools.cache
def small_reference() -> ReferencePicture:
    """Stripes of two colours: a square, and as large as the picture, which is right for both methods."""
    picture = Image.new("RGB", SMALL_SIZE, (200, 30, 40))
    for left in range(0, SMALL_SIZE[0], 16):
        picture.paste((30, 60, 190), (left, 0, left + 8, SMALL_SIZE[1]))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return ReferencePicture(file=file.getvalue(), size=SMALL_SIZE, fingerprint=fingerprint(picture))
