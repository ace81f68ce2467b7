"""A generation as an answer: JSON, or the picture itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from flask import Response
from pydantic_core import to_json

from services.generation import GeneratedImage, Generation

#: Handed to the server in pieces, so that a picture of megabytes is not copied once more to be sent.
_PIECE_CHARS = 256 * 1024

_NOT_STORED = "the picture could not be stored, so it has no URL"

#: An image's address, or None where it was not stored.
ImageUrl = Callable[[GeneratedImage], str | None]


def as_png(generation: Generation, image_url: ImageUrl) -> Response:
    """The first image's file; what JSON would tell is in the headers."""
    image = generation.images[0]
    response = Response(image.png, mimetype="image/png")
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
    """The base64 is spliced in as it is: a JSON encoder would look at every character of it."""
    pieces = list(_pieces(generation, image_url, with_base64=with_base64))
    response = Response(_sliced(pieces), mimetype="application/json")
    response.content_length = sum(map(len, pieces))  # base64 is ASCII: as many bytes as characters
    return response


def _pieces(generation: Generation, image_url: ImageUrl, *, with_base64: bool) -> Iterator[bytes | str]:
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


def _image(image: GeneratedImage, image_url: ImageUrl, *, with_base64: bool) -> Iterator[bytes | str]:
    """An object that is left open."""
    yield to_json({"image_id": str(image.image_id), "image_url": image_url(image)})[:-1]
    if with_base64:
        yield b',"image_base64":"data:image/png;base64,'
        yield image.base64
        yield b'"'
    yield b"," + to_json({"seed": image.seed, "width": image.width, "height": image.height})[1:-1]


def _sliced(pieces: Iterable[bytes | str]) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        for start in range(0, len(piece), _PIECE_CHARS):
            yield piece[start : start + _PIECE_CHARS].encode()
