"""SD.Next: JPEG by default, other defaults, answers without a body, samplers without aliases, no model at times."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from PIL import Image

from simulator.a1111 import A1111, API
from simulator.application import Route, fixed_route, json_response
from simulator.errors import CrashError, HTTPError
from simulator.fields import Field
from simulator.forms import IMG2IMG_FIELDS, TXT2IMG_FIELDS
from simulator.samplers import Sampler, SamplerTable, Sampling, Scheduler
from simulator.webui import WebUI
from simulator.wire import Request, Response

DEFAULT_SAMPLER = "Default"
NAMES = ("Default", "UniPC", "DDIM", "Euler", "Euler a", "Heun", "DPM++ 2M", "DPM++ 2M SDE", "DPM SDE", "LCM", "PNDM")
CHANGED_DEFAULTS = {
    "sampler_index": DEFAULT_SAMPLER,
    "steps": 20,
    "cfg_scale": 6.0,
    "width": 1024,
    "height": 1024,
    "inpaint_full_res": False,
}
DROPPED = frozenset({"scheduler", "hr_scheduler", "infotext"})
NO_CONTENT = ("interrupt", "skip", "refresh-checkpoints", "refresh-vae", "unload-checkpoint", "reload-checkpoint")


def with_defaults(fields: tuple[Field, ...], changed: dict[str, Any]) -> tuple[Field, ...]:
    """A1111's fields with SD.Next's defaults."""
    kept = (field for field in fields if field.name not in DROPPED)
    return tuple(replace(field, default=changed.get(field.name, field.default)) for field in kept)


class SDNextSamplers(SamplerTable):
    """Names in any case; anything else is a 404."""

    samplers = tuple(Sampler(name, "") for name in NAMES)
    schedulers: tuple[Scheduler, ...] = ()

    def resolve(self, name: str, scheduler: str | None) -> Sampling:
        """See `SamplerTable.resolve`; there is no scheduler apart from the sampler.

        :raises HTTPError: no such sampler.
        """
        for one in NAMES:
            if one.lower() == name.lower():
                return Sampling(sampler=one, schedule=None)
        raise HTTPError(404, "Sampler not found")


class UnloadedError(CrashError):
    """The job's model cannot be loaded, and the one before is not in memory any more."""


class SDNextWebUI(WebUI):
    """What was loaded is dropped before another file is read, and jobs load nothing where nothing is loaded.

    :param nothing_loaded: as it starts without a saved choice of model: the option names a file that is not there.
    """

    def __init__(self, *, nothing_loaded: bool, **settings: Any) -> None:
        super().__init__(**settings)
        if nothing_loaded:
            self._loaded = None
            self.options.set("sd_model_checkpoint", "model.safetensors")

    def has_model(self) -> bool:
        """After an attempt to load what the options name. Only to be called by whoever holds the queue."""
        if self._loaded is None:
            with suppress(CrashError):
                self.ensure_loaded()
        return self._loaded is not None

    def ensure_loaded(self) -> None:
        """See `WebUI.ensure_loaded`.

        :raises UnloadedError: it cannot be loaded; nothing is in memory then.
        """
        wanted = self.wanted()
        if wanted != self._loaded:
            self._loaded = None
            try:
                self.load(wanted, refusal=("SafetensorError", ""))
            except CrashError as error:
                raise UnloadedError(error.name, "") from None


class SDNext(A1111):
    """vladmandic's fork."""

    webui: SDNextWebUI
    name = "sdnext"
    samplers = SDNextSamplers()
    txt2img_fields = with_defaults(TXT2IMG_FIELDS, CHANGED_DEFAULTS)
    img2img_fields = with_defaults(IMG2IMG_FIELDS, {**CHANGED_DEFAULTS, "denoising_strength": 0.5})
    missing = frozenset({"latent-upscale-modes", "realesrgan-models", "refresh-embeddings"})

    def lists(self) -> dict[str, Any]:
        """See `A1111.lists`."""
        lists = super().lists()
        del lists["schedulers"]
        return {
            **lists,
            "samplers": [{"name": name, "options": {}} for name in NAMES],
            "embeddings": {"loaded": [], "skipped": []},
        }

    def list_routes(self) -> list[Route]:
        """And what only SD.Next has."""
        version = fixed_route(f"{API}version", {"app": "sd.next", "updated": "2026-01-01", "hash": "00000000"})
        status = Route(method="GET", path=f"{API}status", handler=self.status)
        checkpoint = Route(method="GET", path=f"{API}checkpoint", handler=self.checkpoint)
        schedulers = Route(method="GET", path=f"{API}schedulers", handler=self.schedulers)
        return [*super().list_routes(), version, status, checkpoint, schedulers]

    def routes(self) -> list[Route]:
        """Only /internal/progress of the page's routes, and no body where nothing is to be said."""
        left_out = ("/internal/ping", "/internal/pending-tasks")
        return [_silent(route) for route in super().routes() if route.path not in left_out]

    def task(self, _request: Request, _body: object) -> Response:
        """POST /internal/progress: knows no job of the API by its id, and has the steps of whatever runs."""
        now = self.webui.progress.snapshot()
        told = {"active": False, "queued": False, "completed": False, "progress": now.share, "eta": None}
        return json_response({**told, "live_preview": None, "id_live_preview": -1, "textinfo": ""})

    def crash(self, name: str, text: str) -> Response:
        """See `Flavour.crash`."""
        body = {"error": name, "code": 500, "detail": "", "body": "", "errors": text}
        return replace(json_response(body, 500), crashed=True)

    def refuse(self, status: int, detail: str) -> Response:
        """See `Flavour.refuse`."""
        body = {"error": "HTTPException", "code": status, "detail": detail, "body": "", "errors": ""}
        return json_response(body, status)

    def img2img(self, request: Request, body: object) -> Response:
        """POST /sdapi/v1/img2img."""
        if self.reader.read(self.img2img_fields, body)["init_images"] is None:
            return json_response({"error": "Init image is none"}, 400)
        return super().img2img(request, body)

    def generate(self, kind: str, fields: dict[str, Any], mask: Image.Image | None) -> Response:
        """Nothing at all as long as nothing is loaded, and no pictures where the job's model cannot be loaded."""
        if "inpainting_fill" in fields:
            fields = {**fields, "inpainting_fill": 1}  # read nowhere: what is under the mask stays
        with self.webui.queue.turn():
            has_model = self.webui.has_model()
        info = '{"index_of_first_image": 0, "infotexts": []}' if has_model else ""
        if has_model:
            with suppress(UnloadedError):
                return super().generate(kind, fields, mask)
        return json_response({"images": [], "parameters": fields, "info": info})

    def choose(self, name: str) -> None:
        """Nothing happens where the option says so already; 200 as well where the file cannot be loaded."""
        if name != self.webui.options.get("sd_model_checkpoint"):
            with suppress(UnloadedError):
                super().choose(name)

    def model_entry(self, one: Any) -> dict[str, Any]:
        """With the file's type."""
        return {**super().model_entry(one), "type": "safetensors"}

    def options_set(self, changed: dict[str, Any]) -> Response:
        """What was changed."""
        return json_response({"updated": [{key: True} for key in changed]})

    def status(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/status."""
        now = self.webui.progress.snapshot()
        running = bool(now.state["job_count"])
        return json_response(
            {
                "status": "running" if running else "idle",
                "task": now.state["job"],
                "progress": now.share,
                "step": now.state["sampling_step"],
                "steps": now.state["sampling_steps"],
            }
        )

    def schedulers(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/schedulers: broken, because its first entry has no class and the answer's model wants one."""
        raise CrashError("ResponseValidationError", "1 validation errors:")

    def checkpoint(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/checkpoint."""
        return json_response(self.model_entry(self.webui.loaded))

    def progress_values(self) -> dict[str, Any]:
        """With the job's id."""
        values = super().progress_values()
        return {"id": values["state"]["job_timestamp"], **values}


def _silent(route: Route) -> Route:
    if route.path.removeprefix(API) not in NO_CONTENT:
        return route

    def handler(request: Request, body: object) -> Response:
        route.handler(request, body)
        return Response(status=204)

    return replace(route, handler=handler)
