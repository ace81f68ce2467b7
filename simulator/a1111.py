"""AUTOMATIC1111: its routes under /sdapi/v1 and /internal. Profiles distinguish 1.10.1 from 1.6."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from simulator.application import Application, Route, fixed_route
from simulator.checkpoints import Checkpoint
from simulator.controlnet import lists, units_of
from simulator.errors import CrashError, HTTPError, InvalidError
from simulator.fields import EXTRAS_FIELDS, Field, check_factor, fields_of, read_fields
from simulator.flavour import API, Settings, enlarged, generated, json_response
from simulator.hires import FAKE_UPSCALER
from simulator.jobs import Job, check_sde_steps, check_steps, job_of
from simulator.samplers import JoinedSamplers, Samplers, SplitSamplers
from simulator.webui import Result, WebUI
from simulator.wire import Request, Response

if TYPE_CHECKING:
    from PIL import Image

TASK_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
TASK_FIELDS = (Field("id_task", "str", None, nullable=True),)
UNPROTECTED_LISTS = ("loras",)


class A1111WebUI(WebUI):
    """With A1111's own copy of k-diffusion."""

    def check_steps(self, job: Job) -> None:
        check_steps(job)
        check_sde_steps(job)


class A1111(Application):
    """The server in web-UI mode."""

    webui: WebUI

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.webui = self.make_webui()
        joined = self.profile["joined_samplers"]
        self.samplers: Samplers = JoinedSamplers(self.profile) if joined else SplitSamplers(self.profile)
        self._fields = {kind: fields_of(self.profile, kind) for kind in ("txt2img", "img2img")}

    def make_webui(self) -> WebUI:
        """The state behind the API."""
        return A1111WebUI(self.settings, self.profile)

    def close(self) -> None:
        self.webui.close()

    def routes(self) -> Iterator[Route]:
        missing = self.profile["missing_routes"]
        for route in (*self.generation_routes(), *self.list_routes(), *self.control_routes(), *self.page_routes()):
            if route.path.removeprefix(API) not in missing:
                yield route

    def generation_routes(self) -> Iterator[Route]:
        """What paints."""
        yield Route(method="POST", path=f"{API}txt2img", handler=self.txt2img, body=True)
        yield Route(method="POST", path=f"{API}img2img", handler=self.img2img, body=True)
        yield Route(method="POST", path=f"{API}extra-single-image", handler=self.extra_single_image, body=True)

    def list_routes(self) -> Iterator[Route]:
        """What a client may choose from."""
        paths = self.profile["upscaler_paths"]
        upscalers = [
            {"name": name, "model_name": None, "model_path": paths.get(name), "model_url": None, "scale": scale}
            for name, scale in self.profile["upscalers"].items()
        ]
        choices = {**self.profile["lists"], "upscalers": upscalers, "samplers": self.samplers.samplers}
        if isinstance(self.samplers, SplitSamplers):
            choices["schedulers"] = self.samplers.schedulers
        for name, value in choices.items():
            yield fixed_route(f"{API}{name}", value, protected=name not in UNPROTECTED_LISTS)
        yield Route(method="GET", path=f"{API}sd-models", handler=self.sd_models)
        for path, value in lists(self.webui.controlnet, self.profile):
            yield fixed_route(path, value)
        yield fixed_route(f"{API}scripts", dict.fromkeys(("txt2img", "img2img"), self.webui.scripts))

    def control_routes(self) -> Iterator[Route]:
        """What watches and steers."""
        yield Route(method="GET", path=f"{API}progress", handler=self.progress)
        yield Route(method="POST", path=f"{API}interrupt", handler=self.interrupt)
        yield Route(method="POST", path=f"{API}skip", handler=self.skip)
        yield Route(method="GET", path=f"{API}options", handler=self.get_options)
        yield Route(method="POST", path=f"{API}options", handler=self.set_options, body=True)
        yield Route(method="GET", path=f"{API}memory", handler=self.memory)

    def page_routes(self) -> Iterator[Route]:
        """What is there without authentication, and only with the web interface."""
        if self.settings.has_page:
            route = partial(Route, protected=False)
            yield route(method="GET", path="/internal/ping", handler=lambda _request, _body: json_response({}))
            yield route(method="POST", path="/internal/progress", handler=self.task, body=True)
            if self.webui.controlnet != "forge-nosysinfo":
                yield route(method="GET", path="/internal/sysinfo", handler=self.sysinfo)

    def read(self, kind: str, body: object) -> dict[str, Any]:
        """The body's fields.

        :raises InvalidError: one is of the wrong type.
        """
        return read_fields(self._fields[kind], body, echoes=self.profile["echoes_values"])

    def txt2img(self, _request: Request, body: object) -> Response:
        """POST /sdapi/v1/txt2img."""
        return self.generate("txt2img", self.read("txt2img", body), mask=None)

    def img2img(self, _request: Request, body: object) -> Response:
        """POST /sdapi/v1/img2img."""
        from simulator.pictures import decode  # Pillow is half of a simulator's start.

        fields = self.read("img2img", body)
        if fields["init_images"] is None:
            raise HTTPError(404, "Init image not found")
        # The mask is decoded before the queue, the init images after it.
        return self.generate("img2img", fields, mask=decode(fields["mask"]) if fields["mask"] else None)

    def generate(self, kind: str, fields: dict[str, Any], mask: Image.Image | None) -> Response:
        """Queue, run, paint, answer."""
        from simulator.painting import source_of

        units_of(fields, self.webui.scripts)  # Before the queue.
        sampling = self.samplers.resolve(fields["sampler_name"] or fields["sampler_index"], fields.get("scheduler"))
        task = fields.get("force_task_id") or f"task({kind}-{''.join(random.choices(TASK_LETTERS, k=7))})"
        self.webui.tasks.add(task)
        with self.webui.queue.held():
            job = job_of(kind, fields, sampling)
            # A bad init image has waited in the queue, and its task is never tidied up.
            source = source_of(fields, mask) if kind == "img2img" else None
            result = self.webui.run(job, source, task)
        return self._generated(fields, result)

    def _generated(self, fields: dict[str, Any], result: Result) -> Response:
        images = self.webui.pictures(result) if fields["send_images"] else []
        if not fields.get("include_init_images", True):
            fields = {**fields, "init_images": None, "mask": None}
        return generated(images, {"parameters": fields, "info": result.info})

    def extra_single_image(self, _request: Request, body: object) -> Response:
        """POST /sdapi/v1/extra-single-image: has no task, and cannot be told from another job."""
        from simulator.extras import upscaled  # Pillow is half of a simulator's start.
        from simulator.pictures import decode, read

        fields = read_fields(EXTRAS_FIELDS, body, echoes=self.profile["echoes_values"])
        check_factor(fields, echoes=self.profile["echoes_values"])
        picture = decode(fields["image"])
        fake = isinstance(body, dict) and body.get(FAKE_UPSCALER) is True
        with self.webui.queue.held(), self.webui.enlarging():
            image, html_info = upscaled(read(picture), fields, self.profile, fake=fake)
        return enlarged(image, html_info)

    def sd_models(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/sd-models."""
        return json_response([self.model_entry(one) for one in self.webui.checkpoints])

    def model_entry(self, one: Checkpoint) -> dict[str, Any]:
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

    def get_options(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/options, and the one word by which a client recognises a simulator."""
        return json_response({**self.webui.options.all(), "simulator": True})

    def set_options(self, _request: Request, body: object) -> Response:
        """POST /sdapi/v1/options: an unknown model is refused before anything is set, an unknown key when it is met."""
        if not isinstance(body, dict):
            raise InvalidError({"loc": ["body"], "msg": "value is not a valid dict", "type": "type_error.dict"})
        name = body.get("sd_model_checkpoint")
        if name is not None and not self.webui.checkpoints.find(str(name)):
            raise CrashError("RuntimeError", f"model {name!r} not found")
        for key, value in body.items():
            if key == "sd_model_checkpoint" and value is not None:
                self.webui.choose(str(value))
            else:
                self.webui.options.set(key, value)
        return self.options_set(body)

    def options_set(self, _changed: dict[str, Any]) -> Response:
        """What POST options answers."""
        return json_response(None)

    def memory(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/memory, in bytes."""
        total, used = 25_276_063_744.0, 1_341_497_344
        ram = {"free": total - used, "used": used, "total": total}
        if self.settings.device == "cpu":
            return json_response({"ram": ram, "cuda": {"error": "unavailable"}})
        active = (5_400 if self.webui.progress.running else 2_150) << 20
        pool = {"current": active, "peak": 5_800 << 20}
        system = {"free": (8_192 << 20) - active, "used": active, "total": 8_192 << 20}
        kinds = dict.fromkeys(("active", "allocated", "reserved"), pool)
        return json_response({"ram": ram, "cuda": {"system": system, **kinds, "events": {"retries": 0, "oom": 0}}})

    def progress(self, _request: Request, _body: None) -> Response:
        """GET /sdapi/v1/progress: of whatever job runs, without a preview."""
        now = self.webui.progress.snapshot()
        steps = {"progress": now.share, "eta_relative": now.eta_s, "state": now.state}
        return json_response({**steps, "current_image": None, "textinfo": None})

    def interrupt(self, _request: Request, _body: None) -> Response:
        """POST /sdapi/v1/interrupt: whoever's job it is."""
        self.webui.progress.interrupt()
        return json_response({})

    def skip(self, _request: Request, _body: None) -> Response:
        """POST /sdapi/v1/skip."""
        self.webui.progress.skip()
        return json_response(None)

    def sysinfo(self, _request: Request, _body: None) -> Response:
        """GET /internal/sysinfo, of which only the exceptions matter."""
        return json_response({"Version": self.profile["version"], "Exceptions": list(self.webui.exceptions)})

    def task(self, _request: Request, body: object) -> Response:
        """POST /internal/progress: of one task."""
        fields = read_fields(TASK_FIELDS, body, echoes=self.profile["echoes_values"])
        active, queued, completed = self.webui.tasks.status(fields["id_task"] or "")
        now = self.webui.progress.snapshot()
        return json_response(
            {
                "active": active,
                "queued": queued,
                "completed": completed,
                "progress": now.share if active else None,
                "eta": now.eta_s if active and now.share else None,
                "live_preview": None,
                "id_live_preview": -1,
                "textinfo": None if active else "Waiting...",
            }
        )
