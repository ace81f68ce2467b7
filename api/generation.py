"""From a request's values to its images: the same for every entrance, which reads the values and renders the images."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from flask import Response, g, request

from api import timings
from api.body import MOST_TEXT_BYTES
from api.errors import UnsupportedMediaTypeError
from api.identity import caller
from api.rate_limit import RateLimits
from api.schemas import (
    BodyFields,
    Fields,
    FieldSet,
    RefusedFieldsError,
    asked_hires,
    asked_loras,
    check,
    root,
    to_request,
)
from api.schemas.picture_fields import PICTURE_FIELDS
from api.schemas.values import whole
from api.transfers import Uploads, still_there
from observability.metrics import Metrics
from services.catalog import Catalog
from services.decoders import SHORTEST_WAIT_S, Decoders, Decoding
from services.generation import Call, Generation, GenerationService
from services.generation_request import GenerationRequest, Mode, UpscaleRequest
from services.idempotency import IdempotencyService, fingerprint
from services.problems import InvalidParamsError, Problem
from services.stored_images import StoredImages
from services.tracking import request_key
from services.webui_limits import Wanted

#: Takes memory for a piece of a body, by its number of bytes; see :meth:`api.transfers.Uploads.memory`.
Take = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Received:
    """
    What an entrance has read, in the terms of :mod:`api.schemas`, and not checked.

    :param values: of the fields; pictures as base64 text or as bytes, which are removed once they have been read.
    :param problems: what is wrong with the body as such.
    """

    mode: Mode
    values: dict[str, object]
    problems: Sequence[Problem] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """
    A request that passed all checks that need no WebUI.

    :param idempotency: key and fingerprint, if the caller sent a key.
    """

    wanted: GenerationRequest | UpscaleRequest
    fields: BodyFields
    wait_s: int | None
    idempotency: tuple[str, str] | None
    decoding: Decoding

    @property
    def painting(self) -> Fields:
        """The fields of a route that paints."""
        if not isinstance(self.fields, Fields):
            raise TypeError("this route does not paint")
        return self.fields


@dataclass(frozen=True, kw_only=True)
class Generations:
    """
    :param uploads: places for bodies; :param prompt_uploads: for those without pictures, which need not wait behind
        the others.
    :param queue_timeout_s: ``SD_QUEUE_TIMEOUT``, for the wait for decoders and for a WebUI together.
    """

    service: GenerationService
    idempotency: IdempotencyService
    catalog: Catalog
    images: StoredImages
    limits: RateLimits
    uploads: Uploads
    prompt_uploads: Uploads
    decoders: Decoders
    queue_timeout_s: float
    fields: FieldSet
    metrics: Metrics

    @contextmanager
    def read(
        self,
        route: str,
        receive: Callable[[Take], Received],
        *,
        pictures: bool,
        refuse: Callable[[BodyFields], list[Problem]] = lambda fields: [],
    ) -> Iterator[Asked]:
        """
        Reads and checks the request. The memory of its body is taken until the block ends.

        :param route: to which an ``Idempotency-Key`` belongs, with its caller.
        :param receive: reads the body.
        :param pictures: whether the route always takes one; a prompt may come with a reference picture.
        :param refuse: what the entrance cannot answer, of fields that are right.
        :raises InvalidParamsError: with every problem that can be found without a WebUI.
        """
        if (request.content_encoding or "identity").strip().lower() != "identity":
            raise UnsupportedMediaTypeError("a body with a Content-Encoding cannot be read; send it uncompressed")
        wait_s, problems = _preferred_wait_s()
        key, key_problems = _idempotency_key(route)
        problems += key_problems
        is_large = (request.content_length or 0) > MOST_TEXT_BYTES
        uploads = self.uploads if pictures or is_large else self.prompt_uploads
        with uploads.memory() as take:
            with uploads.place():
                with uploads.in_time(request):
                    received = receive(take)
                problems += received.problems
                decoding = self._decoding(wait_s, key)
                checked = self._checked(received, problems, decoding, take)
            problems += refuse(checked)
            if problems:
                raise InvalidParamsError(problems)
            idempotency = None if key is None else (key, fingerprint(received.mode, received.values))
            for name in PICTURE_FIELDS:  # a picture without its metadata is another one: the job needs no second copy
                received.values.pop(name, None)
            yield Asked(
                wanted=to_request(received.mode, checked),
                fields=checked,
                wait_s=wait_s,
                idempotency=idempotency,
                decoding=decoding,
            )

    def run(self, asked: Asked, *, waits: Callable[[], None] = lambda: None) -> tuple[Generation, bool]:
        """
        The generation, and whether it is that of an earlier attempt.

        :param waits: called now and then once it waits for a place, its WebUI or an earlier attempt: it has not been
            refused.
        """
        generation, replayed = self._once(asked, waits)
        seeds = [image.seed for image in generation.images if image.seed is not None]
        g.log = {"mode": asked.wanted.mode, **_seeds(seeds)}
        if generation.model is not None:
            g.log["model"] = generation.model
        if replayed:
            self.metrics.idempotent_replays.inc()
        return generation, replayed

    def _once(self, asked: Asked, waits: Callable[[], None]) -> tuple[Generation, bool]:
        caller_is_there = still_there(request)

        def check() -> None:
            waits()
            caller_is_there()

        if asked.idempotency is None:
            return self._generate(asked, check=check), False
        key, print_ = asked.idempotency
        claimed = self.idempotency.claim(key, print_, request=tracking_key(), check=check, wait_s=asked.wait_s)
        with claimed as claim:
            # Its caller may hang up and ask again.
            generation = claim.replay or self._generate(asked, check=waits)
            claim.keep(generation)
        return generation, claim.replay is not None

    def _generate(self, asked: Asked, *, check: Callable[[], None]) -> Generation:
        has_picture = asked.wanted.image is not None or asked.wanted.reference is not None
        if has_picture and asked.idempotency is not None:
            self.limits.check_generation()  # only now it is known that this is not a replay
        # Pictures are brought to their size. A request without any does not wait.
        with asked.decoding() if has_picture else nullcontext():
            run = self._prepared(asked.wanted)
        own = timings.Timings(mode=asked.wanted.mode)
        call = Call(
            request_id=g.request_id,
            key=tracking_key(),
            started=g.started,
            wait_s=asked.wait_s,
            check=check,
            waited_s=asked.decoding.waited_s,
            report=own.report,
        )
        self.limits.count_generation()
        g.timings = own
        return run(call)

    def _prepared(self, wanted: GenerationRequest | UpscaleRequest) -> Callable[[Call], Generation]:
        """What is left to be done."""
        if isinstance(wanted, UpscaleRequest):
            enlarged = self.service.prepare_upscale(wanted)
            g.log = {"mode": wanted.mode}
            return lambda call: self.service.upscale(enlarged, call)
        choice, params = self.service.prepare(wanted)
        g.log = {"mode": wanted.mode, "model": choice.model, "seed": params.seed}
        return lambda call: self.service.generate(wanted, choice, params, call)

    def _checked(self, received: Received, problems: list[Problem], decoding: Decoding, take: Take) -> BodyFields:
        """:raises InvalidParamsError: with these problems and all that are found here."""

        def stored(image_id: UUID) -> bytes:
            decoding.begin()
            return self.images.read(image_id, take)

        try:
            return check(received.mode, received.values, self.fields, decoding, stored)
        except RefusedFieldsError as error:
            problems += error.problems
            refused = {root(problem.field) for problem in problems}
            problems += self._problems_of_pool(received, refused)
            raise InvalidParamsError(problems) from None

    def _problems_of_pool(self, received: Received, refused: Collection[str]) -> list[Problem]:
        if received.mode != "upscale":
            return self.catalog.problems(_wanted(received.values, refused=refused))
        upscaler = received.values.get("upscaler")
        if "upscaler" in refused or not isinstance(upscaler, str | None):
            return []
        return self.catalog.upscaler_problems(upscaler)

    def _decoding(self, wait_s: int | None, key: str | None) -> Decoding:
        """
        How this request's pictures are decoded. A request that the limit has no room for does not wait for that; one
        with a known key may be a replay, which does not count.
        """
        until = time.monotonic() + max(self.queue_timeout_s, SHORTEST_WAIT_S)
        return Decoding(
            decoders=self.decoders,
            until=until if wait_s is None else min(until, g.started + wait_s),
            check=still_there(request) if key is None else _as_long_as_it_takes,
            admit=lambda: None if key is not None and self.idempotency.knows(key) else self.limits.check_generation(),
        )


def with_outcome(response: Response, asked: Asked, *, replayed: bool) -> Response:
    """The answer with what its headers say about its waiting and its being a replay."""
    if asked.wait_s is not None:
        response.headers["Preference-Applied"] = f"wait={asked.wait_s}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def tracking_key() -> str:
    """The key by which this request can be followed."""
    return request_key(caller("following", request_id=g.request_id), g.request_id)


def _seeds(seeds: Sequence[int]) -> dict[str, object]:
    if not seeds:
        return {}
    return {"seed": seeds[0]} if len(seeds) == 1 else {"seed": seeds[0], "seeds": list(seeds)}


def _wanted(values: Mapping[str, object], *, refused: Collection[str]) -> Wanted:
    """What only the catalogue can check, of the fields that are right on their own."""
    names = {field.name for field in fields(Wanted)} & values.keys() - {*refused, "prompt", "negative_prompt"}
    right: dict[str, Any] = {name: whole(values[name]) for name in names}
    if "loras" in right:
        right["loras"] = asked_loras("", right["loras"])
    if "hires" in right:
        right["hires"] = asked_hires(right["hires"])
    if right.get("seed") == -1:
        del right["seed"]
    return Wanted(**right)


def _as_long_as_it_takes() -> None:
    """Nobody ends a job with an Idempotency-Key: its caller may hang up and ask again."""


def _idempotency_key(route: str) -> tuple[str | None, list[Problem]]:
    """The key as it is stored, which belongs to its caller and to the route."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None, []
    if re.fullmatch(r"[!-~]{1,255}", key):
        return request_key(caller("idempotency"), f"{route}\n{key}"), []
    message = "must be 1 to 255 visible ASCII characters"
    return None, [Problem(field="Idempotency-Key", message=message, received=f"{len(key)} characters")]


def _preferred_wait_s() -> tuple[int | None, list[Problem]]:
    """``Prefer: wait=N`` (RFC 7240); its section 2 allows ignoring other preferences."""
    for preference in request.headers.get("Prefer", "").split(","):
        name, _, value = preference.partition("=")
        if name.strip().lower() == "wait":
            seconds = value.partition(";")[0].strip().strip('"')
            if re.fullmatch(r"[0-9]{1,5}", seconds) and 1 <= int(seconds) <= 86_400:
                return int(seconds), []
            message = "wait must be whole seconds between 1 and 86400"
            return None, [Problem(field="Prefer", message=message, received=preference.strip()[:80])]
    return None, []
