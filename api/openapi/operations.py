"""What each route takes and answers, in the words of OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from api.openapi import examples
from services.generation import Mode

_FILE_HEADERS = ("ETag", "Last-Modified", "Accept-Ranges", "Cache-Control")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """
    A success, or a state that is no failure of the request.

    :param content: by media type.
    :param headers: beside those of every answer.
    """

    description: str
    content: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    headers: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Operation:
    """
    :param path: below the common prefix, or absolute where it begins with a slash.
    :param body: whose fields the body has.
    :param key: whether an API key is asked for where there are any; "optional": it says only whom to count for.
    :param limited: whether calls are counted.
    :param headers: of each of its answers, failures included.
    """

    method: Literal["get", "post", "delete"]
    path: str
    id: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: Sequence[str] = ()
    body: Mode | None = None
    key: Literal["required", "optional", "unused"] = "required"
    limited: bool = True
    headers: Sequence[str] = ()


def _json(schema: str, **shown: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    if shown:
        described["examples"] = {name: {"value": value} for name, value in shown.items()}
    return {"application/json": described}


def _text(*media_types: str) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string"}} for media_type in media_types}


def _picture(*media_types: str) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}


_PAINTED = Answer(
    description="The picture. With `Accept: image/png` the PNG itself, and what JSON would tell in headers.",
    content={
        **_json("GenerationAnswer", url=examples.GENERATION, base64=examples.WITH_BASE64, batch=examples.BATCH),
        **_picture("image/png"),
    },
    headers=(
        *("Preference-Applied", "Idempotency-Replayed"),
        *("X-Image-Id", "X-Seed", "X-Model", "X-Processing-Time", "Location", "Warning"),
    ),
)


def _generation(mode: Mode, summary: str, description: str) -> Operation:
    return Operation(
        method="post",
        path=mode,
        id=mode,
        tag="Generation",
        summary=summary,
        description=description,
        parameters=("IdempotencyKey", "Prefer"),
        body=mode,
        answers={200: _PAINTED},
        headers=("Server-Timing",),
    )


OPERATIONS: tuple[Operation, ...] = (
    _generation("txt2img", "Paint a picture from a prompt", ""),
    _generation(
        "img2img",
        "Paint over a picture",
        "Without `width` and `height` the answer has the picture's size, scaled into the bounds and rounded to a "
        "multiple of 8; with one of them the other follows the picture's shape.",
    ),
    _generation(
        "inpainting",
        "Repaint the masked part of a picture (virtual try-on)",
        "White is repainted, black is kept. Beyond the mask and its blur the answer is the picture that was sent, "
        "pixel for pixel.",
    ),
    Operation(
        method="get",
        path="models",
        id="models",
        tag="Catalogue",
        summary="The models that can be asked for",
        answers={
            200: Answer(description="All models of all WebUIs.", content=_json("ModelsAnswer", sd=examples.MODELS))
        },
    ),
    Operation(
        method="get",
        path="options",
        id="options",
        tag="Catalogue",
        summary="Samplers, schedulers, limits and defaults, for a form",
        answers={
            200: Answer(description="What can be chosen.", content=_json("OptionsAnswer", options=examples.OPTIONS))
        },
    ),
    Operation(
        method="get",
        path="image/{image_id}",
        id="getImage",
        tag="Images",
        summary="A stored image, or a smaller copy",
        description="Parameters that are not described do nothing.",
        parameters=(
            *("ImageId", "Format", "Width", "Range", "IfRange"),
            *("IfNoneMatch", "IfModifiedSince", "IfMatch", "IfUnmodifiedSince"),
        ),
        answers={
            200: Answer(
                description="The image.",
                content=_picture("image/png", "image/jpeg", "image/webp"),
                headers=_FILE_HEADERS,
            ),
            206: Answer(
                description="The part that `Range` asks for.",
                content=_picture("image/png", "image/jpeg", "image/webp"),
                headers=(*_FILE_HEADERS, "Content-Range"),
            ),
            304: Answer(description="It is still the one that the caller has.", headers=_FILE_HEADERS),
        },
        key="optional",
    ),
    Operation(
        method="delete",
        path="image/{image_id}",
        id="deleteImage",
        tag="Images",
        summary="Remove an image",
        description="Only where API keys are on; else it is always 403.",
        parameters=("ImageId", "IfMatch", "IfUnmodifiedSince"),
        answers={204: Answer(description="It is gone.")},
    ),
    Operation(
        method="get",
        path="requests/{request_id}",
        id="getRequest",
        tag="Requests",
        summary="Where a request of one's own stands",
        parameters=("RequestIdInPath",),
        answers={
            200: Answer(
                description="Its state now, or how it ended during the last hour.",
                content=_json("RequestAnswer", running=examples.RUNNING, queued=examples.QUEUED, done=examples.DONE),
                headers=("Cache-Control",),
            )
        },
    ),
    Operation(
        method="delete",
        path="requests/{request_id}",
        id="cancelRequest",
        tag="Requests",
        summary="Cancel a request that waits or runs",
        description="The generation call that waits for it answers 409 `cancelled`.",
        parameters=("RequestIdInPath",),
        answers={204: Answer(description="It is cancelled; a running job stops at its next step.")},
    ),
    Operation(
        method="get",
        path="health",
        id="health",
        tag="Health",
        summary="Whether the service can paint now",
        description="From memory, in milliseconds, whatever the WebUIs do.",
        answers={
            200: Answer(
                description="`healthy`, or `degraded`: something is wrong, but pictures come.",
                content=_json("HealthAnswer", healthy=examples.HEALTHY),
                headers=("Cache-Control",),
            ),
            503: Answer(
                description="`unhealthy`: nothing can be painted; or `draining`: the service is shutting down.",
                content=_json("HealthAnswer", unhealthy=examples.UNHEALTHY),
                headers=("Cache-Control",),
            ),
        },
        key="unused",
        limited=False,
    ),
    Operation(
        method="get",
        path="health/live",
        id="live",
        tag="Health",
        summary="Whether the process lives",
        answers={
            200: Answer(
                description="It does.",
                content=_json("LiveAnswer", alive={"status": "alive"}),
                headers=("Cache-Control",),
            )
        },
        key="unused",
        limited=False,
    ),
    Operation(
        method="get",
        path="/metrics",
        id="metrics",
        tag="Health",
        summary="What the service counts, for Prometheus",
        answers={
            200: Answer(
                description="Prometheus' text form, or OpenMetrics where `Accept` asks for it.",
                content=_text("text/plain", "application/openmetrics-text"),
                headers=("Cache-Control",),
            )
        },
        key="unused",
        limited=False,
    ),
    Operation(
        method="get",
        path="/openapi.json",
        id="openapi",
        tag="About",
        summary="This description",
        parameters=("IfNoneMatch",),
        answers={
            200: Answer(
                description="OpenAPI 3.1.",
                content={"application/json": {"schema": {"type": "object"}}},
                headers=("ETag", "Cache-Control"),
            ),
            304: Answer(description="It is still the one that the caller has.", headers=("ETag", "Cache-Control")),
        },
        key="unused",
        limited=False,
    ),
)
