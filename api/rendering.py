"""A generation as an answer: JSON, or the picture itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pybase64
from flask import Response
from pydantic_core import to_json

from services.generation import GeneratedImage, Generation

#: Of a picture, encoded at a time: what the server sends is in the processor's cache, and nothing is held twice. A
#: multiple of 3, so that the base64 of the pieces is that of the whole.
_PIECE_BYTES = 3 * 64 * 1024

_NOT_STORED = "the image could not be stored, so it has no URL"

#: An image's address, or None where it was not stored.
ImageUrl = Callable[[GeneratedImage], str | None]


def as_png(generation: Generation, image_url: ImageUrl) -> Response:
    """The first image's file; what JSON would tell is in the headers."""
    image = generation.images[0]
    response = Response(_pieces(image.png), mimetype="image/png")
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
    """The base64 is spliced in: a JSON encoder would look at every character of it."""
    parts = list(_parts(generation, image_url, with_base64=with_base64))
    response = Response(_encoded(parts), mimetype="application/json")
    response.content_length = sum(_length(part) for part in parts)
    return response


@dataclass(frozen=True)
class _InBase64:
    """A part of an answer that is to be encoded while it is sent."""

    data: bytes


def _parts(generation: Generation, image_url: ImageUrl, *, with_base64: bool) -> Iterator[bytes | _InBase64]:
    yield from _image(generation.images[0], image_url, with_base64=with_base64)
    rest: dict[str, Any] = {
        "processing_time": round(generation.processing_time_s, 3),
        "model": generation.model,
        "request_id": generation.request_id,
    }
    if not all(image.stored for image in generation.images):
        rest["warnings"] = [_NOT_STORED]
    yield b"," + to_json(rest)[1:-1]
    if len(generation.images) > 1:
        for number, image in enumerate(generation.images):
            yield b"," if number else b',"images":['
            yield from _image(image, image_url, with_base64=with_base64)
            yield b"}"
        yield b"]"
    yield b"}"


def _image(image: GeneratedImage, image_url: ImageUrl, *, with_base64: bool) -> Iterator[bytes | _InBase64]:
    """An object that is left open."""
    yield to_json({"image_id": str(image.image_id), "image_url": image_url(image)})[:-1]
    if with_base64:
        yield b',"image_base64":"data:image/png;base64,'
        yield _InBase64(image.png)
        yield b'"'
    yield b"," + to_json({"seed": image.seed, "width": image.width, "height": image.height})[1:-1]


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _PIECE_BYTES] for start in range(0, len(data), _PIECE_BYTES))


def _length(part: bytes | _InBase64) -> int:
    return len(part) if isinstance(part, bytes) else 4 * ((len(part.data) + 2) // 3)


def _encoded(parts: Iterable[bytes | _InBase64]) -> Iterator[bytes]:
    """What is small is sent together: each piece is a system call."""
    small = bytearray()
    for part in parts:
        if isinstance(part, bytes):
            small += part
            continue
        yield bytes(small)
        small.clear()
        yield from map(pybase64.b64encode, _pieces(part.data))
    yield bytes(small)
