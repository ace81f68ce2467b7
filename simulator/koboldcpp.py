"""KoboldCpp: stable-diffusion.cpp inside a server of its own, which clamps in silence and paints one picture a job."""

import contextlib
import hashlib
import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from simulator.pictures import encode
from simulator.sdcpp import API, HASH, SdCpp, answer_json
from simulator.sdcpp_plan import Plan, first_picture, grey_picture, size_step
from simulator.webui import REFERENCE_PIXELS
from simulator.wire import Request, Response

MOST_WAITING = 10
MOST_STEPS = 80
MOST_CFG = 25.0
SMALLEST_SIDE = 64
#: Sides of the largest square; by area, so that one side may be longer. What is called like them is SD 1 or 2.
SD1_LIMIT, OTHER_LIMIT = 832, 1024
SD1_NAMES = ("v1-", "v2-", "sd15", "dreamshaper_8")
DEFAULT_SAMPLER = "euler_a"
#: Name, stable-diffusion.cpp's name, further aliases.
SAMPLERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("default", "default", ()),
    ("Euler", "euler", ("k_euler",)),
    ("Euler a", "euler_a", ("k_euler_a", "k_euler_ancestral")),
    ("Heun", "heun", ("k_heun",)),
    ("DPM2", "dpm2", ("k_dpm_2",)),
    ("DPM++ 2S a", "dpm++2s_a", ("k_dpmpp_2s_a",)),
    ("DPM++ 2M", "dpm++2m", ("k_dpmpp_2m", "DPM++ 2M Karras")),
    ("dpm++2mv2", "dpm++2mv2", ()),
    ("ipndm", "ipndm", ()),
    ("ipndm_v", "ipndm_v", ()),
    ("LCM", "lcm", ("k_lcm",)),
    ("DDIM", "ddim_trailing", ("ddim",)),
    ("tcd", "tcd", ()),
    ("res_multistep", "res_multistep", ()),
    ("res_2s", "res_2s", ()),
    ("er_sde", "er_sde", ()),
)
SCHEDULERS = (
    *("default", "discrete", "karras", "exponential", "ays", "gits", "sgm_uniform", "simple", "smoothstep"),
    *("kl_optimal", "lcm", "bong_tangent", "beta"),
)
NO_ROUTE = b"Error: KoboldCpp HTTP Server is running, but this endpoint does not exist. Please check the URL."
BUSY = {"detail": {"msg": "Server is busy; please try again later.", "type": "service_unavailable"}}
BAD_INPUT = {"detail": {"msg": "Error parsing input.", "type": "bad_input"}}
LOOK_S = 0.02


class KoboldCpp(SdCpp):
    """
    :param version: before 1.121 it tells no progress, and paints on for a client that has gone.
    """

    name = "koboldcpp"
    connection_threads = None
    http_version = "1.0"

    def __init__(self, *, model: str, step_s: float, version: str) -> None:
        self._version = version
        self._modern = version >= "1.121"
        self._waiting = 0
        self._mutex = threading.Lock()
        self._genkey: str | None = None
        super().__init__(model=model, step_s=step_s)
        del self._get["/sdcpp/v1/capabilities"]

    def _lists(self) -> dict[str, object]:
        stem = PurePosixPath(self._model).stem
        shown = "".join(letter for letter in stem if letter not in " ()[]")
        model = {"config": None, "filename": self._model, "hash": HASH, "model_name": shown, "title": shown}
        extra = {"result": "KoboldCpp", "version": self._version, "protected": False, "llm": False, "txt2img": True}
        return {
            f"{API}samplers": [
                {"name": name, "aliases": [own, *aliases], "options": {}} for name, own, aliases in SAMPLERS
            ],
            f"{API}schedulers": [{"name": name, "label": name} for name in SCHEDULERS],
            f"{API}loras": [],
            f"{API}upscalers": [],
            f"{API}latent-upscale-modes": [],
            f"{API}options": {"samples_format": "png", "sd_model_checkpoint": shown, "simulator": True},
            f"{API}sd-models": [{**model, "sha256": "8" * 64}],
            "/api/extra/version": extra,
        }

    def dress(self, request: Request, response: Response, seconds: float) -> Response:
        """See `Flavour.dress`."""
        first = ("Server", "ConcedoLlamaForKoboldServer"), ("Access-Control-Allow-Origin", "*")
        return replace(response, headers=(*first, *response.headers))

    def _route(self, request: Request) -> Response:
        if request.method in ("GET", "HEAD"):
            if request.path == f"{API}progress" and self._modern:
                return answer_json(self._progress_of(request.head.query.get("genkey", "")))
            return self._get.get(request.path, _missing())
        if request.method == "OPTIONS":
            return Response(status=200)
        with self._turn() as entered:
            if not entered:
                return answer_json(BUSY, 503)
            if request.path not in (f"{API}txt2img", f"{API}img2img"):
                return _missing()  # a POST has waited for its turn before its path is looked at
            try:
                body = json.loads(request.body)
            except ValueError:
                return answer_json(BAD_INPUT, 500)
            return self._paint(request, body, with_pictures=request.path.endswith("img2img"))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """False at once where as many wait as may."""
        with self._mutex:
            full = self._waiting > MOST_WAITING
            self._waiting += not full
        if full:
            yield False
            return
        try:
            with self._queue.turn():
                yield True
        finally:
            with self._mutex:
                self._waiting -= 1

    def _progress_of(self, genkey: str) -> dict[str, Any]:
        now = self._progress.snapshot()
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
        stamp = time.strftime("%Y%m%d%H%M%S")
        plan = self._plan(body, with_pictures=with_pictures)
        if plan is None:
            return _answer("", {"job_timestamp": stamp})
        step_s = self._step_s * plan.width * plan.height / REFERENCE_PIXELS
        self._progress.begin("generate")
        self._progress.plan(1)
        self._genkey = str(body.get("genkey", ""))
        try:
            with self._watched(request):
                done = self._progress.sample(plan.steps, step_s, lambda _done: plan.paint(0, self._model))
        finally:
            self._genkey = None
            self._progress.end()
        if done < 1:
            return _answer("", {"job_timestamp": stamp})
        info = self._info(plan) | {"prompt": f"{plan.prompt}, ", "version": "KoboldCpp", "job_timestamp": stamp}
        picture = encode(plan.paint(0, self._model), "png", self._text(plan, 0))
        return _answer(picture.decode(), info)

    @contextlib.contextmanager
    def _watched(self, request: Request) -> Iterator[None]:
        """Newer versions stop as soon as nobody is there who waits for the picture."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_S):
                if request.client_has_gone():
                    self._progress.interrupt()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        if self._modern:
            watcher.start()
        try:
            yield
        finally:
            over.set()
            if self._modern:
                watcher.join()

    def _plan(self, body: Mapping[str, Any], *, with_pictures: bool) -> Plan | None:
        """None where a picture cannot be read; everything else is made to fit in silence."""
        init = mask = None
        if with_pictures:
            init = first_picture(body.get("init_images"))
            mask = grey_picture(body.get("mask")) if body.get("mask") else None
            if init is None:
                return None
        scheduler = str(body.get("scheduler") or "default").lower()
        width, height = self._fixed(int(_number(body, "width", 512)), int(_number(body, "height", 512)))
        digest = hashlib.sha256(repr((body.get("init_images"), body.get("mask"))).encode("utf-8", "replace"))
        seed = int(_number(body, "seed", -1))
        return Plan(
            prompt=self._cut(str(body.get("prompt", "high quality"))),
            negative_prompt=self._cut(str(body.get("negative_prompt", ""))),
            seed=(seed if seed >= 0 else 100_000 + int(time.time()) % 900_000) % 2**31,
            steps=int(min(max(1, _number(body, "steps", 20)), _number(body, "add_sd_step_limit", MOST_STEPS))),
            cfg_scale=min(max(1.0, _number(body, "cfg_scale", 5)), _number(body, "add_sd_cfg_limit", MOST_CFG)),
            sampler=_sampler(body.get("sampler_name")),
            scheduler=scheduler if scheduler in SCHEDULERS[1:] else "",
            width=width,
            height=height,
            batch_size=1,
            strength=min(1.0, max(0.0, _number(body, "denoising_strength", 0.6))) if with_pictures else None,
            clip_skip=int(_number(body, "clip_skip", -1)),
            scale=1.0,
            init=init,
            mask=mask and _inverted(mask, body.get("inpainting_mask_invert")),
            source_key=digest.hexdigest() if init else "",
            step=size_step(self._model),
        )

    def _cut(self, prompt: str) -> str:
        """As far as it fits into the library's buffer."""
        return prompt.encode()[: (3000 if self._modern else 2048) - 1].decode("utf-8", "ignore")

    def _fixed(self, width: int, height: int) -> tuple[int, int]:
        """A size as it is painted: within the model's area, in its shape, in its steps, down."""
        limit = SD1_LIMIT if self._model.lower().startswith(SD1_NAMES) else OTHER_LIMIT
        scale = min(1.0, math.sqrt(limit * limit / (width * height)))
        step = size_step(self._model)
        across, down = (max(SMALLEST_SIDE, int(side * scale + 1e-6) // step * step) for side in (width, height))
        return across, down


def _missing() -> Response:
    return Response(status=404, body=NO_ROUTE, headers=(("Content-Type", "text/html"),), has_length=False)


def _answer(picture: str, info: Mapping[str, Any]) -> Response:
    return answer_json({"images": [picture], "parameters": {}, "info": json.dumps(info), "animated": False})


def _number(body: Mapping[str, Any], field: str, default: float) -> float:
    value = body.get(field)
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError):
        return default


def _sampler(name: object) -> str:
    """stable-diffusion.cpp's name; the model's own where the name is none."""
    for listed, own, aliases in SAMPLERS[1:]:
        if name in (listed, own, *aliases):
            return own
    return DEFAULT_SAMPLER


def _inverted(mask: Image.Image, invert: object) -> Image.Image:
    return mask.point([255 - value for value in range(256)]) if invert else mask
