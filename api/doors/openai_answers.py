"""Generations and failures in the shape of OpenAI's Images API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from flask import Response, g
from pydantic_core import to_json

from api import rendering
from api.doors.openai_fields import WORDS, Look
from api.doors.translation import Translation
from api.errors import Failure, recorded, sentence
from services.generation import GeneratedImage, Generation
from services.problems import Problem

#: Wrong fields that one sentence has.
_MOST_SHOWN: Final = 20

#: After longer ones, programs wait longer than anybody wants, or come back at once.
_LONGEST_RETRY_AFTER_S: Final = 60

#: Status, type and code of failures that are called otherwise here.
_FAILURES: Final = {
    "unauthorized": (401, "authentication_error", "invalid_api_key"),
    "model_not_found": (404, "invalid_request_error", "model_not_found"),
    "not_found": (404, "invalid_request_error", "unknown_url"),
    "method_not_allowed": (405, "invalid_request_error", "method_not_allowed"),
    "payload_too_large": (413, "invalid_request_error", "payload_too_large"),
    "rate_limited": (429, "rate_limit_error", "rate_limited"),
    "internal_error": (500, "server_error", "internal_error"),
    # Nobody reads it; the log and the metrics have the same status for every entrance.
    "caller_gone": (499, "job_error", "caller_gone"),
    **{
        code: (400, "invalid_request_error", code)
        for code in ("malformed_request", "unsupported_media_type", "validation_error", "capability_missing")
    },
    "request_timeout": (400, "job_error", "request_timeout"),
}


def as_json(
    generation: Generation,
    look: Look,
    *,
    image_url: rendering.ImageUrl,
    picture: Callable[[GeneratedImage], bytes],
) -> Response:
    """
    :param picture: an image's bytes in the format that was asked for.
    """
    data: list[dict[str, object]] = []
    pictures = []
    for image in generation.images:
        url = image_url(image) if look.as_url else None
        if url is None:  # also of an image that could not be stored
            pictures.append(picture(image))
        data.append({"b64_json": rendering.PICTURE} if url is None else {"url": url})
        data[-1]["seed"] = image.seed
    answer = {"created": int(time.time()), "data": data, **_described(generation.images[0], look)}
    answer |= {"model": generation.model, **rendering.used(generation)}
    response = rendering.with_pictures(answer, pictures)
    response.headers["X-Image-Id"] = str(generation.images[0].image_id)
    if not all(image.stored for image in generation.images):
        response.headers["Warning"] = rendering.NOT_STORED
    return response


def completed(kind: str, generation: Generation, look: Look, pictures: Sequence[bytes]) -> Iterator[bytes]:
    """
    An event for each picture.

    :param kind: ``image_generation`` or ``image_edit``.
    """
    for image, picture in zip(generation.images, pictures, strict=True):
        event = {
            "type": f"{kind}.completed",
            "b64_json": rendering.PICTURE,
            "created_at": int(time.time()),
            "quality": look.quality,
            **_described(image, look),
            "seed": image.seed,
        }
        yield f"event: {kind}.completed\ndata: ".encode()
        yield from rendering.json_pieces(event, [picture])
        yield b"\n\n"


def _described(image: GeneratedImage, look: Look) -> dict[str, object]:
    return {"size": f"{image.width}x{image.height}", "output_format": look.form, "background": "opaque"}


def failed(failure: Failure) -> Response:
    """
    Programs repeat 408, 409, 429 and 5xx up to two times, most of them unless ``X-Should-Retry`` forbids that: what
    would end in the same way again has another status.
    """
    status, body = shape(failure, g.get("translation"))
    response = Response(to_json(body), status=status, mimetype="application/json")
    soon = int(failure.headers.get("Retry-After", "0")) <= _LONGEST_RETRY_AFTER_S
    response.headers["X-Should-Retry"] = "true" if failure.retryable and soon else "false"
    return response


def failed_event(error: Exception) -> Iterator[bytes]:
    """The only event of a stream whose job failed."""
    _, body = shape(recorded(error), g.get("translation"))
    return iter([b"event: error\ndata: " + to_json({"type": "error", **body}) + b"\n\n"])


def shape(failure: Failure, translation: Translation | None = None) -> tuple[int, dict[str, Any]]:
    """
    Status and body.

    :param translation: of the request that failed; None if its fields were not read.
    """
    own = failure.kind.code
    otherwise = (failure.kind.status, "server_error", own) if failure.retryable else (400, "job_error", own)
    status, kind, code = _FAILURES.get(own, otherwise)
    problems = failure.problems if translation is None else _once(translation.renamed(failure.problems))
    detail = failure.detail
    for ours, theirs in WORDS:
        detail = detail.replace(ours, theirs)
    message = sentence(problems, most=_MOST_SHOWN) or detail or failure.kind.title
    param = problems[0].field if problems else None
    return status, {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """What is wrong with both sides of a size is one problem."""
    return [problem for place, problem in enumerate(problems) if problem not in problems[:place]]
