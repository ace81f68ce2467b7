"""``POST txt2img``, ``img2img`` and ``inpainting``: parse, one call, render."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Flask, Response, g, request
from pydantic_core import to_json

from api.body import read_values
from api.caller import still_there
from api.errors import MalformedRequestError
from api.rate_limit import RateLimits, caller
from api.schemas import Bounds, RefusedFieldsError, check, to_request
from services.catalog import Catalog, Wanted
from services.generation import Call, GeneratedImage, Generation, GenerationRequest, GenerationService, Mode
from services.problems import InvalidParamsError, Problem
from services.requests import request_key

#: Handed to the server in pieces, so that a picture of megabytes is not copied once more to be sent.
_PIECE_CHARS = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class GenerationRoutes:
    """The three routes and what they need. ``image_url``: makes an image's address from its id."""

    service: GenerationService
    catalog: Catalog
    limits: RateLimits
    bounds: Bounds
    image_base_url: str

    def register(self, app: Flask, prefix: str) -> None:
        routes = Blueprint("generation", __name__, url_prefix=prefix)
        routes.post("/txt2img")(self.txt2img)
        routes.post("/img2img")(self.img2img)
        routes.post("/inpainting")(self.inpainting)
        app.register_blueprint(routes)

    def txt2img(self) -> Response:
        """Paint a picture from a prompt."""
        return self._generate("txt2img")

    def img2img(self) -> Response:
        """Paint a picture over another one."""
        return self._generate("img2img")

    def inpainting(self) -> Response:
        """Repaint the masked part of a picture: virtual try-on."""
        return self._generate("inpainting")

    def _generate(self, mode: Mode) -> Response:
        _refuse_unsupported_headers()
        wait_s = _preferred_wait_s()
        as_png = request.accept_mimetypes.best_match(["application/json", "image/png"]) == "image/png"
        wanted, response_format = self._parse(mode, as_png=as_png)
        choice, params = self.service.prepare(wanted)
        del wanted  # the job waits without the pictures in the form they came in
        call = Call(
            request_id=g.request_id,
            key=request_key(caller(), g.request_id),
            started=g.started,
            wait_s=wait_s,
            check=still_there(request),
        )
        with self.limits.generation:
            generation = self.service.generate(mode, choice, params, call)
        g.log = {"mode": mode, "model": generation.model, "seed": generation.images[0].seed}
        response = self._png(generation) if as_png else self._json(generation, with_base64=response_format == "base64")
        if wait_s is not None:
            response.headers["Preference-Applied"] = f"wait={wait_s}"
        return response

    def _parse(self, mode: Mode, *, as_png: bool) -> tuple[GenerationRequest, str]:
        """:raises InvalidParamsError: with every problem that can be found without a WebUI."""
        values, problems = read_values(request, mode)
        try:
            fields = check(mode, values, self.bounds)
        except RefusedFieldsError as error:
            problems += error.problems
            problems += self.catalog.problems(_names(values, refused={problem.field for problem in problems}))
            raise InvalidParamsError(problems) from None
        if as_png and fields.batch_size > 1:
            message = "must be 1 with Accept: image/png, which has room for one picture"
            problems.append(Problem(field="batch_size", message=message, received=fields.batch_size))
        if problems:
            raise InvalidParamsError(problems)
        return to_request(mode, fields), fields.response_format

    def _url(self, image: GeneratedImage) -> str | None:
        return f"{self.image_base_url}/{image.image_id}" if image.stored else None

    def _png(self, generation: Generation) -> Response:
        image = generation.images[0]
        response = Response(image.png, mimetype="image/png")
        response.headers["X-Image-Id"] = str(image.image_id)
        response.headers["X-Seed"] = str(image.seed)
        response.headers["X-Model"] = quote(generation.model, safe=" !#$&'()*+,/:;=?@[]-._~")
        response.headers["X-Processing-Time"] = f"{generation.processing_time_s:.3f}"
        if (url := self._url(image)) is not None:
            response.headers["Location"] = url
            response.autocorrect_location_header = False
        else:
            response.headers["Warning"] = f'199 - "{_NOT_STORED}"'
        return response

    def _json(self, generation: Generation, *, with_base64: bool) -> Response:
        pieces = list(self._pieces(generation, with_base64=with_base64))
        response = Response(_sliced(pieces), mimetype="application/json")
        response.content_length = sum(map(len, pieces))
        return response

    def _pieces(self, generation: Generation, *, with_base64: bool) -> Iterator[str]:
        """The answer's text, the base64 spliced in as it is: a JSON encoder would look at every character of it."""
        first = generation.images[0]
        yield from self._image_fields(first, with_base64=with_base64)
        rest: dict[str, Any] = {
            "processing_time": round(generation.processing_time_s, 3),
            "model": generation.model,
            "request_id": g.request_id,
        }
        if not all(image.stored for image in generation.images):
            rest["warnings"] = [_NOT_STORED]
        yield "," + _ascii(rest)[1:-1]
        if len(generation.images) > 1:
            for number, image in enumerate(generation.images):
                yield "," if number else ',"images":['
                yield from self._image_fields(image, with_base64=with_base64)
                yield "}"
            yield "]"
        yield "}"

    def _image_fields(self, image: GeneratedImage, *, with_base64: bool) -> Iterator[str]:
        """An object that is left open."""
        yield _ascii({"image_id": str(image.image_id), "image_url": self._url(image)})[:-1]
        if with_base64:
            yield ',"image_base64":"data:image/png;base64,'
            yield image.base64
            yield '"'
        yield "," + _ascii({"seed": image.seed, "width": image.width, "height": image.height})[1:-1]


_NOT_STORED = "the picture could not be stored, so it has no URL"


def _ascii(value: object) -> str:
    return to_json(value).decode("utf-8")


def _sliced(pieces: Iterable[str]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), _PIECE_CHARS):
            yield piece[start : start + _PIECE_CHARS].encode()


def _names(values: Mapping[str, object], *, refused: Collection[str]) -> Wanted:
    """The names that only the catalogue can check, as far as they are names at all."""

    def name(field: str) -> str | None:
        value = values.get(field)
        return value if field not in refused and isinstance(value, str) else None

    return Wanted(model=name("model"), sampler=name("sampler"), scheduler=name("scheduler"))


def _refuse_unsupported_headers() -> None:
    if "Idempotency-Key" in request.headers:
        message = "is not supported by this version; without it a retry may paint a second picture"
        raise InvalidParamsError([Problem(field="Idempotency-Key", message=message)])
    if request.content_encoding:
        raise MalformedRequestError("a body with a Content-Encoding is not read; send it as it is")


def _preferred_wait_s() -> int | None:
    """``Prefer: wait=N`` (RFC 7240); other preferences may be ignored by its section 2."""
    for preference in request.headers.get("Prefer", "").split(","):
        name, _, value = preference.partition("=")
        if name.strip().lower() == "wait":
            seconds = value.partition(";")[0].strip().strip('"')
            if not (seconds.isascii() and seconds.isdigit() and 1 <= int(seconds[:9]) <= 86_400):
                message = "wait must be whole seconds between 1 and 86400"
                raise InvalidParamsError([Problem(field="Prefer", message=message, received=preference.strip()[:80])])
            return int(seconds)
    return None
