"""What the routes answer: views fill these in, and the description is made from them.

Of a generation's answer only the description is made from here: it is rendered piece by piece, without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from api.schemas.described import Described
from api.schemas.fields import MAX_SEED
from services.health import Reason

_LEFT_OUT: Any = None
_SEED = Field(ge=0, le=MAX_SEED, description="The one that was painted with, also where -1 was asked for.")

ImageId = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
ImageUrl = Annotated[
    str | None,
    Field(
        json_schema_extra={"format": "uri-reference"},
        description="Absolute where `PUBLIC_URL` is set; null where the image could not be stored.",
    ),
]
ImageBase64 = Annotated[
    str,
    Field(pattern="^data:image/png;base64,", description="A data URI; not there with `response_format` `url`."),
]
Pixels = Annotated[int, Field(ge=1, description="Pixels.")]


@dataclass(frozen=True, kw_only=True)
class ImageAnswer:
    """One image of a batch."""

    image_id: ImageId
    image_url: ImageUrl
    image_base64: ImageBase64 = _LEFT_OUT
    seed: Annotated[int, _SEED]
    width: Pixels
    height: Pixels


@dataclass(frozen=True, kw_only=True)
class GenerationAnswer(ImageAnswer):
    """A finished generation; the top level describes the first image."""

    processing_time: Annotated[
        float, Field(ge=0, description="Seconds from the accepted request on, the wait for a WebUI included.")
    ]
    model: Annotated[str, Field(description="The name that was asked for, or `SD_MODEL`.")]
    request_id: str
    images: Annotated[
        list[ImageAnswer], Field(description="All images of a batch; only where `batch_size` is more than 1.")
    ] = _LEFT_OUT
    warnings: Annotated[
        list[str], Field(description="Why `image_url` is null; only where an image could not be stored.")
    ] = _LEFT_OUT


@dataclass(frozen=True, kw_only=True)
class ModelAnswer:
    """A checkpoint of the pool."""

    id: Annotated[str, Field(description="What `model` is best given: an alias where there is one.")]
    checkpoint: Annotated[str, Field(description="The title that the WebUI gives it.")]
    name: str
    hash: Annotated[str | None, Field(description="Null until the WebUI knows it.")]
    loaded: Annotated[bool, Field(description="A WebUI has it in memory now.")]
    default: Annotated[bool, Field(description="It is painted with where `model` is left out.")]


@dataclass(frozen=True, kw_only=True)
class ModelsAnswer:
    """Over all WebUIs of the pool."""

    default: Annotated[str, Field(description="`SD_MODEL`, whether or not a WebUI has it.")]
    models: tuple[ModelAnswer, ...]


@dataclass(frozen=True, kw_only=True)
class OptionsAnswer:
    """What a front end builds its form from."""

    samplers: tuple[str, ...]
    schedulers: tuple[str, ...]
    upscalers: tuple[str, ...]
    loras: tuple[str, ...]
    simulated: Annotated[
        Literal["none", "some", "all"],
        Field(description="Which of the WebUIs are simulators, which paint without a model."),
    ]
    limits: Annotated[
        Mapping[str, Mapping[str, float]],
        Field(description="By field: `minimum`, `maximum`, `multiple_of` or `max_length`."),
    ]
    defaults: Annotated[
        Mapping[str, Mapping[str, Any]],
        Field(description="By route, then by field: what is taken where it is left out."),
    ]


@dataclass(frozen=True, kw_only=True)
class RequestAnswer:
    """Where a request stands."""

    status: Literal["queued", "running", "done", "failed", "cancelled"]
    queue_position: Annotated[int | None, Field(description="1 for the next one; null unless it waits.")]
    progress: Annotated[
        float | None, Field(ge=0, le=1, description="0 … 1; null where the WebUI does not tell, and after a failure.")
    ]
    eta_seconds: Annotated[float | None, Field(description="Estimated; null where nothing is known.")]
    image_ids: Annotated[tuple[str, ...], Field(description="Of a request that is done.")]


@dataclass(frozen=True, kw_only=True)
class WebUIsAnswer:
    """How many there are. ``gpu`` and ``cpu`` count those that are available."""

    total: int
    available: int
    busy: int
    gpu: int
    cpu: int


@dataclass(frozen=True, kw_only=True)
class QueueAnswer:
    """Jobs that wait, and how many may."""

    waiting: int
    limit: int


@dataclass(frozen=True, kw_only=True)
class HealthAnswer:
    """From what was last seen in the background."""

    status: Literal["healthy", "degraded", "unhealthy", "draining"]
    version: str
    uptime_seconds: Annotated[float, Field(ge=0)]
    device: Annotated[Literal["gpu", "cpu", "none"], Field(description="What would serve now.")]
    webuis: WebUIsAnswer
    queue: QueueAnswer
    redis: Literal["up", "down", "off"]
    storage: Literal["ok", "failing"]
    reasons: Annotated[tuple[Reason, ...], Field(description="Why it is not `healthy`.")]


@dataclass(frozen=True, kw_only=True)
class LiveAnswer:
    """The process lives."""

    status: Literal["alive"]


@dataclass(frozen=True, kw_only=True)
class WrongField:
    """One thing that is wrong with a request."""

    field: Annotated[str, Field(description="A field of the body, a parameter, or a header by its name.")]
    message: Annotated[str, Field(description="What is accepted.")]
    received: Annotated[
        Any, Field(description="What came, shortened; not there where showing it would say nothing.")
    ] = _LEFT_OUT


@dataclass(frozen=True, kw_only=True)
class ProblemAnswer:
    """A failure (RFC 9457)."""

    type: Annotated[
        str,
        Field(
            json_schema_extra={"format": "uri-reference"},
            description="Where the code is explained. Absolute where `PUBLIC_URL` is set.",
        ),
    ]
    title: str
    status: int
    code: str
    detail: Annotated[str, Field(description="For a person.")]
    reason: Annotated[
        str, Field(description="Which fault of the WebUI it was, for programs; with `webui_error` only.")
    ] = _LEFT_OUT
    errors: Annotated[
        list[WrongField], Field(description="Everything that is wrong with the request; on 422 only.")
    ] = _LEFT_OUT
    retryable: Annotated[bool, Field(description="Whether the same request may succeed later.")]
    request_id: str


_ANSWERS = (GenerationAnswer, ModelsAnswer, OptionsAnswer, RequestAnswer, HealthAnswer, LiveAnswer, ProblemAnswer)


def answer_schemas(*, ref_template: str) -> dict[str, dict[str, Any]]:
    """
    All answers, and what they are made of, by their classes' names.

    :param ref_template: how one refers to another, with ``{model}`` for its name.
    """
    _, schema = TypeAdapter.json_schemas(
        [(answer.__name__, "validation", TypeAdapter(answer)) for answer in _ANSWERS],
        ref_template=ref_template,
        schema_generator=Described,
    )
    described: dict[str, dict[str, Any]] = schema["$defs"]
    return described
