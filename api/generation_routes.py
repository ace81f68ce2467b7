"""``POST txt2img``, ``img2img``, ``inpainting`` and ``upscale``: the service's own API."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Flask, Response, request

from api import rendering, timings
from api.body import read_values
from api.generation import Generations, Received, Take, with_outcome
from api.schemas import BodyFields, Fields
from services.generation import GeneratedImage
from services.generation_request import Mode
from services.problems import Problem


@dataclass(frozen=True, kw_only=True)
class GenerationRoutes:
    """:param image_base_url: the beginning of an image's address."""

    generations: Generations
    image_base_url: str

    def register(self, app: Flask, prefix: str) -> None:
        routes = Blueprint("generation", __name__, url_prefix=prefix)
        routes.post("/txt2img")(self.txt2img)
        routes.post("/img2img")(self.img2img)
        routes.post("/inpainting")(self.inpainting)
        routes.post("/upscale")(self.upscale)
        timings.register(routes, self.generations.metrics)
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

    def upscale(self) -> Response:
        """Enlarge a picture by an upscaler."""
        return self._answer("upscale")

    def _answer(self, mode: Mode) -> Response:
        as_png = request.accept_mimetypes.best_match(["application/json", "image/png"]) == "image/png"
        with self.generations.read(
            mode,
            lambda take: self._received(mode, take),
            pictures=mode != "txt2img",
            refuse=_several_pngs if as_png else lambda fields: [],
        ) as asked:
            generation, replayed = self.generations.run(asked)
        if as_png:
            response = rendering.as_png(generation, self._url)
        else:
            with_base64 = getattr(asked.fields, "response_format", None) == "base64"
            response = rendering.as_json(generation, self._url, with_base64=with_base64)
        return with_outcome(response, asked, replayed=replayed)

    def _received(self, mode: Mode, take: Take) -> Received:
        most_chars = self.generations.fields.bounds.max_prompt_chars
        values, problems = read_values(request, mode, max_prompt_chars=most_chars, take=take)
        return Received(mode=mode, values=values, problems=[*_query_problems(), *problems])

    def _url(self, image: GeneratedImage) -> str | None:
        return f"{self.image_base_url}/{image.image_id}" if image.stored else None


def _several_pngs(fields: BodyFields) -> list[Problem]:
    if not isinstance(fields, Fields) or fields.batch_size == 1:
        return []
    message = "must be 1 with Accept: image/png, which has room for one image"
    return [Problem(field="batch_size", message=message, received=fields.batch_size)]


def _query_problems() -> list[Problem]:
    message = "is in the URL, which is not read; send it in the body"
    return [Problem(field=name[:80], message=message) for name in list(request.args)[:10]]
