"""``/v1/images/…`` and ``/v1/models``: this service for programs that speak OpenAI's Images API."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from flask import Blueprint, Flask, Response, g, request

from api import timings
from api.body import read_fields_of_form, read_values
from api.doors.openai_answers import as_json, completed, failed, failed_event
from api.doors.openai_fields import ONE_PICTURE, PICTURES, SECONDS, Look, Route, translate
from api.forms import GIVEN_TWICE
from api.generation import Asked, Generations, Received, Take, with_outcome
from api.streams import streamed
from api.transfers import still_there
from services.catalog import Catalog
from services.generation import GeneratedImage
from services.problems import InvalidParamsError, ModelNotFoundError, Problem
from services.thumbnails import converted
from services.webui_limits import Wanted

#: What the names of a route's events begin with.
_EVENTS: Final[dict[Route, str]] = {"generations": "image_generation", "edits": "image_edit"}


@dataclass(frozen=True, kw_only=True)
class OpenAIRoutes:
    """:param image_base_url: the beginning of an image's address, with the host; None if that is not known."""

    generations: Generations
    catalog: Catalog
    image_base_url: str | None

    def register(self, app: Flask) -> None:
        images = Blueprint("openai_images", __name__, url_prefix="/v1/images")
        images.post("/generations")(self.create_image)
        images.post("/edits")(self.edit_image)
        timings.register(images, self.generations.metrics)
        models = Blueprint("openai_models", __name__, url_prefix="/v1")
        models.get("/models")(self.list_models)
        models.get("/models/<path:model>")(self.get_model)
        app.register_blueprint(images)
        app.register_blueprint(models)
        app.extensions["failures"]["openai"] = failed

    def create_image(self) -> Response:
        """Generate an image from a prompt, in OpenAI's way."""
        return self._answer("generations")

    def edit_image(self) -> Response:
        """Generate an image from a picture, or repaint a part of it, in OpenAI's way."""
        return self._answer("edits")

    def list_models(self) -> dict[str, Any]:
        """The names by which a request can ask for a model."""
        return {"object": "list", "data": [_model(name) for name in self.catalog.model_names()]}

    def get_model(self, model: str) -> dict[str, Any]:
        """The model of this name, if there is one."""
        try:
            self.catalog.choose(Wanted(model=model))
        except InvalidParamsError as error:
            if unknown := [problem for problem in error.problems if problem.field == "model"]:
                raise ModelNotFoundError(unknown) from None
        return _model(model)

    def _answer(self, route: Route) -> Response:
        with ExitStack() as stack:
            receive = partial(self._received, route)
            asked = stack.enter_context(
                self.generations.read(f"/v1/images/{route}", receive, pictures=route == "edits")
            )
            look: Look = g.look
            if look.stream:
                events = partial(self._events, asked, look, _EVENTS[route])
                response = streamed(events, failed_event, until_over=stack.pop_all())
                return with_outcome(response, asked, replayed=g.get("replayed", False))
            generation, replayed = self.generations.run(asked)
        response = as_json(generation, look, image_url=partial(self._url, look), picture=partial(self._picture, look))
        return with_outcome(response, asked, replayed=replayed)

    def _received(self, route: Route, take: Take) -> Received:
        bounds = self.generations.fields.bounds
        most_chars = bounds.max_prompt_chars
        if route == "edits":
            body, problems = read_fields_of_form(
                request, pictures=PICTURES, seconds=SECONDS, max_prompt_chars=most_chars, take=take
            )
        else:
            body, problems = read_values(request, "txt2img", max_prompt_chars=most_chars, take=take)
        has_urls = self.image_base_url is not None
        g.translation, g.look = translate(route, body, most_steps=bounds.max_steps, has_urls=has_urls)
        g.translation.problems += map(_one_picture, problems)
        return Received(mode=g.translation.mode, values=g.translation.values, problems=g.translation.problems)

    def _events(self, asked: Asked, look: Look, kind: str, waits: Callable[[], None]) -> Iterator[bytes]:
        generation, g.replayed = self.generations.run(asked, waits=waits)
        pictures = [self._picture(look, image) for image in generation.images]
        return completed(kind, generation, look, pictures)

    def _picture(self, look: Look, image: GeneratedImage) -> bytes:
        """:raises CallerGoneError: while others are converted first."""
        if look.form == "png":
            return image.png
        decoders = self.generations.decoders
        decoders.acquire(until=math.inf, check=still_there(request))
        try:
            return converted(image.png, form=look.form, quality=look.compression)
        finally:
            decoders.release()

    def _url(self, look: Look, image: GeneratedImage) -> str | None:
        if not image.stored:
            return None
        return f"{self.image_base_url}/{image.image_id}" + ("" if look.form == "png" else f"?format={look.form}")


def _one_picture(problem: Problem) -> Problem:
    is_picture = problem.field in PICTURES and problem.field != "mask" and problem.message == GIVEN_TWICE
    return replace(problem, message=ONE_PICTURE) if is_picture else problem


def _model(name: str) -> dict[str, Any]:
    """When the file was made is known to nobody here."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "stable-diffusion"}
