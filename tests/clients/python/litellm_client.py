"""Calls through LiteLLM's package; see answering.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litellm
from answering import answer


def generate(
    *, root: str, key: str, n: int = 1, size: str = "256x256", steps: int = 5, request_id: str | None = None
) -> dict[str, Any]:
    painted = litellm.image_generation(
        model="openai/sd-v1-5",
        prompt="a lighthouse by the sea",
        n=n,
        size=size,
        steps=steps,
        headers={"X-Request-ID": request_id} if request_id else {},
        api_base=f"{root}/v1",
        api_key=key,
    )
    return {"pictures": [one.b64_json for one in painted.data]}


def edit(*, root: str, key: str, image: str, mask: str) -> dict[str, Any]:
    with Path(image).open("rb") as image_file, Path(mask).open("rb") as mask_file:
        painted = litellm.image_edit(
            model="openai/sd-v1-5",
            prompt="a forest",
            image=image_file,
            mask=mask_file,
            api_base=f"{root}/v1",
            api_key=key,
        )
    return {"pictures": [one.b64_json for one in painted.data]}


answer({"generate": generate, "edit": edit})
