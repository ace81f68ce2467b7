"""Forge: the same routes on pydantic v2, other error shapes, lazy models, no sd-vae."""

import json
from dataclasses import replace
from typing import Any

from PIL import Image

from simulator.a1111 import A1111, API
from simulator.application import Route, fixed_route, json_response
from simulator.errors import CrashError
from simulator.fields import Field, PydanticV2
from simulator.forms import IMG2IMG_FIELDS, TXT2IMG_FIELDS
from simulator.options import DEFAULTS
from simulator.samplers import SCHEDULERS_1_10, Scheduler, SplitSamplers
from simulator.wire import Response

#: What it has beside those of A1111.
MORE_SCHEDULERS = (
    Scheduler("turbo", "Turbo", need_inner_model=True),
    Scheduler("align_your_steps_GITS", "Align Your Steps GITS"),
    Scheduler("align_your_steps_11", "Align Your Steps 11"),
    Scheduler("align_your_steps_32", "Align Your Steps 32"),
)
MODULES_DIR = "/opt/stable-diffusion-webui-forge/models"
MODULES = [
    {"model_name": "ae.safetensors", "filename": f"{MODULES_DIR}/VAE/ae.safetensors"},
    {"model_name": "clip_l.safetensors", "filename": f"{MODULES_DIR}/text_encoder/clip_l.safetensors"},
    {"model_name": "t5xxl_fp16.safetensors", "filename": f"{MODULES_DIR}/text_encoder/t5xxl_fp16.safetensors"},
]
OPTIONS: dict[str, Any] = {
    **DEFAULTS,
    "forge_preset": "sd",
    "forge_additional_modules": [],
    "forge_unet_storage_dtype": "Automatic",
    "forge_inference_memory": 1024,
    "forge_async_loading": "Queue",
    "forge_pin_shared_memory": "CPU",
}
DISTILLED = (Field("distilled_cfg_scale", "float", 3.5),)
HIRES = (
    Field("hr_cfg", "float", 1.0),
    Field("hr_distilled_cfg", "float", 3.5),
    Field("hr_additional_modules", "list"),
)
VERSION = "f2.0.1v1.10.1"


class Forge(A1111):
    """lllyasviel's main branch."""

    name = "forge"
    reader = PydanticV2()
    samplers = SplitSamplers(schedulers=(*SCHEDULERS_1_10, *MORE_SCHEDULERS))
    txt2img_fields = (*TXT2IMG_FIELDS, *DISTILLED, *HIRES)
    img2img_fields = (*IMG2IMG_FIELDS, *DISTILLED)
    missing = frozenset({"sd-vae", "refresh-vae"})
    reports_time = False

    def list_routes(self) -> list[Route]:
        """VAEs and text encoders come together as "modules"."""
        return [*super().list_routes(), fixed_route(f"{API}sd-modules", MODULES)]

    def crash(self, name: str, text: str) -> Response:
        """See `Flavour.crash`."""
        return replace(json_response({"error": name, "detail": "", "body": "", "message": text}, 500), crashed=True)

    def refuse(self, status: int, detail: str) -> Response:
        """See `Flavour.refuse`."""
        headers = (("www-authenticate", "Basic"),) if status == 401 else ()
        return json_response({"detail": detail}, status, headers)

    def malformed(self, error: json.JSONDecodeError) -> dict[str, Any]:
        """FastAPI 0.104's entry: without the body."""
        place: list[str | int] = ["body", error.pos]
        return {
            "type": "json_invalid",
            "loc": place,
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": error.msg},
        }

    def generate(self, kind: str, fields: dict[str, Any], mask: Image.Image | None) -> Response:
        """Hires fix breaks unless its modules are named."""
        if fields.get("enable_hr") and fields["hr_additional_modules"] is None:
            raise CrashError("TypeError", "argument of type 'NoneType' is not iterable")
        return super().generate(kind, fields, mask)

    def choose(self, name: str) -> None:
        """Only noted: the next job loads it."""
        self.webui.options.set("sd_model_checkpoint", name)
