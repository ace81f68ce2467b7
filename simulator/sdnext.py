"""SD.Next: JPEG by default, other defaults, answers without a body, samplers without aliases, no model at times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simulator.a1111 import A1111
from simulator.application import Route, fixed_route
from simulator.checkpoints import Checkpoint
from simulator.controlnet import Effects, apply_adapters
from simulator.errors import CrashError
from simulator.flavour import API, Profile, Settings, json_response
from simulator.hires import SecondPass
from simulator.jobs import Job
from simulator.webui import WebUI
from simulator.wire import Request, Response

if TYPE_CHECKING:
    from PIL import Image


class UnloadedError(CrashError):
    """The job's model cannot be loaded, and the one before is not in memory any more."""


class SDNextWebUI(WebUI):
    """What was loaded is dropped before another file is read, and jobs load nothing where nothing is loaded."""

    def __init__(self, settings: Settings, profile: Profile) -> None:
        super().__init__(settings, profile)
        if settings.nothing_loaded:
            self._loaded = None
            self.options.set("sd_model_checkpoint", "model.safetensors")

    def has_model(self) -> bool:
        """After an attempt to load what the options name. Only to be called by whoever holds the queue."""
        if self._loaded is None:
            with suppress(CrashError):
                self.ensure_loaded()
        return self._loaded is not None

    def choose(self, name: str) -> None:
        """See `WebUI.choose`. Nothing happens where the option says so already, or where the file cannot be loaded."""
        if name != self.options.get("sd_model_checkpoint"):
            with suppress(UnloadedError):
                super().choose(name)

    def clip_skip(self, job: Job) -> int:
        """See `WebUI.clip_skip`. A field, and not an option."""
        return max(1, int(job.fields["clip_skip"] or 1))

    def effects(self, job: Job, second: SecondPass | None) -> Effects:
        """See `WebUI.effects`."""
        del second
        return apply_adapters(job.fields.get("ip_adapter") or [], self._profile, self.loaded.model_name)

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

    def make_webui(self) -> WebUI:
        return SDNextWebUI(self.settings, self.profile)

    def routes(self) -> Iterator[Route]:
        """See `A1111.routes`. An empty answer has no body at all."""
        for route in super().routes():
            yield _silent(route) if route.path.removeprefix(API) in self.profile["without_body"] else route

    def list_routes(self) -> Iterator[Route]:
        yield from super().list_routes()
        yield fixed_route(f"{API}ip-adapters", self.profile["ip_adapters"])
        yield Route(method="GET", path=f"{API}schedulers", handler=self.schedulers)

    def schedulers(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/schedulers: broken, because its first entry has no class and the answer's model wants one."""
        raise CrashError("ResponseValidationError", "1 validation errors:")

    def task(self, _request: Request, _body: object) -> Response:
        """POST /internal/progress: knows no job of the API by its id, and has the steps of whatever runs."""
        share = self.webui.progress.snapshot().share
        state = {"active": False, "queued": False, "completed": False, "progress": share, "eta": None}
        return json_response({**state, "live_preview": None, "id_live_preview": -1, "textinfo": ""})

    def img2img(self, request: Request, body: object) -> Response:
        """POST /sdapi/v1/img2img."""
        if self.read("img2img", body)["init_images"] is None:
            return json_response({"error": "Init image is none"}, 400)
        return super().img2img(request, body)

    def generate(self, kind: str, fields: dict[str, Any], mask: Image.Image | None) -> Response:
        """Nothing at all as long as nothing is loaded, and no pictures where the job's model cannot be loaded."""
        if "inpainting_fill" in fields:
            fields = {**fields, "inpainting_fill": 1}  # Read nowhere: what is under the mask stays.
        with self.webui.queue.held():
            has_model = self.webui.has_model()
        info = '{"index_of_first_image": 0, "infotexts": []}' if has_model else ""
        if has_model:
            with suppress(UnloadedError):
                return super().generate(kind, fields, mask)
        return json_response({"images": [], "parameters": fields, "info": info})

    def model_entry(self, one: Checkpoint) -> dict[str, Any]:
        return {**super().model_entry(one), "type": "safetensors"}

    def options_set(self, changed: dict[str, Any]) -> Response:
        """What was changed."""
        return json_response({"updated": [{key: True} for key in changed]})


def _silent(route: Route) -> Route:
    def handler(request: Request, body: object) -> Response:
        route.handler(request, body)
        return Response(status=204)

    return replace(route, handler=handler)
