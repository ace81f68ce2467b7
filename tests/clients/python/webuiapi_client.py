"""Calls through webuiapi; see answering.py."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import urlsplit

import webuiapi
from answering import answer, encoded
from PIL import Image


def generate(
    *, root: str, key: str, n: int = 1, size: str = "256x256", steps: int = 5, request_id: str | None = None
) -> dict[str, Any]:
    api = _api(root, key)
    if request_id:
        api.session.headers["X-Request-ID"] = request_id
    width, height = map(int, size.split("x"))
    painted = api.txt2img(
        prompt="a lighthouse by the sea", width=width, height=height, steps=steps, batch_size=n, seed=7
    )
    return {"pictures": _pictures(painted), "model": painted.info["sd_model_name"], "seeds": painted.info["all_seeds"]}


def edit(*, root: str, key: str, image: str, mask: str) -> dict[str, Any]:
    with Image.open(image) as opened, Image.open(mask) as opened_mask:
        painted = _api(root, key).img2img(
            images=[opened],
            mask_image=opened_mask,
            prompt="a forest",
            steps=20,
            width=opened.width,
            height=opened.height,
        )
    return {"pictures": _pictures(painted)}


def enlarge(*, root: str, key: str, image: str, upscaler: str = "Lanczos") -> dict[str, Any]:
    with Image.open(image) as opened:
        enlarged = _api(root, key).extra_single_image(opened, upscaler_1=upscaler, upscaling_resize=2)
    return {"pictures": _pictures(enlarged), "info": enlarged.info}


def choose(*, root: str, key: str, model: str) -> dict[str, Any]:
    """What SillyTavern and others do as well: the option is set, and later read again."""
    api = _api(root, key)
    api.util_set_model(model)
    return {"chosen": api.util_get_current_model(), "names": api.util_get_model_names()}


def interrupt(*, root: str, key: str) -> dict[str, Any]:
    return {"answer": _api(root, key).interrupt()}


def lists(*, root: str, key: str) -> dict[str, Any]:
    api = _api(root, key)
    return {
        "samplers": [one["name"] for one in api.get_samplers()],
        "schedulers": [one["name"] for one in api.get_schedulers()],
        "models": [one["model_name"] for one in api.get_sd_models()],
        "upscalers": api.get_upscalers(),
        "loras": api.get_loras(),
        "embeddings": api.get_embeddings(),
        "vae": api.get_sd_vae(),
        "scripts": api.get_scripts(),
        "progress": api.get_progress()["state"]["job_count"],
        "cmd_flags": api.get_cmd_flags(),
    }


def _api(root: str, key: str) -> webuiapi.WebUIApi:
    address = urlsplit(root)
    return webuiapi.WebUIApi(host=address.hostname, port=address.port, username="anybody", password=key)


def _pictures(painted: Any) -> list[str]:
    return [_png(one) for one in painted.images]


def _png(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return encoded(file.getvalue())


answer(
    {"generate": generate, "edit": edit, "enlarge": enlarge, "choose": choose, "interrupt": interrupt, "lists": lists}
)
