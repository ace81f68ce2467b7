"""A generation as an answer: JSON, or the image itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pybase64
from flask import Response
from pydantic_core import to_json

from services.generation import GeneratedImage, Generation

#: Bytes of an image that are sent at a time: they stay in the processor's cache, and no image is held twice. A multiple
#: of 3, so that the base64 of the pieces is that of the whole.
_PIECE_BYTES = 3 * 64 * 1024

_NOT_STORED = "the image could not be stored, so it has no URL"

#: Where the base64 of an image goes. No text of the JSON can look like this, since its quotes are escaped.
_GAPS = re.compile(rb'(?<="image_base64":"data:image/png;base64,)')

#: An image's address, or None if it was not stored.
ImageUrl = Callable[[GeneratedImage], str | None]


def as_png(generation: Generation, image_url: ImageUrl) -> Response:
    """The first image's file; the headers carry what else is in the JSON."""
    image = generation.images[0]
    response = Response(_pieces(image), mimetype="image/png")
    response.content_length = len(image.png)
    response.headers["X-Image-Id"] = str(image.image_id)
    response.headers["X-Seed"] = str(image.seed)
    response.headers["X-Model"] = quote(generation.model, safe=" !#$&'()*+,/:;=?@[]-._~")
    response.headers["X-Processing-Time"] = f"{generation.processing_time_s:.3f}"
    if (url := image_url(image)) is not None:
        response.headers["Location"] = url
        response.autocorrect_location_header = False
    else:
        response.headers["Warning"] = f'199 - "{_NOT_STORED}"'
    return response


def as_json(generation: Generation, image_url: ImageUrl, *, with_base64: bool) -> Response:
    """The base64 is put in while the answer is sent: a JSON encoder would look at every character of it."""
    images = [_fields(image, image_url, with_base64=with_base64) for image in generation.images]
    answer = images[0] | {
        "processing_time": round(generation.processing_time_s, 3),
        "model": generation.model,
        "request_id": generation.request_id,
    }
    if not all(image.stored for image in generation.images):
        answer["warnings"] = [_NOT_STORED]
    if len(images) > 1:
        answer["images"] = images
    texts = _GAPS.split(to_json(answer))
    shown = (generation.images[0], *generation.images)[: len(texts) - 1]
    response = Response(_filled(texts, shown), mimetype="application/json")
    response.content_length = sum(map(len, texts)) + sum(map(_base64_chars, shown))
    return response


def _fields(image: GeneratedImage, image_url: ImageUrl, *, with_base64: bool) -> dict[str, Any]:
    return {
        "image_id": str(image.image_id),
        "image_url": image_url(image),
        **({"image_base64": "data:image/png;base64,"} if with_base64 else {}),
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
    }


def _filled(texts: Sequence[bytes], images: Sequence[GeneratedImage]) -> Iterator[bytes]:
    """The texts, with an image in base64 in each gap between them."""
    yield texts[0]
    for text, image in zip(texts[1:], images, strict=True):
        yield from map(pybase64.b64encode, _pieces(image))
        yield text


def _base64_chars(image: GeneratedImage) -> int:
    return 4 * ((len(image.png) + 2) // 3)


def _pieces(image: GeneratedImage) -> Iterator[bytes]:
    return (image.png[start : start + _PIECE_BYTES] for start in range(0, len(image.png), _PIECE_BYTES))
