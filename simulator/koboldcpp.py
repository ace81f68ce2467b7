"""KoboldCpp: stable-diffusion.cpp in another server, which clamps in silence and paints one picture a job."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simulator.flavour import API, Settings, json_response
from simulator.sdcpp import SdCpp
from simulator.wire import Request, Response

if TYPE_CHECKING:
    from simulator.cpp_jobs import CppJob

MOST_WAITING = 10
MOST_STEPS = 80
MOST_CFG = 25.0
SMALLEST_SIDE = 64
#: Sides of the largest square; by area, so that one side may be longer. Names that begin like these are SD 1 or 2.
SD1_LIMIT, OTHER_LIMIT = 832, 1024
SD1_NAMES = ("v1-", "v2-", "sd15", "dreamshaper_8")
NO_ROUTE = b"Error: KoboldCpp HTTP Server is running, but this endpoint does not exist. Please check the URL."
MISSING = Response(status=404, body=NO_ROUTE, headers=(("Content-Type", "text/html"),), has_length=False)
BUSY = {"detail": {"msg": "Server is busy; please try again later.", "type": "service_unavailable"}}
BAD_INPUT = {"detail": {"msg": "Error parsing input.", "type": "bad_input"}}
LOOK_S = 0.02


class KoboldCpp(SdCpp):
    """Before 1.121 it reports no progress, and paints on for a client that has gone: `reports_progress`."""

    connection_threads = None
    http_version = "1.0"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._genkey: str | None = None
        # The one that is painted beside those that may wait.
        self._places = threading.BoundedSemaphore(MOST_WAITING + 1)

    def lists(self) -> dict[str, object]:
        profile = self.profile
        shown = "".join(letter for letter in self.stem if letter not in " ()[]")
        version = {"result": "KoboldCpp", "version": profile["version"], "protected": False, "txt2img": True}
        return {
            f"{API}samplers": [
                {"name": name, "aliases": aliases, "options": {}} for name, aliases in profile["aliases"].items()
            ],
            f"{API}schedulers": [{"name": name, "label": name} for name in profile["schedulers"]],
            **{f"{API}{name}": [] for name in ("loras", "upscalers", "latent-upscale-modes")},
            **self.model_lists(shown),
            "/api/extra/version": version,
        }

    def dress(self, request: Request, response: Response, seconds: float) -> Response:
        first = ("Server", "ConcedoLlamaForKoboldServer"), ("Access-Control-Allow-Origin", "*")
        return replace(response, headers=(*first, *response.headers))

    def route(self, request: Request) -> Response:
        """See `SdCpp.route`. A POST waits in the queue before its path is looked at."""
        if request.method != "POST":
            if request.path == f"{API}progress" and self.profile["reports_progress"]:
                return json_response(self._progress_of(request.query.get("genkey", "")))
            return self.pages.get(request.path, MISSING)
        if not self._places.acquire(blocking=False):
            return json_response(BUSY, 503)
        try:
            with self.queue.held():
                return self._post(request)
        finally:
            self._places.release()

    def _post(self, request: Request) -> Response:
        if request.path not in (f"{API}txt2img", f"{API}img2img"):
            return MISSING
        try:
            body = json.loads(request.body)
        except ValueError:
            return json_response(BAD_INPUT, 500)
        return self._paint(request, body, with_pictures=request.path.endswith("img2img"))

    def _progress_of(self, genkey: str) -> dict[str, Any]:
        now = self.progress.snapshot()
        running = bool(genkey) and genkey == self._genkey
        state = {"job_count": int(running), "job_no": 0, "interrupted": False, "skipped": False}
        steps = {key: now.state[key] if running else 0 for key in ("sampling_step", "sampling_steps")}
        return {
            "progress": now.share if running else 0.0,
            "eta_relative": now.eta_s if running else 0.0,
            "state": {**state, **steps},
            "current_image": None,
            "textinfo": None,
        }

    def _paint(self, request: Request, body: Mapping[str, Any], *, with_pictures: bool) -> Response:
        stamp = {"job_timestamp": time.strftime("%Y%m%d%H%M%S")}
        job = self._kobold_job(body, with_pictures=with_pictures)
        if job is None or self._sample(request, job, str(body.get("genkey", ""))) < 1:
            return _answer("", stamp)
        info = {**job.info(), "prompt": f"{job.prompt}, ", "version": "KoboldCpp", **stamp}
        return _answer(self.picture(job, 0).decode(), info)

    def _sample(self, request: Request, job: CppJob, genkey: str) -> float:
        self.progress.begin("generate")
        self.progress.plan(1)
        self._genkey = genkey
        try:
            with self._watched(request):
                return self.progress.sample(job.steps, self.step_time(job))
        finally:
            self._genkey = None
            self.progress.end()

    @contextlib.contextmanager
    def _watched(self, request: Request) -> Iterator[None]:
        """Newer versions stop as soon as nobody is there who waits for the picture."""
        if not self.profile["reports_progress"]:
            yield
            return
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_S):
                if request.client_has_gone():
                    self.progress.interrupt()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _kobold_job(self, body: Mapping[str, Any], *, with_pictures: bool) -> CppJob | None:
        """None where a picture cannot be read; everything else is made to fit in silence."""
        from simulator.cpp_jobs import CppJob, mask_of, picture_of, source_key

        images = body.get("init_images") or [None]
        init = picture_of(images[0]) if with_pictures else None
        if with_pictures and init is None:
            return None
        inverted = bool(body.get("inpainting_mask_invert"))
        scheduler = str(body.get("scheduler") or "default").lower()
        width, height = self._fitted(int(_number(body, "width", 512)), int(_number(body, "height", 512)))
        seed = int(_number(body, "seed", -1))
        return CppJob(
            model=self.model,
            prompt=self._cut(str(body.get("prompt", "high quality"))),
            negative_prompt=self._cut(str(body.get("negative_prompt", ""))),
            seed=(seed if seed >= 0 else 100_000 + int(time.time()) % 900_000) % 2**31,
            steps=int(min(max(1, _number(body, "steps", 20)), _number(body, "add_sd_step_limit", MOST_STEPS))),
            cfg_scale=min(max(1.0, _number(body, "cfg_scale", 5)), _number(body, "add_sd_cfg_limit", MOST_CFG)),
            sampler=self._sampler(body.get("sampler_name")),
            default_sampler=self.profile["default_sampler"],
            scheduler=scheduler if scheduler in self.profile["schedulers"][1:] else "",
            width=width,
            height=height,
            size_step=self.size_step,
            clip_skip=int(_number(body, "clip_skip", -1)),
            strength=min(1.0, max(0.0, _number(body, "denoising_strength", 0.6))) if with_pictures else None,
            init=init,
            mask=mask_of(body["mask"], inverted=inverted) if init and body.get("mask") else None,
            source_key=source_key(images, body.get("mask")) if init else "",
        )

    def _cut(self, prompt: str) -> str:
        """What fits into the library's buffer."""
        return prompt.encode()[: self.profile["kept_prompt_bytes"] - 1].decode("utf-8", "ignore")

    def _fitted(self, width: int, height: int) -> tuple[int, int]:
        """A size as it is painted: within the model's area, in its shape, in its steps, down."""
        limit = SD1_LIMIT if self.model.lower().startswith(SD1_NAMES) else OTHER_LIMIT
        scale = min(1.0, math.sqrt(limit * limit / (width * height)))
        step = self.size_step
        across, down = (max(SMALLEST_SIDE, int(side * scale + 1e-6) // step * step) for side in (width, height))
        return across, down

    def _sampler(self, name: object) -> str:
        """stable-diffusion.cpp's name; the model's own where it is unknown."""
        for listed, aliases in self.profile["aliases"].items():
            if name in (listed, *aliases) and listed != "default":
                return str(aliases[0])
        return str(self.profile["default_sampler"])


def _answer(picture: str, info: Mapping[str, Any]) -> Response:
    return json_response({"images": [picture], "parameters": {}, "info": json.dumps(info), "animated": False})


def _number(body: Mapping[str, Any], field: str, default: float) -> float:
    value = body.get(field)
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError):
        return default
