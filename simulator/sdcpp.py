"""stable-diffusion.cpp's server: one model, int32 seeds, sizes in the model's steps, nothing to watch or to stop."""

import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from simulator.application import Flavour
from simulator.pictures import encode
from simulator.progress import FIFOLock, Progress
from simulator.sdcpp_plan import (
    LATENT_MODES,
    LORAS,
    MAX_BATCH,
    SAMPLERS,
    SCHEDULERS,
    UPSCALERS,
    Plan,
    SdCppError,
    plan_of,
    read_body,
    size_step,
)
from simulator.webui import REFERENCE_PIXELS, VERSION, EncodedPictures
from simulator.wire import Request, Response

API = "/sdapi/v1/"
CONNECTION_THREADS = 8
HASH = "8888888888"
CORS = (
    ("Access-Control-Allow-Methods", "*"),
    ("Access-Control-Allow-Credentials", "true"),
    ("Access-Control-Allow-Headers", "*"),
)


def answer_json(value: object, status: int = 200) -> Response:
    """Keys sorted, as nlohmann::json writes them."""
    body = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Response(status=status, body=body.encode(), headers=(("Content-Type", "application/json"),))


class SdCpp(Flavour):
    """The server of August 2026.

    :param model: the file's name; one that begins like a DiT's (``flux``) is painted in that model's steps.
    :param step_s: seconds for one step of one image of 512x512.
    """

    name = "sdcpp"
    connection_threads: int | None = CONNECTION_THREADS
    length_header = "Content-Length"

    def __init__(self, *, model: str, step_s: float) -> None:
        self._model = model
        self._step_s = step_s
        self._queue = FIFOLock()
        self._progress = Progress()
        self._encoded = EncodedPictures()
        self._get = {path: answer_json(value) for path, value in self._lists().items()}
        page = b"Stable Diffusion Server is running"
        self._get["/"] = Response(status=200, body=page, headers=(("Content-Type", "text/html"),))
        self._get["/sdcpp/v1/capabilities"] = answer_json(self._native_capabilities())

    def _lists(self) -> dict[str, object]:
        stem = PurePosixPath(self._model).stem
        model = {"config": None, "filename": self._model, "hash": HASH, "model_name": stem, "title": stem}
        upscaler = {"model_name": None, "model_path": None, "model_url": None, "scale": 4}
        return {
            f"{API}samplers": [{"aliases": [name], "name": name, "options": {}} for name in SAMPLERS],
            f"{API}schedulers": [{"label": name, "name": name} for name in SCHEDULERS],
            f"{API}loras": list(LORAS),
            f"{API}upscalers": [{**upscaler, "name": name} for name in UPSCALERS],
            f"{API}latent-upscale-modes": [{"name": name} for name in LATENT_MODES],
            f"{API}options": {"samples_format": "png", "sd_model_checkpoint": stem, "simulator": True},
            f"{API}sd-models": [{**model, "sha256": "8" * 64}],
            "/v1/models": {"data": [{"id": "sd-cpp-local", "object": "model", "owned_by": "local"}]},
        }

    def _native_capabilities(self) -> dict[str, object]:
        """The part of the server's own API by which clients recognise it."""
        features = ("cache", "cancel_queued", "hires", "init_image", "lora", "mask_image", "ref_images", "vae_tiling")
        sides = {
            f"{bound}_{side}": size for bound, size in (("min", 64), ("max", 4096)) for side in ("width", "height")
        }
        return {
            "current_mode": "img_gen",
            "features": {**dict.fromkeys(features, True), "cancel_generating": False},
            "limits": {**sides, "max_batch_count": MAX_BATCH, "max_queue_size": 64},
            "loras": list(LORAS),
            "model": {"name": self._model, "path": self._model, "stem": PurePosixPath(self._model).stem},
            "samplers": list(SAMPLERS[1:]),
            "schedulers": list(SCHEDULERS[1:]),
            "upscalers": [{"name": name} for name in (*UPSCALERS, *LATENT_MODES)],
        }

    def close(self) -> None:
        """See `Flavour.close`."""
        self._queue.close()
        self._progress.close()

    def respond(self, request: Request) -> Response:
        """See `Flavour.respond`."""
        return self.dress(request, self._route(request), 0.0)

    def _route(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status=204, headers=(("Content-Length", "0"),))
        if request.method in ("GET", "HEAD") and request.path in self._get:
            return self._get[request.path]
        if request.method != "POST" or request.path not in (f"{API}txt2img", f"{API}img2img"):
            return Response(status=404)
        try:
            body = read_body(request.body)
            return self._generate(body, with_pictures=request.path.endswith("img2img"))
        except SdCppError as error:
            response = Response(status=error.status) if error.body is None else answer_json(error.body, error.status)
            return replace(response, headers=(*response.headers, *error.headers))

    def crash(self, name: str, text: str) -> Response:
        """See `Flavour.crash`; the class is not told."""
        return answer_json({"error": "server_error", "message": text}, 500)

    def refuse(self, status: int, detail: str) -> Response:
        """See `Flavour.refuse`."""
        return answer_json({"error": detail}, status)

    def dress(self, request: Request, response: Response, seconds: float) -> Response:
        """See `Flavour.dress`: any origin is welcome, errors close the connection."""
        first = ("Connection", "close") if response.status >= 400 else ("Keep-Alive", "timeout=5, max=100")
        origin = ("Access-Control-Allow-Origin", request.headers.get("origin", "*"))
        return replace(response, headers=(first, *response.headers, *CORS, origin))

    def _generate(self, body: dict[str, Any], *, with_pictures: bool) -> Response:
        plan = replace(plan_of(body, with_pictures=with_pictures), step=size_step(self._model))
        width, height = plan.size
        step_s = self._step_s * width * height / REFERENCE_PIXELS
        with self._queue.turn():
            self._progress.begin("generate")
            # One image after the other, and nobody can interrupt.
            self._progress.sample(plan.steps * plan.batch_size, step_s, lambda _done: plan.paint(0, self._model))
        images = [self._picture(plan, index) for index in range(plan.batch_size)]
        info = json.dumps(self._info(plan), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        tail = json.dumps({"info": info, "parameters": body}, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        quoted = b",".join(b'"' + image + b'"' for image in images)
        whole = b'{"images":[' + quoted + b"]," + tail[1:].encode()
        return Response(status=200, body=whole, headers=(("Content-Type", "application/json"),))

    def _picture(self, plan: Plan, index: int) -> bytes:
        key = (plan.scene(index, self._model), plan.strength, plan.source_key, plan.sampler)
        text = self._text(plan, index)
        return self._encoded.get(key, lambda: encode(plan.paint(index, self._model), "png", text))

    def _text(self, plan: Plan, index: int) -> str:
        sampler = f"{plan.sampler} {plan.scheduler}".strip()
        values = (
            f"Steps: {plan.steps}, CFG scale: {plan.cfg_scale:.6f}, Guidance: 3.500000, Eta: inf, "
            f"Seed: {plan.seed + index}, Size: {plan.width}x{plan.height}, Model: {self._model}, RNG: cuda, "
            f"Sampler: {sampler}, Version: {VERSION}"
        )
        negative = f"\nNegative prompt: {plan.negative_prompt}" if plan.negative_prompt else ""
        return f"{plan.prompt}{negative}\n{values}"

    def _info(self, plan: Plan) -> dict[str, Any]:
        count = range(plan.batch_size)
        info: dict[str, Any] = {
            "all_negative_prompts": [plan.negative_prompt for _ in count],
            "all_prompts": [plan.prompt for _ in count],
            "all_seeds": [plan.seed + index for index in count],
            "cfg_scale": plan.cfg_scale,
            "height": plan.height,
            "infotexts": [self._text(plan, index) for index in count],
            "prompt": plan.prompt,
            "sampler_name": plan.sampler,
            "sd_model_name": self._model,
            "seed": plan.seed,
            "steps": plan.steps,
            "version": "stable-diffusion.cpp",
            "width": plan.width,
        }
        if plan.negative_prompt:
            info["negative_prompt"] = plan.negative_prompt
        if plan.clip_skip > 0:
            info["clip_skip"] = plan.clip_skip
        if plan.strength is not None:
            info["denoising_strength"] = plan.strength
        if plan.scheduler:
            info["extra_generation_params"] = {"Schedule type": plan.scheduler}
        return info
