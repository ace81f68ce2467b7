"""A generation as an answer: JSON, or the image itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import quote

import pybase64
from flask import Response
from pydantic_core import to_json

from services.generation import GeneratedImage, Generation

#: Bytes of an image that are sent at a time: they stay in the processor's cache, and no image is held twice. A multiple
#: of 3, so that the base64 of the pieces is that of the whole.
_PIECE_BYTES = 3 * 64 * 1024

_UNSTORED = "the image could not be stored, so it has no URL"
#: A ``Warning`` header that says so.
NOT_STORED: Final = f'199 - "{_UNSTORED}"'

#: Stands in an answer where the base64 of a picture goes. Nobody can guess it, so no text of a caller's has it.
PICTURE: Final = secrets.token_hex(16)

#: An image's address, or None if it was not stored.
ImageUrl = Callable[[GeneratedImage], str | None]


def as_png(generation: Generation, image_url: ImageUrl) -> Response:
    """The first image's file; the headers carry what else is in the JSON."""
    image = generation.images[0]
    response = Response(_pieces(image.png), mimetype="image/png")
    response.content_length = len(image.png)
    response.headers["X-Image-Id"] = str(image.image_id)
    if image.seed is not None:
        response.headers["X-Seed"] = str(image.seed)
    if generation.model is not None:
        response.headers["X-Model"] = quote(generation.model, safe=" !#$&'()*+,/:;=?@[]-._~")
    response.headers["X-Processing-Time"] = f"{generation.processing_time_s:.3f}"
    if (url := image_url(image)) is not None:
        response.headers["Location"] = url
        response.autocorrect_location_header = False
    else:
        response.headers["Warning"] = NOT_STORED
    return response


def as_json(generation: Generation, image_url: ImageUrl, *, with_base64: bool) -> Response:
    images = [_fields(image, image_url, with_base64=with_base64) for image in generation.images]
    answer = images[0] | {
        "processing_time": round(generation.processing_time_s, 3),
        **({} if generation.model is None else {"model": generation.model}),
        "request_id": generation.request_id,
    }
    answer |= used(generation)
    if not all(image.stored for image in generation.images):
        answer["warnings"] = [_UNSTORED]
    if len(images) > 1:
        answer["images"] = images
    shown = (generation.images[0], *generation.images) if len(images) > 1 else generation.images
    return with_pictures(answer, [image.png for image in shown] if with_base64 else [])


def with_pictures(answer: object, pictures: Sequence[bytes]) -> Response:
    """
    JSON with pictures in base64, which is made while the answer is sent: a JSON encoder would look at every character.

    :param answer: has :data:`PICTURE` in its texts, once for each picture, in their order.
    """
    texts = _around_pictures(answer)
    response = Response(_filled(texts, pictures), mimetype="application/json")
    response.content_length = sum(map(len, texts)) + sum(map(_base64_chars, pictures))
    return response


def json_pieces(answer: object, pictures: Sequence[bytes]) -> Iterator[bytes]:
    """The same as :func:`with_pictures`, for what is sent as a part of a response."""
    return _filled(_around_pictures(answer), pictures)


def _fields(image: GeneratedImage, image_url: ImageUrl, *, with_base64: bool) -> dict[str, Any]:
    return {
        "image_id": str(image.image_id),
        "image_url": image_url(image),
        **({"image_base64": f"data:image/png;base64,{PICTURE}"} if with_base64 else {}),
        **({} if image.seed is None else {"seed": image.seed}),
        "width": image.width,
        "height": image.height,
    }


def used(generation: Generation) -> dict[str, Any]:
    """The field of an answer that says what a WebUI used, if there is anything to say."""
    found: dict[str, Any] = {}
    if generation.used.reference is not None:
        found["reference"] = asdict(generation.used.reference)
    if generation.used.loras:
        found["loras"] = [{"name": lora.name, "hash": lora.hash} for lora in generation.used.loras]
    if generation.used.upscaler is not None:
        found["hires"] = {"upscaler": generation.used.upscaler}
    if generation.used.upscaled_by is not None:
        found["upscale"] = {"upscaler": generation.used.upscaled_by}
    return {"used": found} if found else {}


def _around_pictures(answer: object) -> list[bytes]:
    return to_json(answer).split(PICTURE.encode())


def _filled(texts: Sequence[bytes], pictures: Sequence[bytes]) -> Iterator[bytes]:
    """The texts, with a picture in base64 in each gap between them."""
    yield texts[0]
    for text, picture in zip(texts[1:], pictures, strict=True):
        yield from map(pybase64.b64encode, _pieces(picture))
        yield text


def _base64_chars(picture: bytes) -> int:
    return 4 * ((len(picture) + 2) // 3)


def _pieces(picture: bytes) -> Iterator[bytes]:
    return (picture[start : start + _PIECE_BYTES] for start in range(0, len(picture), _PIECE_BYTES))
