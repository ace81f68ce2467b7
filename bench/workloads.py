"""The requests: the same pictures in the dialect of each kind of server."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any, Literal

import pybase64
from PIL import ExifTags, Image, ImageDraw

from bench.load import Work
from bench.upstream import picture

Mode = Literal["txt2img", "img2img", "inpainting", "upscale", "image", "health"]
#: "service": our own API, which the tutorial's proxies have as well; "webui": /sdapi/v1; "openai": /v1.
Dialect = Literal["service", "webui", "openai"]

PREFIX = "/api/v1/ai/generation"
CLIENTS = (1, 16)

#: The only model that litellm's proxy is set up with.
OPENAI_MODEL = "painter"

#: Width and height of a phone's photo as it is stored, on its side.
PHONE = (4032, 3024)
_FULL_RES = {"inpaint_full_res": True}

#: One that the simulated WebUI lists, with its weights.
UPSCALER = "4x-UltraSharp"


#: "answer": the picture with which the upstream answers, so that it keeps what the mask keeps; "another" of its kind;
#: "photo": a phone's JPEG of 4032 x 3024 pixels that is to be turned, with a mask as large as it, painted around that.
Sent = Literal["answer", "another", "photo"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """
    :param side: of the picture that is answered, and of the one that is sent; an upscale's is sent at half of it.
    :param sent: which picture that is.
    """

    name: str
    mode: Mode
    side: int = 1024
    count: int = 1
    sent: Sent = "answer"


def workloads() -> list[Workload]:
    return [
        Workload(name="txt2img 512²", mode="txt2img", side=512),
        Workload(name="txt2img 1024²", mode="txt2img"),
        Workload(name="txt2img 4 × 1024²", mode="txt2img", count=4),
        Workload(name="img2img 1024²", mode="img2img"),
        Workload(name="inpainting 1024²", mode="inpainting"),
        Workload(name="inpainting 1024², nothing kept", mode="inpainting", sent="another"),
        Workload(name="inpainting of a 12 MP photo", mode="inpainting", sent="photo"),
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
def generation(mode: Mode, side: int, count: int, dialect: Dialect, sent: Sent = "answer") -> Request:
    """The request for a generation, or an upscale, in a server's dialect."""
    if mode == "upscale":
        return _upscale(side, dialect)
    fields: dict[str, object] = {"prompt": "a lighthouse at sunset", "width": side, "height": side, "steps": 20}
    fields |= {"seed": 7, "batch_size": count}
    if dialect == "openai":
        asked = {"model": OPENAI_MODEL, "prompt": fields["prompt"], "n": count, "size": f"{side}x{side}"}
        return Request(path="/v1/images/generations", body=json.dumps(asked).encode())
    if mode != "txt2img":
        file = phone_photo() if sent == "photo" else picture(side, side, seed=2 if sent == "another" else 1)
        image = pybase64.b64encode(file).decode()
        fields |= {"image": image} if dialect == "service" else {"init_images": [image]}
    if mode == "inpainting":
        fields["mask"] = pybase64.b64encode(mask(*(PHONE[::-1] if sent == "photo" else (side, side)))).decode()
    if sent == "photo":
        fields |= {"width": side * 3 // 4, **({"inpaint_area": "masked"} if dialect == "service" else _FULL_RES)}
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


def mask(width: int, height: int) -> bytes:
    """A PNG with the middle ninth white, which is repainted."""
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).rectangle((width // 3, height // 3, 2 * width // 3, 2 * height // 3), fill=255)
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@cache
def phone_photo() -> bytes:
    """A JPEG of soft colours with some noise, 4 MB, whose EXIF data say that it is to be turned to the right."""
    width, height = PHONE
    colours = random.Random(1).randbytes(3 * (width // 8) * (height // 8))
    soft = Image.frombytes("RGB", (width // 8, height // 8), colours).resize(PHONE, Image.Resampling.BICUBIC)
    noise = Image.merge("RGB", [Image.effect_noise(PHONE, 20)] * 3)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = BytesIO()
    Image.blend(soft, noise, 0.15).save(file, "JPEG", quality=90, exif=exif)
    return file.getvalue()
