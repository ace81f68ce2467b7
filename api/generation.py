"""``POST txt2img``, ``img2img`` and ``inpainting``: read, generate, render."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any

from flask import Blueprint, Flask, Response, g, request

from api import rendering, timings
from api.body import read_values
from api.errors import UnsupportedMediaTypeError
from api.identity import caller
from api.rate_limit import RateLimits
from api.schemas import Fields, FieldSet, RefusedFieldsError, check, to_request
from api.schemas.values import whole
from api.transfers import Uploads, still_there
from observability.metrics import Metrics
from services.catalog import Catalog
from services.decoders import SHORTEST_WAIT_S, Decoders, Decoding
from services.generation import Call, GeneratedImage, Generation, GenerationService
from services.generation_request import GenerationRequest, Mode
from services.idempotency import IdempotencyService, fingerprint
from services.problems import InvalidParamsError, Problem
from services.tracking import request_key
from services.webui_limits import Wanted


@dataclass(frozen=True, kw_only=True)
class Asked:
    """
    A request that passed all checks that need no WebUI.

    :param idempotency: key and fingerprint, if the caller sent a key.
    """

    wanted: GenerationRequest
    with_base64: bool
    as_png: bool
    wait_s: int | None
    idempotency: tuple[str, str] | None
    decoding: Decoding


@dataclass(frozen=True, kw_only=True)
class GenerationRoutes:
    """
    The three routes and what they need.

    :param uploads: places for bodies; :param prompt_uploads: those of txt2img, which need not wait behind pictures.
    :param queue_timeout_s: ``SD_QUEUE_TIMEOUT``, for the wait for decoders and for a WebUI together.
    :param image_base_url: the beginning of an image's address.
    """

    service: GenerationService
    idempotency: IdempotencyService
    catalog: Catalog
    limits: RateLimits
    uploads: Uploads
    prompt_uploads: Uploads
    decoders: Decoders
    queue_timeout_s: float
    fields: FieldSet
    image_base_url: str
    metrics: Metrics

    def register(self, app: Flask, prefix: str) -> None:
        routes = Blueprint("generation", __name__, url_prefix=prefix)
        routes.post("/txt2img")(self.txt2img)
        routes.post("/img2img")(self.img2img)
        routes.post("/inpainting")(self.inpainting)
        timings.register(routes, self.metrics)
        app.register_blueprint(routes)

    def txt2img(self) -> Response:
        """Generate an image from a prompt."""
        return self._answer("txt2img")

    def img2img(self) -> Response:
        """Generate an image from a picture."""
        return self._answer("img2img")

    def inpainting(self) -> Response:
        """Repaint the masked part of a picture: virtual try-on."""
        return self._answer("inpainting")

    def _answer(self, mode: Mode) -> Response:
        uploads = self.prompt_uploads if mode == "txt2img" else self.uploads
        with uploads.memory() as take:
            asked = self._read(mode, uploads, take)
            generation, replayed = self._generation(asked)
        g.log = {"mode": mode, "model": generation.model, **_seeds([image.seed for image in generation.images])}
        if asked.as_png:
            response = rendering.as_png(generation, self._url)
        else:
            response = rendering.as_json(generation, self._url, with_base64=asked.with_base64)
        if asked.wait_s is not None:
            response.headers["Preference-Applied"] = f"wait={asked.wait_s}"
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
            self.metrics.idempotent_replays.inc()
        return response

    def _generation(self, asked: Asked) -> tuple[Generation, bool]:
        """The generation, and whether it is that of an earlier attempt."""
        caller_is_there = still_there(request)
        if asked.idempotency is None:
            return self._generate(asked, check=caller_is_there), False
        key, print_ = asked.idempotency
        return self.idempotency.once(
            key,
            print_,
            lambda: self._generate(asked, check=_as_long_as_it_takes),
            request=_tracking_key(),
            check=caller_is_there,
            wait_s=asked.wait_s,
        )

    def _generate(self, asked: Asked, *, check: Callable[[], None]) -> Generation:
        has_picture = asked.wanted.image is not None
        if has_picture and asked.idempotency is not None:
            self.limits.check_generation()  # only now it is known that this is not a replay
        # Pictures are brought to their size. A request without any does not wait.
        with asked.decoding() if has_picture else nullcontext():
            choice, params = self.service.prepare(asked.wanted)
        g.log = {"mode": asked.wanted.mode, "model": choice.model, "seed": params.seed}
        own = timings.Timings(mode=asked.wanted.mode)
        call = Call(
            request_id=g.request_id,
            key=_tracking_key(),
            started=g.started,
            wait_s=asked.wait_s,
            check=check,
            waited_s=asked.decoding.waited_s,
            report=own.report,
        )
        self.limits.count_generation()
        g.timings = own
        return self.service.generate(asked.wanted, choice, params, call)

    def _read(self, mode: Mode, uploads: Uploads, take: Callable[[int], None]) -> Asked:
        """:raises InvalidParamsError: with every problem that can be found without a WebUI."""
        if (request.content_encoding or "identity").strip().lower() != "identity":
            raise UnsupportedMediaTypeError("a body with a Content-Encoding cannot be read; send it uncompressed")
        wait_s, problems = _preferred_wait_s()
        key, key_problems = _idempotency_key(mode)
        problems += key_problems + _query_problems()
        with uploads.place():
            with uploads.in_time(request):
                most_chars = self.fields.bounds.max_prompt_chars
                values, form_problems = read_values(request, mode, max_prompt_chars=most_chars, take=take)
            problems += form_problems
            decoding = self._decoding(wait_s, key)
            fields = self._checked(mode, values, problems, decoding)
        as_png = request.accept_mimetypes.best_match(["application/json", "image/png"]) == "image/png"
        if as_png and fields.batch_size > 1:
            message = "must be 1 with Accept: image/png, which has room for one image"
            problems.append(Problem(field="batch_size", message=message, received=fields.batch_size))
        if problems:
            raise InvalidParamsError(problems)
        return Asked(
            wanted=to_request(mode, fields),
            with_base64=fields.response_format == "base64",
            as_png=as_png,
            wait_s=wait_s,
            idempotency=None if key is None else (key, fingerprint(mode, values)),
            decoding=decoding,
        )

    def _checked(self, mode: Mode, values: Mapping[str, object], problems: list[Problem], decoding: Decoding) -> Fields:
        """:raises InvalidParamsError: with these problems and all that are found here."""
        try:
            return check(mode, values, self.fields, decoding)
        except RefusedFieldsError as error:
            problems += error.problems
            problems += self.catalog.problems(_wanted(values, refused={problem.field for problem in problems}))
            raise InvalidParamsError(problems) from None

    def _decoding(self, wait_s: int | None, key: str | None) -> Decoding:
        """
        How this request's pictures are decoded. A request that the limit has no room for does not wait for that; one
        with a known key may be a replay, which does not count.
        """
        until = time.monotonic() + max(self.queue_timeout_s, SHORTEST_WAIT_S)
        return Decoding(
            self.decoders,
            until=until if wait_s is None else min(until, g.started + wait_s),
            check=still_there(request) if key is None else _as_long_as_it_takes,
            admit=lambda: None if key is not None and self.idempotency.knows(key) else self.limits.check_generation(),
        )

    def _url(self, image: GeneratedImage) -> str | None:
        return f"{self.image_base_url}/{image.image_id}" if image.stored else None


def _tracking_key() -> str:
    """The key by which this request can be followed."""
    return request_key(caller("following", request_id=g.request_id), g.request_id)


def _seeds(seeds: Sequence[int]) -> dict[str, object]:
    return {"seed": seeds[0]} if len(seeds) == 1 else {"seed": seeds[0], "seeds": list(seeds)}


def _wanted(values: Mapping[str, object], *, refused: Collection[str]) -> Wanted:
    """What only the catalogue can check, of the fields that are right by themselves."""
    names = {field.name for field in fields(Wanted)} & values.keys() - {*refused, "prompt", "negative_prompt"}
    right: dict[str, Any] = {name: whole(values[name]) for name in names}
    if right.get("seed") == -1:
        del right["seed"]
    return Wanted(**right)


def _as_long_as_it_takes() -> None:
    """Nobody ends a job with an Idempotency-Key: its caller may hang up and ask again."""


def _query_problems() -> list[Problem]:
    message = "is in the URL, which is not read; send it in the body"
    return [Problem(field=name[:80], message=message) for name in list(request.args)[:10]]


def _idempotency_key(mode: Mode) -> tuple[str | None, list[Problem]]:
    """The key as it is stored, which belongs to its caller and to the route."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None, []
    if re.fullmatch(r"[!-~]{1,255}", key):
        return request_key(caller("idempotency"), f"{mode}\n{key}"), []
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
