"""Bodies as they come and go. Requests are such as the service takes: a test sends each of them."""

from __future__ import annotations

from typing import Any

from services.generation import Mode

#: A sun over a field, 64 × 64 pixels, and a mask that is white over the sun.
PHOTO = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAgMAAADXB5lNAAAACVBMVEUoPG7moFr65rTbUOXHAAAAa0lEQVR42mNgGIlAaxWU"
    "wQihmFYwfEuAsCACHAwMHAzIAgpwFjOEmsrAwKB9AKGCCaoKoQUBmGBmwkzFoYImAj/gBC4V/xgYGBgeIHvuqgMDQzaylgdQVXCBHzAzMcOUJoAxlH4hNipA"
    "vAAAXroPVIvZSnAAAAAASUVORK5CYII="
)
MASK = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAG0lEQVR42mNgoBr4/////wYGJhh3lIGVMcwAABpZBL2mMNuZ"
    "AAAAAElFTkSuQmCC"
)

_LIGHTHOUSE = {"prompt": "a lighthouse at sunset", "response_format": "url"}
_SUN = {"prompt": "a red moon over a field", "width": 512, "height": 512, "response_format": "url"}

#: By route, then by what they show.
REQUESTS: dict[Mode, dict[str, dict[str, Any]]] = {
    "txt2img": {
        "least": {"prompt": "a lighthouse at sunset"},
        "url": {**_LIGHTHOUSE, "negative_prompt": "people, text", "width": 640, "height": 384, "seed": 7},
    },
    "img2img": {"url": {**_SUN, "image": PHOTO, "strength": 0.6}},
    "inpainting": {"url": {**_SUN, "image": PHOTO, "mask": MASK, "mask_blur": 8}},
}

_IMAGE_ID = "0b9f5a52-7c3e-4d0e-9b1a-2f6c1d8e4a70"
_SECOND_ID = "5d1c7f0e-2a44-4c6b-8f0d-9e3b7a6c5d21"


def _url(image_id: str) -> str:
    return f"/api/v1/ai/generation/image/{image_id}"


_SIZE = {"width": 512, "height": 512}
_PAINTED = {"processing_time": 3.45, "model": "sd-v1-5", "request_id": "9f1c2b3d4e5f60718293a4b5c6d7e8f9"}
_FIRST = {"image_id": _IMAGE_ID, "image_url": _url(_IMAGE_ID), "seed": 7, **_SIZE}
_SECOND = {"image_id": _SECOND_ID, "image_url": _url(_SECOND_ID), "seed": 8, **_SIZE}

GENERATION = {**_FIRST, **_PAINTED}
WITH_BASE64 = {"image_base64": "data:image/png;base64,iVBORw0KGgo…", **GENERATION}
BATCH = {**GENERATION, "images": [_FIRST, _SECOND]}

MODELS = {
    "default": "sd-v1-5",
    "models": [
        {
            "id": "sd-v1-5",
            "checkpoint": "v1-5-pruned-emaonly.safetensors [6ce0161689]",
            "name": "v1-5-pruned-emaonly",
            "hash": "6ce0161689",
            "loaded": True,
            "default": True,
        },
        {
            "id": "sdxl",
            "checkpoint": "sd_xl_base_1.0.safetensors",
            "name": "sd_xl_base_1.0",
            "hash": None,
            "loaded": False,
            "default": False,
        },
    ],
}
OPTIONS = {
    "samplers": ["Euler a", "DPM++ 2M"],
    "schedulers": ["Automatic", "Karras"],
    "upscalers": ["Lanczos"],
    "loras": ["add-detail"],
    "simulated": "none",
    "limits": {"steps": {"minimum": 1, "maximum": 150}, "width": {"minimum": 64, "maximum": 2048, "multiple_of": 8}},
    "defaults": {"txt2img": {"steps": 20, "cfg_scale": 7.5}, "inpainting": {"steps": 30, "strength": 0.9}},
}

QUEUED: dict[str, Any] = {
    "status": "queued",
    "queue_position": 2,
    "progress": 0.0,
    "eta_seconds": 14.5,
    "image_ids": [],
}
RUNNING: dict[str, Any] = {
    "status": "running",
    "queue_position": None,
    "progress": 0.45,
    "eta_seconds": 3.2,
    "image_ids": [],
}
DONE = {"status": "done", "queue_position": None, "progress": 1.0, "eta_seconds": None, "image_ids": [_IMAGE_ID]}

HEALTHY = {
    "status": "healthy",
    "version": "0.1.0",
    "uptime_seconds": 12.3,
    "device": "gpu",
    "webuis": {"total": 1, "available": 1, "busy": 0, "gpu": 1, "cpu": 0},
    "queue": {"waiting": 0, "limit": 64},
    "redis": "up",
    "storage": "ok",
    "reasons": [],
}
UNHEALTHY = {
    **HEALTHY,
    "status": "unhealthy",
    "device": "none",
    "webuis": {"total": 1, "available": 0, "busy": 0, "gpu": 0, "cpu": 0},
    "reasons": ["no_webui"],
}
