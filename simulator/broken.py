"""Answers that are wrong in themselves: instead of a result, or made out of one."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pybase64

from simulator.controlnet import FAULT, SECONDS
from simulator.faults import DEFAULT_SLOW_S
from simulator.flavour import Flavour, json_response
from simulator.hires import FAKE_UPSCALER
from simulator.networks import TAG
from simulator.wire import Request, Response

if TYPE_CHECKING:
    from PIL import Image

JSON = (("content-type", "application/json"),)
HTML = (("content-type", "text/html; charset=utf-8"),)
TEXT = (("content-type", "text/plain; charset=utf-8"),)
GARBAGE = b"<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"
#: What a proxy in front may send before the answer: early hints, and WebDAV's sign of life, again and again.
INTERIM = (
    b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n" + 2 * b"HTTP/1.1 102 Processing\r\n\r\n"
)
OOM = (
    "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 8.00 GiB total capacity; 7.12 GiB already allocated; "
    "0 bytes free; 7.30 GiB reserved in total by PyTorch)"
)
NAN = (
    "A tensor with all NaNs was produced in Unet. This could be either because there's not enough precision to "
    "represent the picture, or because your video card does not support half type. "
    "Use --disable-nan-check commandline argument to disable this check."
)
CRASHES = {
    "oom": ("OutOfMemoryError", OOM),
    "nan": ("NansException", NAN),
    "load-failed": ("AttributeError", "'NoneType' object has no attribute 'lowvram'"),
}
BUSY = {"detail": {"msg": "Server is busy; please try again later.", "type": "service_unavailable"}}
FIXED = {
    "garbage": Response(status=200, body=GARBAGE, headers=HTML),
    "not-json": Response(status=200, body=b'{"images":["iVBORw0KGgo', headers=JSON),
    "error-plain": Response(status=500, body=b"Internal Server Error", headers=TEXT, crashed=True),
    "busy": json_response(BUSY, 503),
    "rate-limited": json_response({"error": "rate limit exceeded"}, 429),
    "disabled": json_response({"detail": "Not Found"}, 404),
}
SERVER_FILE = "/opt/stable-diffusion-webui/modules/processing.py"
OTHER_MODEL = {"sd_model_name": "another-model", "sd_model_hash": "0123456789"}
IHDR_END = 33  # Of a PNG: its signature and its first chunk.
IEND_LENGTH = 12

Answer = dict[str, Any]


def broken_answer(kind: str, flavour: Flavour, request: Request) -> Response:
    """What is answered instead of doing the work."""
    if kind in FIXED:
        return FIXED[kind]
    if kind in CRASHES:
        return flavour.crash(*CRASHES[kind])
    if kind == "unauthorized":
        return flavour.refuse(401, "Not authenticated")
    # error-json quotes what was asked for.
    return flavour.crash("RuntimeError", f"{SERVER_FILE}: {_prompt(request)}")


def _prompt(request: Request) -> str:
    try:
        body = json.loads(request.body)
    except ValueError:
        return ""
    return str(body.get("prompt", "")) if isinstance(body, dict) else ""


def without(kind: str, seconds: float | None, request: Request) -> Request:
    """The request as a WebUI sees it that leaves out a part of it, or takes another upscaler."""
    if not request.body:
        return request
    body = json.loads(request.body)
    if kind.startswith("cn-"):
        mark = {FAULT: kind} if kind != "cn-slow-first" else {SECONDS: seconds or DEFAULT_SLOW_S}
        script = body.get("alwayson_scripts", {}).get("controlnet", {})
        for unit in (*script.get("args", ()), *body.get("ip_adapter", ())):
            unit |= mark
    elif kind == "lora-drop":
        body["prompt"] = TAG.sub("", body.get("prompt", ""))
        body.pop("lora", None)
    elif kind == "clip-skip-drop":
        body.pop("clip_skip", None)
        body.get("override_settings", {}).pop("CLIP_stop_at_last_layers", None)
    elif kind == "hires-drop":
        body.pop("enable_hr", None)
    elif "upscaler_1" in body:
        body[FAKE_UPSCALER] = True
    elif body.get("enable_hr"):
        body["hr_upscaler"] = "Lanczos"
    return replace(request, body=json.dumps(body).encode())


def changed_answer(kind: str, response: Response) -> Response:
    """A good answer spoilt; an answer without a result stays as it is."""
    answer = json.loads(response.body) if response.status == 200 else None
    if not isinstance(answer, dict) or answer.keys().isdisjoint(("images", "image")):
        return response
    return replace(response, body=json_response(_changed(kind, answer)).body)


def _changed(kind: str, answer: Answer) -> Answer:
    if "images" in answer:
        CHANGES[kind](answer)
        return answer
    # One picture that was enlarged: without a model, a sampler, seeds.
    if kind in ("no-info", "empty-info"):
        return {"html_info": "", "image": answer["image"]}
    if kind in ("wrong-model", "wrong-sampler"):
        return answer
    pictures = {"images": [answer["image"]]}
    CHANGES[kind](pictures)
    return {**answer, "image": "".join(pictures["images"])}


def _images(change: Callable[[list[str]], list[str]]) -> Callable[[Answer], None]:
    """A change of the pictures, which are base64."""

    def apply(answer: Answer) -> None:
        answer["images"] = change(answer["images"])

    return apply


def _with_rubbish(image: str) -> str:
    """The PNG with the right header, checksums and end, and rubbish for pixels."""
    png, body = pybase64.b64decode(image), b"IDAT" + bytes(range(7, 251)) * 8
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return pybase64.b64encode_as_string(png[:IHDR_END] + chunk + png[-IEND_LENGTH:])


def _redrawn(kind: str, change: Callable[[Image.Image], Image.Image]) -> Callable[[Answer], None]:
    """Each picture changed and written in another format, with its text kept."""

    def redraw(image: str) -> str:
        from simulator import pictures

        picture = pictures.open_picture(pybase64.b64decode(image))
        return pictures.encode(change(picture), kind, pictures.generation_text(picture)).decode()

    return _images(lambda images: [redraw(image) for image in images])


def _with_info(**changes: str) -> Callable[[Answer], None]:
    """Other values in the info and in the texts that repeat them."""

    def apply(answer: Answer) -> None:
        info = json.loads(answer["info"] or "{}")
        for key, value in changes.items():
            if key in info:
                info["infotexts"] = [text.replace(str(info[key]), value) for text in info["infotexts"]]
                info[key] = value
        answer["info"] = json.dumps(info) if info else ""

    return apply


def _wrong_model(answer: Answer) -> None:
    _with_info(**OTHER_MODEL)(answer)
    _redrawn("png", lambda picture: picture.rotate(180))(answer)  # Another model paints another picture.


CHANGES: dict[str, Callable[[Answer], None]] = {
    "not-base64": _images(lambda images: ["!!! this is not base64 !!!"] * len(images)),
    "not-picture": _images(lambda images: [pybase64.b64encode_as_string(b"not a picture")] * len(images)),
    "damaged": _images(lambda images: [_with_rubbish(image) for image in images]),
    "empty-images": _images(lambda images: []),
    "too-few": _images(lambda images: images[:-1]),
    "wrong-size": _redrawn("png", lambda picture: picture.resize((picture.width // 2 + 8, picture.height // 2))),
    "wrong-model": _wrong_model,
    "wrong-sampler": _with_info(sampler_name="PLMS"),
    "no-info": lambda answer: answer.__delitem__("info"),
    "empty-info": lambda answer: answer.__setitem__("info", ""),
    "jpeg": _redrawn("jpeg", lambda picture: picture),
    "webp": _redrawn("webp", lambda picture: picture),
}
