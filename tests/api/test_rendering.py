"""A generation as JSON: whole, with its length known beforehand, whatever texts are in it."""

from __future__ import annotations

import base64
import json
import os
from uuid import uuid4

import pytest

from api.rendering import as_json
from services.generation import GeneratedImage, Generation

SIZES = [0, 1, 2, 3, 196_607, 196_608, 196_609, 400_000]


def image(size: int) -> GeneratedImage:
    return GeneratedImage(image_id=uuid4(), png=os.urandom(size), seed=1, width=8, height=8, stored=True)


@pytest.mark.parametrize("model", ["sd-v1-5", '"image_base64":"data:image/png;base64,', 'é\\"\u2028'])
@pytest.mark.parametrize("with_base64", [True, False])
@pytest.mark.parametrize("sizes", [*([size] for size in SIZES), SIZES])
def test_json(model: str, with_base64: bool, sizes: list[int]) -> None:
    images = tuple(image(size) for size in sizes)
    generation = Generation(images=images, model=model, processing_time_s=1.0, request_id="me")
    response = as_json(generation, lambda image: None, with_base64=with_base64)
    data = response.get_data()
    assert response.content_length == len(data)
    body = json.loads(data)
    assert body["model"] == model
    shown = [body, *body.get("images", [])]
    assert len(shown) == (1 if len(images) == 1 else 1 + len(images))
    for part, made in zip(shown, [images[0], *images], strict=False):
        assert part["image_id"] == str(made.image_id)
        assert ("image_base64" in part) == with_base64
        if with_base64:
            assert base64.b64decode(part["image_base64"].removeprefix("data:image/png;base64,")) == made.png
