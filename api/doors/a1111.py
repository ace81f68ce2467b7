"""``/sdapi/v1``: AUTOMATIC1111's API in front of the service's own generations.

Programs written for a WebUI of their own share a pool here. So what they take for the state of that WebUI, its model
and its one job, is each caller's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from flask import Blueprint, Flask, Response, g, request
from flask_limiter import Limiter

from api import timings
from api.body import JsonKind, read_object
from api.doors import a1111_answers, a1111_controlnet
from api.doors.a1111_answers import OPTIONS, Painted
from api.doors.a1111_extras import enlarged, translate_extras
from api.doors.a1111_fields import Route, translate
from api.doors.translation import Translation, ignored_header
from api.generation import Generations, Received, Take, tracking_key, with_outcome
from api.hooks import REQUEST_ID
from api.identity import caller
from api.schemas import RefusedFieldsError, check
from api.transfers import Uploads
from sd_client.errors import NoWebUIError
from sd_client.models import Checkpoint
from services.base64_pictures import decode_base64
from services.catalog import Catalog
from services.exif import user_comment
from services.model_choices import ModelChoices
from services.open_jobs import OpenJobs
from services.picture_files import read_file
from services.picture_formats import PictureError
from services.png_texts import PARAMETERS, read_texts
from services.problems import InvalidParamsError, ModelNotFoundError, Problem
from services.tracking import RequestNotFoundError, RequestService

_PREFIX: Final = "/sdapi/v1"

_GENERATION: Final = JsonKind(pictures=("init_images", "mask", *a1111_controlnet.PICTURES), flat=False)
_PNG_INFO: Final = JsonKind(pictures=("image",), flat=True)
_EXTRAS: Final = JsonKind(pictures=("image",), flat=False)
_OPTIONS: Final = JsonKind(pictures=("image",), flat=False)

#: What this service does not have, as a program expects to find it.
_EMPTY_LISTS: Final = (
    *("hypernetworks", "prompt-styles", "face-restorers", "realesrgan-models"),
    *("sd-vae", "script-info", "extensions"),
)
#: Of a caller's jobs, so many are looked at to find the one whose progress is shown.
_MOST_LOOKED_AT: Final = 20


@dataclass(frozen=True, kw_only=True)
class A1111Routes:
    """:param requests: knows the status of the jobs that ``jobs`` lists."""

    generations: Generations
    catalog: Catalog
    choices: ModelChoices
    jobs: OpenJobs
    requests: RequestService

    def register(self, app: Flask, limiter: Limiter) -> None:
        app.extensions["failures"]["a1111"] = a1111_answers.failure
        painting = Blueprint("a1111", __name__, url_prefix=_PREFIX)
        painting.post("/txt2img")(self.txt2img)
        painting.post("/img2img")(self.img2img)
        painting.post("/extra-single-image")(self.extra_single_image)
        painting.after_request(_name_ignored)
        timings.register(painting, self.generations.metrics)

        state = Blueprint("a1111_state", __name__, url_prefix=_PREFIX)
        state.get("/options")(self.get_options)
        state.post("/options")(self.set_options)
        state.get("/sd-models")(self.get_models)
        state.get("/samplers")(self.get_samplers)
        state.get("/schedulers")(self.get_schedulers)
        state.get("/loras")(self.get_loras)
        state.get("/upscalers")(self.get_upscalers)
        state.get("/latent-upscale-modes")(self.get_latent_upscalers)
        state.get("/embeddings")(self.get_embeddings)
        state.get("/scripts")(self.get_scripts)
        state.get("/cmd-flags")(self.get_flags)
        for name in _EMPTY_LISTS:
            state.get(f"/{name}")(self.get_nothing)
        state.post("/png-info")(self.read_png)
        for name in ("refresh-checkpoints", "refresh-loras"):
            state.post(f"/{name}")(self.refresh)

        # A program that paints asks unbidden, far more often than any limit allows.
        jobs = Blueprint("a1111_jobs", __name__, url_prefix=_PREFIX)
        jobs.get("/progress")(self.get_progress)
        jobs.post("/interrupt")(self.interrupt)
        limiter.exempt(jobs)
        for routes in (painting, state, jobs):
            app.register_blueprint(routes)

    # --- Pictures -----------------------------------------------------------------------------------------------------

    def txt2img(self) -> Response:
        """Generate images from a prompt."""
        return self._paint("txt2img")

    def img2img(self) -> Response:
        """Generate images from a picture; with a mask, repaint a part of it."""
        return self._paint("img2img")

    def _paint(self, route: Route) -> Response:
        reading = self.generations.read(
            f"a1111/{route}", lambda take: self._received(route, take), pictures=route == "img2img"
        )
        with reading as asked, self.jobs.open(caller("limits"), tracking_key(), kind=route):
            generation, replayed = self.generations.run(asked)
        painted = Painted(
            generation=generation,
            fields=asked.painting,
            translation=g.translation,
            checkpoint=self._checkpoint(generation.model or ""),
        )
        return with_outcome(a1111_answers.painted(painted), asked, replayed=replayed)

    def _received(self, route: Route, take: Take) -> Received:
        fields = self.generations.fields
        body = read_object(request, _GENERATION, max_prompt_chars=fields.bounds.max_prompt_chars, take=take)
        task = body.get("force_task_id")
        if isinstance(task, str) and REQUEST_ID.fullmatch(task) and "X-Request-ID" not in request.headers:
            g.request_id = task
        steps = fields.models["img2img"].model_fields["steps"].default
        found = g.translation = translate(route, body, steps=steps, chosen=self._chosen)
        return Received(mode=found.mode, values=found.values, problems=found.problems)

    def extra_single_image(self) -> Response:
        """Enlarge a picture by an upscaler."""
        with (
            self.generations.read("a1111/extra-single-image", self._received_extras, pictures=True) as asked,
            self.jobs.open(caller("limits"), tracking_key(), kind="extras"),
        ):
            generation, replayed = self.generations.run(asked)
        return with_outcome(enlarged(generation, g.translation.values), asked, replayed=replayed)

    def _received_extras(self, take: Take) -> Received:
        found = g.translation = translate_extras(read_object(request, _EXTRAS, max_prompt_chars=0, take=take))
        return Received(mode="upscale", values=found.values, problems=found.problems)

    # --- The caller's model -------------------------------------------------------------------------------------------

    def _chosen(self) -> str | None:
        return self.choices.chosen(caller("limits"))

    def _checkpoint(self, model: str) -> Checkpoint | None:
        try:
            return self.catalog.checkpoint(model)
        except (ModelNotFoundError, NoWebUIError):
            return None

    def get_options(self) -> dict[str, object]:
        """The caller's model, and what is the same for everybody."""
        return self._options()

    def _options(self) -> dict[str, object]:
        model = self._chosen() or self.catalog.default_model
        checkpoint = self._checkpoint(model)
        return {
            **OPTIONS,
            "CLIP_stop_at_last_layers": self.catalog.default_clip_skip,
            "sd_model_checkpoint": model if checkpoint is None else checkpoint.title,
            "sd_checkpoint_hash": "" if checkpoint is None else checkpoint.known_hash,
        }

    def set_options(self) -> Response:
        """Choose the model of this caller's requests that name none."""
        g.translation = Translation(given={}, names={"model": "sd_model_checkpoint"})
        with self._body(_OPTIONS, self.generations.prompt_uploads) as body:
            given = {name: value for name, value in body.items() if value is not None}
        model = given.pop("sd_model_checkpoint", None)
        problems = [*self._model_problems(model), *_option_problems(given, self._options())]
        if problems:
            raise InvalidParamsError(problems)
        if isinstance(model, str):
            # Kept before it is looked up: programs that do not read this answer must not get another model's picture.
            self.choices.choose(caller("limits"), model)
            self.catalog.checkpoint(model)
        return _null()

    def _model_problems(self, model: object) -> list[Problem]:
        if model is None:
            return []
        if model == "":
            return [Problem(field="model", message="must name a model; GET /sdapi/v1/sd-models lists them")]
        try:
            check("txt2img", {"prompt": "a", "model": model}, self.generations.fields)
        except RefusedFieldsError as error:
            return error.problems
        return []

    # --- What there is ------------------------------------------------------------------------------------------------

    def get_models(self) -> list[dict[str, Any]]:
        """All models of all WebUIs."""
        return [a1111_answers.listed_checkpoint(model.checkpoint) for model in self.catalog.models()]

    def get_samplers(self) -> list[dict[str, Any]]:
        """The samplers that a request can name."""
        return [{"name": name, "aliases": [], "options": {}} for name in self.catalog.samplers()]

    def get_schedulers(self) -> list[dict[str, Any]]:
        """The schedulers that a request can name."""
        return [
            {"name": name, "label": label, "aliases": None, "default_rho": -1, "need_inner_model": False}
            for name, label in self.catalog.labelled_schedulers()
        ]

    def get_loras(self) -> list[dict[str, Any]]:
        """The LoRAs that a prompt can name."""
        return [{"name": lora.name, "alias": lora.name, "path": "", "metadata": {}} for lora in self.catalog.loras()]

    def get_upscalers(self) -> list[dict[str, Any]]:
        """By which hires fix, and extra-single-image, can enlarge a picture."""
        keys = ("model_name", "model_path", "model_url")
        hires = [name for name in self.catalog.hires_upscalers() if not _is_latent(name)]
        names = dict.fromkeys([*hires, *self.catalog.upscale_upscalers()])
        return [{"name": name, **dict.fromkeys(keys), "scale": 4} for name in names]

    def get_latent_upscalers(self) -> list[dict[str, str]]:
        """Those of them that enlarge it while it is latent."""
        return [{"name": name} for name in self.catalog.hires_upscalers() if _is_latent(name)]

    def get_embeddings(self) -> dict[str, Any]:
        """None: embeddings are not listed."""
        return {"loaded": {}, "skipped": {}}

    def get_scripts(self) -> dict[str, Any]:
        """None: scripts of a WebUI are not run."""
        return {"txt2img": [], "img2img": []}

    def get_flags(self) -> dict[str, Any]:
        """That this is an API."""
        return {"api": True}

    def get_nothing(self) -> list[Any]:
        """An empty list: there is nothing of this kind here."""
        return []

    def refresh(self) -> Response:
        """Nothing: the service looks for new models on its own."""
        return _null()

    def read_png(self) -> dict[str, Any]:
        """The texts in a picture. Nothing is stored."""
        with self._body(_PNG_INFO, self.generations.uploads) as body:
            texts = _texts(body.get("image"))
        return {"info": texts.get(PARAMETERS, ""), "items": texts, "parameters": {}}

    @contextmanager
    def _body(self, kind: JsonKind, uploads: Uploads) -> Iterator[Mapping[str, object]]:
        with uploads.memory() as take, uploads.place():
            with uploads.in_time(request):
                body = read_object(request, kind, max_prompt_chars=0, take=take)
            yield body

    # --- The caller's jobs --------------------------------------------------------------------------------------------

    def get_progress(self) -> tuple[dict[str, Any], int, dict[str, str]]:
        """How far this caller's oldest running job is, else its first waiting one."""
        waiting = None
        for job in self.jobs.of(caller("limits"))[:_MOST_LOOKED_AT]:
            try:
                status = self.requests.status(job.request)
            except RequestNotFoundError:
                continue
            if status.status == "running":
                waiting = status, job.kind
                break
            if status.status == "queued" and waiting is None:
                waiting = status, job.kind
        return a1111_answers.progress(*(waiting or (None, ""))), 200, {"Cache-Control": "no-store"}

    def interrupt(self) -> dict[str, Any]:
        """End this caller's running jobs, and leave those that wait."""
        self.requests.interrupt([job.request for job in self.jobs.of(caller("limits"))])
        return {}


def _name_ignored(response: Response) -> Response:
    translation: Translation | None = g.get("translation")
    if translation is not None and translation.ignored:
        response.headers["X-Ignored-Fields"] = ignored_header(translation.ignored)
    return response


def _option_problems(given: Mapping[str, object], known: Mapping[str, object]) -> list[Problem]:
    """Programs send back what they were given; the hash is that of the model before, or of the next."""
    problems = []
    for name, value in given.items():
        if name not in known:
            problems.append(Problem(field=name[:80], message="is not an option that can be set here; leave it out"))
        elif value != known[name] and name != "sd_checkpoint_hash":
            problems.append(Problem(field=name, message=f"cannot be changed here; it is {json.dumps(known[name])}"))
    return problems


def _texts(value: object) -> dict[str, str]:
    """:raises InvalidParamsError: the value is not a picture."""
    if value is None:
        raise InvalidParamsError([Problem(field="image", message="is required")])
    try:
        if not isinstance(value, str | bytes):
            raise PictureError("must be a picture as base64 or as a data URI", received="something else")
        data = decode_base64(value) if isinstance(value, str) else value
        file = read_file(data)
    except PictureError as error:
        problem = Problem(field="image", message=error.message, received=error.received)
        raise InvalidParamsError([problem]) from error
    if file.format == "PNG":
        return read_texts(data, file.chunks)
    comment = user_comment(file.exif)
    return {} if comment is None else {PARAMETERS: comment}


def _is_latent(upscaler: str) -> bool:
    """A1111 lists them on a route of their own; all are called so."""
    return upscaler.startswith("Latent")


def _null() -> Response:
    return Response("null", mimetype="application/json")
