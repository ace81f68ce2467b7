"""Calls through OpenAI's own package; see answering.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from answering import answer
from openai import OpenAI


def generate(
    *, root: str, key: str, n: int = 1, size: str = "256x256", steps: int = 5, request_id: str | None = None
) -> dict[str, Any]:
    painted = _client(root, key).images.generate(
        model="sd-v1-5",
        prompt="a lighthouse by the sea",
        n=n,
        size=size,
        extra_body={"steps": steps},
        extra_headers={"X-Request-ID": request_id} if request_id else None,
    )
    return {"pictures": [one.b64_json for one in painted.data]}


def stream(*, root: str, key: str, n: int = 1, steps: int = 5, request_id: str | None = None) -> dict[str, Any]:
    events = _client(root, key).images.generate(
        model="sd-v1-5",
        prompt="a lighthouse by the sea",
        n=n,
        size="256x256",
        stream=True,
        partial_images=1,
        extra_body={"steps": steps},
        extra_headers={"X-Request-ID": request_id} if request_id else None,
    )
    seen = list(events)
    return {"events": [event.type for event in seen], "pictures": [event.b64_json for event in seen]}


def edit(*, root: str, key: str, image: str, mask: str) -> dict[str, Any]:
    painted = _client(root, key).images.edit(
        model="sd-v1-5",
        prompt="a forest",
        image=Path(image).open("rb"),  # noqa: SIM115 - the package reads it to its end, and this process ends soon
        mask=Path(mask).open("rb"),  # noqa: SIM115
    )
    return {"pictures": [one.b64_json for one in painted.data]}


def models(*, root: str, key: str) -> dict[str, Any]:
    return {"models": [one.id for one in _client(root, key).models.list()]}


def _client(root: str, key: str) -> OpenAI:
    return OpenAI(base_url=f"{root}/v1", api_key=key)


answer({"generate": generate, "stream": stream, "edit": edit, "models": models})
