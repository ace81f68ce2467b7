"""Answers that are wrong in themselves: instead of a result, or made out of one."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pybase64
from PIL import Image

from simulator.application import Flavour, json_bytes
from simulator.faults import Strike
from simulator.pictures import encode, generation_text
from simulator.wire import Request, Response

JSON = (("content-type", "application/json"),)
TEXT = (("content-type", "text/plain; charset=utf-8"),)
HTML = (("content-type", "text/html; charset=utf-8"),)
GARBAGE = b"<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"
OOM = (
    "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 8.00 GiB total capacity; 7.12 GiB already allocated; "
    "0 bytes free; 7.30 GiB reserved in total by PyTorch)"
)
NAN = (
    "A tensor with all NaNs was produced in Unet. This could be either because there's not enough precision to "
    "represent the picture, or because your video card does not support half type. "
    "Use --disable-nan-check commandline argument to disable this check."
)
SERVER_FILE = "/opt/stable-diffusion-webui/modules/processing.py"
IHDR_END = 33  # Of a PNG: its signature and its first chunk.
IEND_LENGTH = 12
OTHER_MODEL = ("another-model", "0123456789")


def broken_answer(fault: Strike, flavour: Flavour, request: Request) -> Response:
    """What is answered instead of doing the work."""
    match fault.kind:
        case "garbage":
            return Response(status=200, body=GARBAGE, headers=HTML)
        case "not-json":
            return Response(status=200, body=b'{"images":["iVBORw0KGgo', headers=JSON)
        case "oom":
            return flavour.crash("OutOfMemoryError", OOM)
        case "nan":
            return flavour.crash("NansException", NAN)
        case "load-failed":
            return flavour.crash("AttributeError", "'NoneType' object has no attribute 'lowvram'")
        case "error-plain":
            return Response(status=500, body=b"Internal Server Error", headers=TEXT, crashed=True)
        case "error-json":
            return flavour.crash("RuntimeError", f"{SERVER_FILE}: {_prompt(request)}")
        case "busy":
            body = {"detail": {"msg": "Server is busy; please try again later.", "type": "service_unavailable"}}
            return Response(status=503, body=json_bytes(body), headers=JSON)
        case "rate-limited":
            return Response(status=429, body=b'{"error":"rate limit exceeded"}', headers=JSON)
        case "unauthorized":
            return flavour.refuse(401, "Not authenticated")
        case "disabled":
            return Response(status=404, body=b'{"detail":"Not Found"}', headers=JSON)
    raise AssertionError(fault)


def _prompt(request: Request) -> str:
    try:
        body = json.loads(request.body)
    except ValueError:
        return ""
    return str(body.get("prompt", "")) if isinstance(body, dict) else ""


def changed_answer(fault: Strike, response: Response) -> Response:
    """A good answer spoilt; an answer that is no result stays as it is."""
    if response.status != 200:
        return response
    answer = json.loads(response.body)
    if not isinstance(answer, dict) or "images" not in answer:
        return response
    CHANGES[fault.kind](answer)
    return replace(response, body=json_bytes(answer))


def _not_base64(answer: dict[str, Any]) -> None:
    answer["images"] = ["!!! this is no base64 !!!"] * len(answer["images"])


def _not_picture(answer: dict[str, Any]) -> None:
    answer["images"] = [pybase64.b64encode_as_string(b"this is no picture")] * len(answer["images"])


def _damaged(answer: dict[str, Any]) -> None:
    """PNGs with the right header, checksums and end, and rubbish for pixels."""
    answer["images"] = [
        pybase64.b64encode_as_string(_with_rubbish(pybase64.b64decode(one))) for one in answer["images"]
    ]


def _with_rubbish(png: bytes) -> bytes:
    body = bytes(range(7, 251)) * 8
    kind = b"IDAT" + body
    chunk = struct.pack(">I", len(body)) + kind + struct.pack(">I", zlib.crc32(kind))
    return png[:IHDR_END] + chunk + png[-IEND_LENGTH:]


def _empty_images(answer: dict[str, Any]) -> None:
    answer["images"] = []


def _too_few(answer: dict[str, Any]) -> None:
    answer["images"] = answer["images"][:-1]


def _redrawn(answer: dict[str, Any], kind: str, change: Callable[[Image.Image], Image.Image]) -> None:
    images = []
    for image in answer["images"]:
        picture = Image.open(io.BytesIO(pybase64.b64decode(image)))
        images.append(encode(change(picture), kind, generation_text(picture)).decode())
    answer["images"] = images


def _wrong_size(answer: dict[str, Any]) -> None:
    _redrawn(answer, "png", lambda picture: picture.resize((picture.width // 2 + 8, picture.height // 2)))


def _jpeg(answer: dict[str, Any]) -> None:
    _redrawn(answer, "jpeg", lambda picture: picture)


def _webp(answer: dict[str, Any]) -> None:
    _redrawn(answer, "webp", lambda picture: picture)


def _with_info(answer: dict[str, Any], changes: dict[str, Any]) -> None:
    if not answer.get("info"):
        return
    info = json.loads(answer["info"])
    for key, value in changes.items():
        if key in info:
            info["infotexts"] = [text.replace(str(info[key]), value) for text in info["infotexts"]]
            info[key] = value
    answer["info"] = json.dumps(info)


def _wrong_model(answer: dict[str, Any]) -> None:
    name, digest = OTHER_MODEL
    _with_info(answer, {"sd_model_name": name, "sd_model_hash": digest})
    # Another model paints another picture.
    _redrawn(answer, "png", lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def _wrong_sampler(answer: dict[str, Any]) -> None:
    _with_info(answer, {"sampler_name": "PLMS"})


def _no_info(answer: dict[str, Any]) -> None:
    del answer["info"]


def _empty_info(answer: dict[str, Any]) -> None:
    answer["info"] = ""


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "not-base64": _not_base64,
    "not-picture": _not_picture,
    "damaged": _damaged,
    "empty-images": _empty_images,
    "too-few": _too_few,
    "wrong-size": _wrong_size,
    "wrong-model": _wrong_model,
    "wrong-sampler": _wrong_sampler,
    "no-info": _no_info,
    "empty-info": _empty_info,
    "jpeg": _jpeg,
    "webp": _webp,
}
