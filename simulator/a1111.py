"""AUTOMATIC1111 1.10.1 in web-UI mode: its routes under /sdapi/v1 and /internal."""

import random
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from simulator import catalogue
from simulator.application import Application, Route, empty_object, fixed_route, json_bytes, json_response
from simulator.errors import HTTPError, InvalidError
from simulator.fields import TRUE_WORDS, Field, PydanticV1, Reader
from simulator.forms import IMG2IMG_FIELDS, TXT2IMG_FIELDS, check_checkpoints, check_scripts, job_of, with_source
from simulator.infotext import parse_infotext
from simulator.pictures import decode, encode, generation_text
from simulator.samplers import SamplerTable, SplitSamplers
from simulator.webui import Result, WebUI, model_not_found
from simulator.wire import Request, Response

API = "/sdapi/v1/"
TASK_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
TASK_FIELDS = (
    Field("id_task", "str", None),
    Field("id_live_preview", "int", -1),
    Field("live_preview", "bool", True),
)
IMAGE_FIELDS = (Field("image", "str", "", nullable=False),)
PAGE = b"<!doctype html>\n<title>Stable Diffusion</title>\n<p>A simulated WebUI: it paints without a model.</p>\n"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """
    How a server was started. `device` is "gpu" or "cpu", `auth` is `user:password`, times in seconds.

    `has_page`: False for --nowebui, which has nothing below /internal.
    """

    device: str
    auth: str | None
    startup_s: float
    has_page: bool = True


class A1111(Application):
    """The last release."""

    name = "a1111"
    reader: Reader = PydanticV1()
    samplers: SamplerTable = SplitSamplers()
    txt2img_fields = TXT2IMG_FIELDS
    img2img_fields = IMG2IMG_FIELDS
    missing: frozenset[str] = frozenset()
    """Routes that this version does not have: names below /sdapi/v1, other paths in full."""

    def __init__(self, webui: WebUI, setup: Setup, source: random.Random) -> None:
        self.webui = webui
        self._device = setup.device
        self._has_page = setup.has_page
        self._random = source
        super().__init__(auth=setup.auth, startup_s=setup.startup_s)

    def close(self) -> None:
        """See `Flavour.close`."""
        self.webui.close()

    def crash(self, name: str, text: str) -> Response:
        """See `Flavour.crash`."""
        body = {"error": name, "detail": "", "body": "", "errors": text}
        return replace(json_response(body, 500), crashed=True)

    def refuse(self, status: int, detail: str) -> Response:
        """See `Flavour.refuse`."""
        return json_response({"error": "HTTPException", "detail": detail, "body": "", "errors": ""}, status)

    def routes(self) -> list[Route]:
        """See `Application.routes`."""
        routes = [*self.generation_routes(), *self.list_routes(), *self.control_routes(), *self.page_routes()]
        return [route for route in routes if self._has(route)]

    def _has(self, route: Route) -> bool:
        if route.path.startswith("/internal/") and not self._has_page:
            return False
        return route.path.removeprefix(API) not in self.missing

    def generation_routes(self) -> list[Route]:
        """What paints or looks at pictures."""
        return [
            Route(method="POST", path=f"{API}txt2img", handler=self.txt2img, body=True),
            Route(method="POST", path=f"{API}img2img", handler=self.img2img, body=True),
            Route(method="POST", path=f"{API}png-info", handler=self.png_info, body=True),
        ]

    def lists(self) -> dict[str, Any]:
        """The lists that never change, by their route's name."""
        return {
            "samplers": [one.as_dict() for one in self.samplers.samplers],
            "schedulers": [one.as_dict() for one in self.samplers.schedulers],
            **catalogue.LISTS,
        }

    def list_routes(self) -> list[Route]:
        """What a client may choose from."""
        routes = [fixed_route(f"{API}{name}", value) for name, value in self.lists().items()]
        routes += [
            Route(method="GET", path=f"{API}sd-models", handler=self.sd_models),
            fixed_route(f"{API}loras", [catalogue.LORA], protected=False),
            fixed_route(f"{API}refresh-loras", None, method="POST", protected=False),
        ]
        names = ("refresh-checkpoints", "refresh-vae", "refresh-embeddings")
        return routes + [Route(method="POST", path=f"{API}{name}", handler=self.refresh) for name in names]

    def control_routes(self) -> list[Route]:
        """What watches and steers."""
        return [
            Route(method="GET", path=f"{API}progress", handler=self.progress),
            Route(method="POST", path=f"{API}interrupt", handler=self.interrupt),
            Route(method="POST", path=f"{API}skip", handler=self.skip),
            Route(method="GET", path=f"{API}options", handler=self.get_options),
            Route(method="POST", path=f"{API}options", handler=self.set_options, body=True),
            Route(method="GET", path=f"{API}cmd-flags", handler=self.cmd_flags),
            Route(method="GET", path=f"{API}memory", handler=self.memory),
            Route(method="POST", path=f"{API}unload-checkpoint", handler=empty_object),
            Route(method="POST", path=f"{API}reload-checkpoint", handler=empty_object),
        ]

    def page_routes(self) -> list[Route]:
        """What is there without authentication, and most of it only with the web interface."""
        return [
            Route(method="GET", path="/internal/ping", handler=empty_object, protected=False),
            Route(method="GET", path="/internal/pending-tasks", handler=self.pending, protected=False),
            Route(method="POST", path="/internal/progress", handler=self.task, body=True, protected=False),
            Route(method="GET", path="/openapi.json", handler=self.openapi, protected=False, on_event_loop=True),
            Route(method="GET", path="/", handler=self.page, protected=False, on_event_loop=True),
            Route(method="HEAD", path="/", handler=self.page, protected=False, on_event_loop=True),
        ]

    def txt2img(self, _request: Request, body: object) -> Response:
        """POST /sdapi/v1/txt2img."""
        fields = self.reader.read(self.txt2img_fields, body)
        return self.generate("txt2img", fields, mask=None)

    def img2img(self, _request: Request, body: object) -> Response:
        """POST /sdapi/v1/img2img."""
        fields = self.reader.read(self.img2img_fields, body)
        if fields["init_images"] is None:
            raise HTTPError(404, "Init image not found")
        # The mask is decoded before the queue, the init images after it.
        return self.generate("img2img", fields, mask=decode(fields["mask"]) if fields["mask"] else None)

    def generate(self, kind: str, fields: dict[str, Any], mask: Image.Image | None) -> Response:
        """Queue, run, paint, answer."""
        check_scripts(fields, kind)
        sampling = self.samplers.resolve(fields["sampler_name"] or fields["sampler_index"], fields.get("scheduler"))
        task = fields.get("force_task_id") or self._new_task(kind)
        self.webui.tasks.add(task)
        with self.webui.queue.turn():
            job = job_of(f"scripts_{kind}", fields, sampling, self._random)
            check_checkpoints(fields, self.webui.checkpoints)
            if kind == "img2img":
                # A bad init image has waited its whole turn, and its task is never tidied up.
                job = with_source(job, fields, mask)
            result = self.webui.run(job, task)
        images = self.webui.pictures(result) if fields["send_images"] else []
        if not fields.get("include_init_images", True):
            fields = {**fields, "init_images": None, "mask": None}
        return self.generated(images, fields, result)

    def generated(self, images: list[bytes], fields: dict[str, Any], result: Result) -> Response:
        """The answer; put together from bytes, because the pictures are megabytes."""
        quoted = b",".join(b'"' + image + b'"' for image in images)
        tail = b'],"parameters":' + json_bytes(fields) + b',"info":' + json_bytes(result.info.as_json()) + b"}"
        headers = (("content-type", "application/json"),)
        return Response(status=200, body=b'{"images":[' + quoted + tail, headers=headers)

    def _new_task(self, kind: str) -> str:
        letters = "".join(self._random.choices(TASK_LETTERS, k=7))
        return f"task({kind}-{letters})"

    def png_info(self, _request: Request, body: object) -> Response:
        """POST /sdapi/v1/png-info."""
        text = generation_text(decode(self.reader.read(IMAGE_FIELDS, body)["image"]))
        return json_response({"info": text, "items": {}, "parameters": parse_infotext(text)})

    def sd_models(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/sd-models."""
        return json_response([self.model_entry(one) for one in self.webui.checkpoints])

    def model_entry(self, one: Any) -> dict[str, Any]:
        """One model file; hash and sha256 are null until it was loaded once."""
        known = self.webui.checkpoints.knows_hash(one)
        return {
            "title": self.webui.checkpoints.title(one),
            "model_name": one.model_name,
            "hash": one.short_hash if known else None,
            "sha256": one.sha256 if known else None,
            "filename": one.path,
            "config": None,
        }

    def refresh(self, _request: Request, _body: None) -> Response:
        """POST /sdapi/v1/refresh-…: waits behind the running job."""
        with self.webui.queue.turn():
            return json_response(None)

    def get_options(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/options, and the one word by which a client can tell: this is no real one."""
        return json_response({**self.webui.options.all(), "simulator": True})

    def set_options(self, _request: Request, body: object) -> Response:
        """POST /sdapi/v1/options: an unknown model is refused before anything is set, an unknown key when it is met."""
        if not isinstance(body, dict):
            raise InvalidError({"loc": ["body"], "msg": "value is not a valid dict", "type": "type_error.dict"})
        name = body.get("sd_model_checkpoint")
        if name is not None and not self.webui.checkpoints.find(str(name)):
            raise model_not_found(str(name))
        for key, value in body.items():
            if key == "sd_model_checkpoint" and value is not None:
                self.choose(str(value))
            else:
                self.webui.options.set(key, value)
        return self.options_set(body)

    def choose(self, name: str) -> None:
        """Change the model: blocks until it is loaded."""
        self.webui.choose(name)

    def options_set(self, _changed: dict[str, Any]) -> Response:
        """What POST options answers."""
        return json_response(None)

    def cmd_flags(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/cmd-flags: shows the password, as the real one does."""
        return json_response({**catalogue.CMD_FLAGS, "api_auth": self._auth})

    def memory(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/memory."""
        return json_response(catalogue.memory(self._device, running=self.webui.progress.running))

    def progress(self, request: Request, _body: None) -> Response:
        """GET /sdapi/v1/progress: of whatever job runs."""
        values = self.progress_values()
        if request.head.query.get("skip_current_image", "").lower() in TRUE_WORDS:
            values["current_image"] = None
        return json_response(values)

    def progress_values(self) -> dict[str, Any]:
        """How far the running job is."""
        now = self.webui.progress.snapshot()
        return {
            "progress": now.share,
            "eta_relative": now.eta_s,
            "state": now.state,
            "current_image": encode(now.preview, "png", "").decode() if now.preview else None,
            "textinfo": None,
        }

    def interrupt(self, _request: Request, _body: None) -> Response:
        """POST /sdapi/v1/interrupt: whoever's job it is."""
        self.webui.progress.interrupt()
        return json_response({})

    def skip(self, _request: Request, _body: None) -> Response:
        """POST /sdapi/v1/skip."""
        self.webui.progress.skip()
        return json_response(None)

    def pending(self, _request: Request, _body: None) -> Response:
        """GET /internal/pending-tasks."""
        tasks = self.webui.tasks.pending()
        return json_response({"size": len(tasks), "tasks": tasks})

    def task(self, _request: Request, body: object) -> Response:
        """POST /internal/progress: of one task."""
        fields = self.reader.read(TASK_FIELDS, body)
        task = fields["id_task"] or ""
        active, queued, completed = self.webui.tasks.status(task)
        now = self.webui.progress.snapshot()
        preview = encode(now.preview, "png", "").decode() if active and now.preview and fields["live_preview"] else None
        pending = self.webui.tasks.pending()
        waiting = f"In queue: {pending.index(task) + 1}/{len(pending)}" if task in pending else "Waiting..."
        return json_response(
            {
                "active": active,
                "queued": queued,
                "completed": completed,
                "progress": now.share if active else None,
                "eta": now.eta_s if active and now.share else None,
                "live_preview": f"data:image/png;base64,{preview}" if preview else None,
                "id_live_preview": 1 if preview else -1,
                "textinfo": None if active else waiting,
            }
        )

    def openapi(self, _request: Request, _body: None) -> Response:
        """GET /openapi.json: the paths and nothing of the schemas."""
        paths = {path: {method: dict[str, Any]() for method in methods} for path, methods in self.paths.items()}
        info = {"title": "FastAPI", "version": "0.1.0"}
        return json_response({"openapi": "3.0.2", "info": info, "paths": paths, "components": {}})

    def page(self, _request: Request, _body: None) -> Response:
        """GET /: stands for the web interface."""
        return Response(status=200, body=PAGE, headers=(("content-type", "text/html; charset=utf-8"),))
