"""stable-diffusion.cpp's server: one model, int32 seeds, sizes in the model's steps, nothing to watch or to stop."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from simulator.flavour import API, Flavour, Settings, generated, json_response
from simulator.jobs import REFERENCE_PIXELS
from simulator.progress import FIFOLock, Progress
from simulator.webui import EncodedPictures
from simulator.wire import Request, Response

if TYPE_CHECKING:
    from simulator.cpp_jobs import CppHires, CppJob

HASH = "8888888888"
MAX_BATCH = 8
UNET_SIZE_STEP = 64
INT32 = 1 << 32
MAX_RANDOM_SEED = (1 << 31) - 1
PAGE = Response(status=200, body=b"Stable Diffusion Server is running", headers=(("content-type", "text/html"),))
CORS = tuple((f"Access-Control-Allow-{name}", value) for name, value in (("Methods", "*"), ("Credentials", "true")))


class SdCppError(Exception):
    """An answer other than 200."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status} {response.body!r}")
        self.response = response


def bad(text: str) -> SdCppError:
    """The 400 it gives on purpose."""
    return SdCppError(json_response({"error": text}, 400))


def failed(text: str) -> SdCppError:
    """The 500 it gives for an exception of its JSON library."""
    return SdCppError(json_response({"error": "server_error", "message": f"[json.exception.{text}"}, 500))


class SdCpp(Flavour):
    """The server of August 2026; the first of its models is the only one."""

    connection_threads: int | None = 8

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.model = settings.models[0]
        self.queue = FIFOLock()
        self.progress = Progress()
        self._encoded = EncodedPictures()
        self._lists_loras = False
        self.pages = {path: json_response(value, sort_keys=True) for path, value in self.lists().items()} | {"/": PAGE}

    @property
    def stem(self) -> str:
        """The model's name without its extension."""
        return PurePosixPath(self.model).stem

    @property
    def size_step(self) -> int:
        """What widths and heights must be multiples of, pixels; the real server reads the kind of model in its file."""
        steps: dict[str, int] = self.profile["size_steps"]
        return next((step for name, step in steps.items() if self.model.lower().startswith(name)), UNET_SIZE_STEP)

    def lists(self) -> dict[str, object]:
        """What GET answers, by path. The capabilities of its native API are what clients recognise it by."""
        profile = self.profile
        upscaler = {"model_name": None, "model_path": None, "model_url": None, "scale": 4}
        return {
            f"{API}samplers": [{"aliases": [name], "name": name, "options": {}} for name in profile["samplers"]],
            f"{API}schedulers": [{"label": name, "name": name} for name in profile["schedulers"]],
            f"{API}loras": [{"name": name, "path": path} for name, path in profile["loras"].items()],
            f"{API}upscalers": [{**upscaler, "name": name} for name in profile["upscalers"]],
            f"{API}latent-upscale-modes": [{"name": name} for name in profile["latent_modes"]],
            **self.model_lists(self.stem),
            "/sdcpp/v1/capabilities": {"current_mode": "img_gen", "model": {"name": self.model, "stem": self.stem}},
        }

    def model_lists(self, name: str) -> dict[str, object]:
        """The lists that name the model, under the name it is shown by."""
        model = {"config": None, "filename": self.model, "hash": HASH, "model_name": name, "sha256": "8" * 64}
        return {
            f"{API}options": {"samples_format": "png", "sd_model_checkpoint": name, "simulator": True},
            f"{API}sd-models": [{**model, "title": name}],
        }

    def close(self) -> None:
        self.queue.close()
        self.progress.close()

    def respond(self, request: Request) -> Response:
        return self.dress(request, self.route(request), 0.0)

    def route(self, request: Request) -> Response:
        """The answer without the headers that all answers have."""
        if request.method in ("GET", "HEAD") and request.path in self.pages:
            self._lists_loras |= request.path == f"{API}loras"
            return self.pages[request.path]
        if request.method != "POST" or request.path not in (f"{API}txt2img", f"{API}img2img"):
            return Response(status=404)
        try:
            return self._generate(read_body(request.body), with_pictures=request.path.endswith("img2img"))
        except SdCppError as error:
            return error.response

    def crash(self, name: str, text: str) -> Response:
        """See `Flavour.crash`; the class is not named."""
        return json_response({"error": "server_error", "message": text}, 500)

    def refuse(self, status: int, text: str) -> Response:
        return json_response({"error": text}, status)

    def dress(self, request: Request, response: Response, seconds: float) -> Response:
        """See `Flavour.dress`: any origin is welcome, errors close the connection."""
        first = ("Connection", "close") if response.status >= 400 else ("Keep-Alive", "timeout=5, max=100")
        origin = ("Access-Control-Allow-Origin", request.headers.get("origin", "*"))
        allowed = ("Access-Control-Allow-Headers", "*")
        return replace(response, headers=(first, *response.headers, *CORS, allowed, origin))

    def step_time(self, job: CppJob) -> float:
        """Seconds for a step of one image."""
        return self.settings.step_time * job.size[0] * job.size[1] / REFERENCE_PIXELS

    def picture(self, job: CppJob, index: int) -> bytes:
        """Image number `index` of a job in base64."""
        return self._encoded.get((index, *job.key), partial(job.encoded, index))

    def _generate(self, body: dict[str, Any], *, with_pictures: bool) -> Response:
        job = self._job_of(body, with_pictures=with_pictures)
        with self.queue.held():
            self.progress.begin("generate")
            # One image after the other, and nobody can interrupt.
            self.progress.sample(job.steps * job.batch_size, self.step_time(job))
        images = [self.picture(job, index) for index in range(job.batch_size)]
        info = json.dumps(job.info(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return generated(images, {"info": info, "parameters": dict(sorted(body.items()))})

    def _job_of(self, body: dict[str, Any], *, with_pictures: bool) -> CppJob:
        """Read the fields.

        :raises SdCppError: one that is refused; most mistakes are not.
        """
        from simulator.cpp_jobs import NO_SAMPLER, CppJob, mask_of, picture_of, source_key

        self._check(body)
        init = picture_of(_first(body.get("init_images"))) if with_pictures else None
        mask = mask_of(body.get("mask"), inverted=bool(body.get("inpainting_mask_invert"))) if init else None
        own = init.size if init else (512, 512)
        width, height = int(body.get("width", own[0])), int(body.get("height", own[1]))
        if width <= 0 or height <= 0:
            raise bad("width and height must be positive")
        if float(body.get("cfg_scale", 7)) < 0:
            raise bad("invalid params")
        name, scheduler = body.get("sampler_name", ""), body.get("scheduler", "")
        known = name if name in self.profile["samplers"][1:] else NO_SAMPLER
        return CppJob(
            model=self.model,
            prompt=body["prompt"],
            negative_prompt=body.get("negative_prompt", ""),
            seed=_seed(body.get("seed", -1)),
            steps=max(1, int(body.get("steps", 20))),
            cfg_scale=float(body.get("cfg_scale", 7.0)),
            sampler=self.profile["sampler_names"].get(name, known),
            default_sampler=self.profile["default_sampler"],
            scheduler=scheduler if scheduler in self.profile["schedulers"][1:] else "",
            width=width,
            height=height,
            size_step=self.size_step,
            batch_size=min(MAX_BATCH, max(1, int(body.get("batch_size", 1)))),
            clip_skip=int(body.get("clip_skip", -1)),
            strength=min(1.0, max(0.0, float(body.get("denoising_strength", 0.75)))) if with_pictures else None,
            init=init,
            mask=mask,
            source_key=source_key(body.get("init_images"), body.get("mask"), bool(mask)) if init else "",
            hires=None if with_pictures else self._hires(body, width, height),
            loras=self._loras(body.get("lora") or []),
            foreign=frozenset(self.profile["wrong_loras"]["foreign"]),
        )

    def _hires(self, body: dict[str, Any], width: int, height: int) -> CppHires | None:
        """:raises SdCppError: there is no such upscaler."""
        from simulator.cpp_jobs import CppHires

        if not body.get("enable_hr"):
            return None
        upscaler = body.get("hr_upscaler", "Latent")
        if upscaler not in (*self.profile["upscalers"], *self.profile["latent_modes"]):
            raise bad("invalid params")
        scale = float(body.get("hr_scale", 2.0))
        across, down = int(body.get("hr_resize_x", 0)), int(body.get("hr_resize_y", 0))
        size = (across, down) if across and down else (int(width * scale), int(height * scale))
        step = self.size_step
        return CppHires(
            upscaler=upscaler,
            scale=scale,
            target=(across, down),
            size=(-(-size[0] // step) * step, -(-size[1] // step) * step),
            steps=int(body.get("hr_steps", 0)),
            strength=float(body.get("denoising_strength", 0.75)),
        )

    def _loras(self, asked: list[dict[str, Any]]) -> tuple[tuple[str, float], ...]:
        """Paths and weights. None is known before the list was asked for once.

        :raises SdCppError: one is unknown.
        """
        known = self.profile["loras"].values() if self._lists_loras else ()
        for one in asked:
            if not one.get("path"):
                raise bad("lora.path required")
            if one["path"] not in known:
                raise bad(f"invalid lora path: {one['path']}")
        return tuple((one["path"], float(one.get("multiplier", 1.0))) for one in asked)

    def _check(self, body: dict[str, Any]) -> None:
        for kind, names in self.profile["types"].items():
            for name in names:
                if name in body and json_type(body[name]) != kind:
                    raise failed(f"type_error.302] type must be {kind}, but is {json_type(body[name])}")
        if not body.get("prompt"):
            raise bad("prompt required")


def read_body(body: bytes) -> dict[str, Any]:
    """Parse the body, whatever its content type.

    :raises SdCppError: empty, malformed or not an object.
    """
    if not body:
        raise bad("empty body")
    try:
        values = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        reason = f"[json.exception.type_error.316] invalid UTF-8 byte at index {error.start}: 0x{body[error.start]:02X}"
        raise SdCppError(Response(status=500, headers=(("EXCEPTION_WHAT", reason),))) from error
    except (ValueError, RecursionError) as error:
        raise failed("parse_error.101] parse error: syntax error while parsing value") from error
    if not isinstance(values, dict):
        raise failed(f"type_error.306] cannot use value() with {json_type(values)}")
    return values


def _refuse_constant(name: str) -> object:
    raise ValueError(f"invalid literal {name}")


def json_type(value: object) -> str:
    """The type's name in the JSON library's messages."""
    names: tuple[tuple[type, str], ...] = ((bool, "boolean"), (int, "number"), (float, "number"), (str, "string"))
    names += ((list, "array"), (dict, "object"))
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def _first(value: object) -> object:
    """The first of several pictures, or the only one; None where there is none."""
    texts = value if isinstance(value, list) else [value]
    if not texts or value is None:
        return None
    if not isinstance(texts[0], str):
        raise failed(f"type_error.302] type must be string, but is {json_type(texts[0])}")
    return texts[0]


def _seed(value: float) -> int:
    seed = int(value) % INT32
    if seed > MAX_RANDOM_SEED:
        # Negative as an int32. Its own random numbers change once a second: requests at once get the same.
        return random.Random(int(time.time())).randrange(MAX_RANDOM_SEED)
    return seed
