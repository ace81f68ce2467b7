"""The requests: the same pictures in the dialect of each kind of server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any, Literal

import pybase64
from PIL import Image, ImageDraw

from bench.load import Work
from bench.upstream import picture

Mode = Literal["txt2img", "img2img", "inpainting", "upscale", "image", "health"]
#: "service": our own API, which the tutorial's proxies have as well; "webui": /sdapi/v1; "openai": /v1.
Dialect = Literal["service", "webui", "openai"]

PREFIX = "/api/v1/ai/generation"
CLIENTS = (1, 16)

#: The only model that litellm's proxy is set up with.
OPENAI_MODEL = "painter"

#: One that the simulated WebUI lists, with its weights.
UPSCALER = "4x-UltraSharp"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """:param side: of the picture that is answered, and of the one that is sent; an upscale's is sent at half of it."""

    name: str
    mode: Mode
    side: int = 1024
    count: int = 1


def workloads() -> list[Workload]:
    return [
        Workload(name="txt2img 512²", mode="txt2img", side=512),
        Workload(name="txt2img 1024²", mode="txt2img"),
        Workload(name="txt2img 4 × 1024²", mode="txt2img", count=4),
        Workload(name="img2img 1024²", mode="img2img"),
        Workload(name="inpainting 1024²", mode="inpainting"),
        Workload(name="upscale 512² to 1024²", mode="upscale"),
        Workload(name="GET image 1024²", mode="image"),
        Workload(name="GET health", mode="health"),
    ]


@dataclass(frozen=True, kw_only=True)
class Request:
    path: str
    method: str = "POST"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    def work(self, port: int, **options: Any) -> Work:
        """This request for callers; the options are those of :class:`Work`."""
        return Work(port=port, path=self.path, method=self.method, body=self.body, headers=self.headers, **options)


@cache
def generation(mode: Mode, side: int, count: int, dialect: Dialect) -> Request:
    """The request for a generation, or an upscale, in a server's dialect."""
    if mode == "upscale":
        return _upscale(side, dialect)
    fields: dict[str, object] = {"prompt": "a lighthouse at sunset", "width": side, "height": side, "steps": 20}
    fields |= {"seed": 7, "batch_size": count}
    if dialect == "openai":
        asked = {"model": OPENAI_MODEL, "prompt": fields["prompt"], "n": count, "size": f"{side}x{side}"}
        return Request(path="/v1/images/generations", body=json.dumps(asked).encode())
    if mode != "txt2img":
        image = pybase64.b64encode(picture(side, side)).decode()
        fields |= {"image": image} if dialect == "service" else {"init_images": [image]}
    if mode == "inpainting":
        fields["mask"] = pybase64.b64encode(mask(side)).decode()
    path = f"{PREFIX}/{mode}" if dialect == "service" else f"/sdapi/v1/{'txt2img' if mode == 'txt2img' else 'img2img'}"
    return Request(path=path, body=json.dumps(fields).encode())


def _upscale(side: int, dialect: Dialect) -> Request:
    image = pybase64.b64encode(picture(side // 2, side // 2)).decode()
    if dialect == "service":
        return Request(
            path=f"{PREFIX}/upscale", body=json.dumps({"image": image, "upscaler": UPSCALER, "scale": 2}).encode()
        )
    fields = {"image": image, "upscaler_1": UPSCALER, "upscaling_resize": 2}
    return Request(path="/sdapi/v1/extra-single-image", body=json.dumps(fields).encode())


def mask(side: int) -> bytes:
    """A PNG with the middle ninth white, which is repainted."""
    image = Image.new("L", (side, side))
    third = side // 3
    ImageDraw.Draw(image).rectangle((third, third, 2 * third, 2 * third), fill=255)
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
