"""Requests to stable-diffusion.cpp's server: what it reads out of them, what it ignores, what it breaks on."""

import hashlib
import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pybase64
from PIL import Image, UnidentifiedImageError

from simulator.painter import Scene, paint, stamp
from simulator.pictures import flatten, open_picture

MAX_BATCH = 8
SIZE_STEP = 64
#: What models that are no UNets need, by what their file is called here; the real server reads it out of the file.
DIT_STEPS = (("flux2", 16), ("flux.2", 16), ("wan", 16), ("flux", 8), ("sd3", 8), ("qwen", 8), ("z_image", 8))
INT32 = 1 << 32
MAX_RANDOM_SEED = (1 << 31) - 1
KEPT_SHARE = 0.12  # How much is painted even where the mask says to keep.
SAMPLERS = (
    *("default", "euler", "euler_a", "heun", "dpm2", "dpm++2s_a", "dpm++2m", "dpm++2mv2", "ipndm", "ipndm_v", "lcm"),
    *("ddim_trailing", "tcd", "res_multistep", "res_2s", "er_sde", "euler_cfg_pp", "euler_a_cfg_pp", "euler_ge"),
    *("dpm++2m_sde", "dpm++2m_sde_bt", "lms"),
)
SCHEDULERS = (
    *("default", "discrete", "normal", "karras", "exponential", "ays", "gits", "sgm_uniform", "simple", "smoothstep"),
    *("kl_optimal", "lcm", "bong_tangent", "ltx2", "logit_normal", "flux2", "flux", "beta"),
)
A1111_NAMES = {
    "Euler": "euler",
    "Euler a": "euler_a",
    "Heun": "heun",
    "DPM2": "dpm2",
    "DPM++ 2M": "dpm++2m",
    "LCM": "lcm",
    "DDIM": "ddim_trailing",
}
DEFAULT_SAMPLER = "euler_a"
NO_SAMPLER = "NONE"
LATENT = ("", " (nearest)", " (nearest-exact)", " (antialiased)", " (bicubic)", " (bicubic antialiased)")
LATENT_MODES = tuple(f"Latent{kind}" for kind in LATENT)
UPSCALERS = ("None", "Lanczos", "Nearest")
LORAS = ({"name": "add-detail", "path": "add-detail.safetensors"},)
TEXTS = ("prompt", "negative_prompt", "sampler_name", "scheduler", "hr_upscaler")
NUMBERS = (
    *("width", "height", "steps", "cfg_scale", "seed", "batch_size", "clip_skip", "denoising_strength", "hr_scale"),
)
FLAGS = ("enable_hr",)
EXTRA_ARGS = re.compile(r"<sd_cpp_extra_args>(.*?)</sd_cpp_extra_args>", re.DOTALL)


class SdCppError(Exception):
    """An answer other than 200; a body of None is an empty one."""

    def __init__(self, status: int, body: dict[str, str] | None, *headers: tuple[str, str]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = headers


def bad(text: str) -> SdCppError:
    """The 400 it gives on purpose."""
    return SdCppError(400, {"error": text})


def failed(text: str) -> SdCppError:
    """The 500 it gives for an exception of its JSON library."""
    return SdCppError(500, {"error": "server_error", "message": text})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A request after it was read. Sizes in pixels as asked for."""

    prompt: str
    negative_prompt: str
    seed: int
    steps: int
    cfg_scale: float
    sampler: str
    scheduler: str
    width: int
    height: int
    batch_size: int
    strength: float | None
    """0 to 1; None for txt2img."""
    clip_skip: int
    """0 or less for the model's own."""
    scale: float
    init: Image.Image | None
    mask: Image.Image | None
    source_key: str
    step: int = SIZE_STEP

    @property
    def size(self) -> tuple[int, int]:
        """As it comes out: up to the next multiple of the step, hires fix included."""
        width = -(-self.width // self.step) * self.step
        height = -(-self.height // self.step) * self.step
        return (int(width * self.scale), int(height * self.scale))

    def scene(self, index: int, model: str) -> Scene:
        """What image number `index` shows."""
        sampler = DEFAULT_SAMPLER if self.sampler == NO_SAMPLER else self.sampler
        return Scene(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            seed=self.seed + index,
            steps=self.steps,
            cfg_scale=self.cfg_scale,
            sampler=f"{sampler} {self.scheduler}",
            model=f"{model} {max(1, self.clip_skip)}",
            width=self.size[0],
            height=self.size[1],
        )

    def paint(self, index: int, model: str) -> Image.Image:
        """The picture; a mask keeps what is black only nearly."""
        scene = self.scene(index, model)
        if self.init is None:
            return paint(scene)
        start = self.init.resize(self.size, Image.Resampling.LANCZOS)
        picture = Image.blend(start, paint(scene, stamped=False), self.strength or 0.0)
        if self.mask is not None:
            faint = Image.blend(start, picture, KEPT_SHARE)
            picture = Image.composite(picture, faint, self.mask.resize(self.size))
        stamp(picture, (0, 0, *self.size))
        return picture


def size_step(model: str) -> int:
    """What widths and heights must be multiples of with this model, pixels."""
    return next((step for name, step in DIT_STEPS if model.lower().startswith(name)), SIZE_STEP)


def read_body(body: bytes) -> dict[str, Any]:
    """Parse the body, whatever its content type.

    :raises SdCppError: empty, malformedor not an object.
    """
    if not body:
        raise bad("empty body")
    try:
        values = json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as exc:
        reason = f"[json.exception.type_error.316] invalid UTF-8 byte at index {exc.start}: 0x{body[exc.start]:02X}"
        raise SdCppError(500, None, ("EXCEPTION_WHAT", reason)) from exc
    except (ValueError, RecursionError) as exc:
        line, column = getattr(exc, "lineno", 1), getattr(exc, "colno", 1)
        place = f"[json.exception.parse_error.101] parse error at line {line}, column {column}"
        raise failed(f"{place}: syntax error while parsing value") from exc
    if not isinstance(values, dict):
        raise failed(f"[json.exception.type_error.306] cannot use value() with {json_type(values)}")
    return values


def check_types(values: dict[str, Any]) -> None:
    """:raises SdCppError: a field is there and of another type; null is one."""
    for names, kind in ((TEXTS, "string"), (NUMBERS, "number"), (FLAGS, "boolean")):
        for name in names:
            if name in values and json_type(values[name]) != kind:
                found = json_type(values[name])
                raise failed(f"[json.exception.type_error.302] type must be {kind}, but is {found}")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"invalid literal {name}")


def json_type(value: object) -> str:
    """The type's name in the JSON library's messages."""
    names: tuple[tuple[type, str], ...] = ((bool, "boolean"), (int, "number"), (float, "number"), (str, "string"))
    names += ((list, "array"), (dict, "object"))
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def plan_of(body: dict[str, Any], *, with_pictures: bool) -> Plan:
    """Read the fields, those hidden in the prompt included.

    :raises SdCppError: one that is refused; most mistakes are not.
    """
    check_types(body)
    prompt = body.get("prompt", "")
    if not prompt:
        raise bad("prompt required")
    values = {**body, **_extra_args(prompt)}
    check_types(values)
    init = first_picture(body.get("init_images")) if with_pictures else None
    mask = _mask(body.get("mask"), inverted=bool(values.get("inpainting_mask_invert"))) if init else None
    own = init.size if init else (512, 512)
    width, height = int(values.get("width", own[0])), int(values.get("height", own[1]))
    if width <= 0 or height <= 0:
        raise bad("width and height must be positive")
    _check_rest(values)
    name, scheduler = values.get("sampler_name", ""), values.get("scheduler", "")
    digest = hashlib.sha256(repr((body.get("init_images"), body.get("mask"), bool(mask))).encode("utf-8", "replace"))
    return Plan(
        prompt=EXTRA_ARGS.sub("", prompt),
        negative_prompt=values.get("negative_prompt", ""),
        seed=_seed(values.get("seed", -1)),
        steps=max(1, int(values.get("steps", 20))),
        cfg_scale=float(values.get("cfg_scale", 7.0)),
        sampler=A1111_NAMES.get(name, name if name in SAMPLERS[1:] else NO_SAMPLER),
        scheduler=scheduler if scheduler in SCHEDULERS[1:] else "",
        width=width,
        height=height,
        batch_size=min(MAX_BATCH, max(1, int(values.get("batch_size", 1)))),
        strength=min(1.0, max(0.0, float(values.get("denoising_strength", 0.75)))) if with_pictures else None,
        clip_skip=int(values.get("clip_skip", -1)),
        scale=float(values.get("hr_scale", 2)) if values.get("enable_hr") and not with_pictures else 1.0,
        init=init,
        mask=mask,
        source_key=digest.hexdigest() if init else "",
    )


def _check_rest(values: dict[str, Any]) -> None:
    upscaler = values.get("hr_upscaler", LATENT_MODES[0])
    if float(values.get("cfg_scale", 7)) < 0 or (
        values.get("enable_hr") and upscaler not in (*LATENT_MODES, *UPSCALERS[1:])
    ):
        raise bad("invalid params")
    for lora in values.get("lora") or ():
        path = lora.get("path") if isinstance(lora, dict) else lora
        if all(one["path"] != path for one in LORAS):
            raise bad(f"invalid lora path: {path}")


def _extra_args(prompt: str) -> dict[str, Any]:
    found = EXTRA_ARGS.search(prompt)
    if not found:
        return {}
    try:
        values = json.loads(found[1])
    except ValueError:
        return {}
    if not isinstance(values, dict):
        return {}
    sampling = values.get("sample_params")
    if isinstance(sampling, dict) and "sample_steps" in sampling:
        return {**values, "steps": sampling["sample_steps"]}
    return values


def _seed(value: float) -> int:
    seed = int(value) % INT32
    if seed > MAX_RANDOM_SEED:
        # Negative as an int32. Its own random numbers change once a second: requests at once get the same.
        return random.Random(int(time.time())).randrange(MAX_RANDOM_SEED)
    return seed


def first_picture(value: object) -> Image.Image | None:
    """What img2img begins with; None where there is none, or none that can be decoded."""
    texts = value if isinstance(value, list) else [value]
    if not texts or value is None:
        return None
    if not isinstance(texts[0], str):
        raise failed(f"[json.exception.type_error.302] type must be string, but is {json_type(texts[0])}")
    return _picture_or_none(texts[0], flatten)


def _grey(picture: Image.Image) -> Image.Image:
    return flatten(picture).convert("L")


def grey_picture(text: object) -> Image.Image | None:
    """A mask; None where it cannot be decoded."""
    return _picture_or_none(text, _grey)


def _mask(text: object, *, inverted: bool) -> Image.Image | None:
    mask = grey_picture(text)
    return mask.point([255 - value for value in range(256)]) if mask and inverted else mask


def _picture_or_none(text: object, change: Callable[[Image.Image], Image.Image]) -> Image.Image | None:
    """What cannot be decoded is ignored without a word."""
    if not isinstance(text, str):
        return None
    try:
        return change(open_picture(pybase64.b64decode(text.rpartition(",")[2])))
    except (ValueError, OSError, UnidentifiedImageError):
        return None
