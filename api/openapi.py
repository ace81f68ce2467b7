"""The description of the HTTP API (OpenAPI 3.1): ``openapi.json``, completed with what stands elsewhere.

The file has the operations, answers and headers in OpenAPI's own words. Added here are the fields with their bounds,
the errors, the operator's settings, and what all operations share. In the file, ``x-headers`` lists headers by name,
``x-errors`` codes of errors that its tags do not imply; ``x-unlimited`` says that no limit counts an operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from api.doors import a1111_answers, openai_answers
from api.doors.openai_fields import OWN
from api.error_table import ERRORS, ErrorKind
from api.errors import Failure, errors_page
from api.schemas import STRUCTURED_FIELDS, FieldSet, json_schemas
from api.schemas.picture_fields import PICTURE_FIELDS

_FILE = Path(__file__).with_suffix(".json")
#: The doors' operations, merged into those above while a door is open.
_DOOR_FILES = {door: _FILE.parent / "doors" / f"{door}.json" for door in ("a1111", "openai")}
#: A door's status and body for a failure, the schema of its bodies, and the headers that all of them have.
_Shape = Callable[[Failure], tuple[int, dict[str, Any]]]
_DOOR_FAILURES: Mapping[str, tuple[_Shape, str, tuple[str, ...]]] = {
    "A1111 door": (a1111_answers.shape, "A1111Error", ()),
    "OpenAI door": (openai_answers.shape, "OpenAIFailure", ("X-Should-Retry",)),
}

_RATE_LIMIT = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
#: Headers of errors, by status, besides those of every answer.
_ERROR_HEADERS = {
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_PICTURE_TYPES = "image/png, image/jpeg, image/webp, image/bmp"


@dataclass(frozen=True, kw_only=True)
class DocumentSettings:
    """
    The settings that show in the description.

    :param doors: those that are open.
    :param keys: whether API keys are on.
    :param public_url: None: only the address that the description was fetched from is known.
    """

    version: str
    fields: FieldSet
    default_model: str
    default_sampler: str | None
    default_scheduler: str | None
    default_clip_skip: int
    default_upscaler: str | None
    doors: Collection[str]
    keys: bool
    public_url: str | None
    max_body_mb: float
    rate_limit_global: str
    rate_limit_generation: str
    rate_limit_images: str | None


def describe(settings: DocumentSettings) -> dict[str, Any]:
    """The whole document, ready for JSON."""
    document = _read(_FILE)
    for door, file in _DOOR_FILES.items():
        if door in settings.doors:
            _merge(document, _read(file))
    shared = document["components"].pop("responses")
    _introduce(document, settings)
    _add_schemas(document["components"]["schemas"], settings)
    if "openai" in settings.doors:
        _add_own_fields(document["components"]["schemas"])
    for methods in document["paths"].values():
        for operation in methods.values():
            _complete(operation, document["components"]["schemas"], shared, settings)
        if "get" in methods:
            methods["head"] = _head(methods["get"])
    return document


def _read(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def _merge(document: dict[str, Any], door: dict[str, Any]) -> None:
    document["tags"] += door["tags"]
    document["paths"] |= door["paths"]
    for kind, found in door["components"].items():
        document["components"][kind] |= found


def _introduce(document: dict[str, Any], settings: DocumentSettings) -> None:
    limits = f"`{settings.rate_limit_global}` over all routes, `{settings.rate_limit_generation}` generations"
    if settings.rate_limit_images:
        limits += f", `{settings.rate_limit_images}` images (which then do not count with the rest)"
    info = document["info"]
    info["version"] = settings.version
    info["description"] = info["description"].format(
        limits=limits,
        keys="An API key is required" if settings.keys else "No API key is required",
        max_body_mb=settings.max_body_mb,
        max_input_pixels=settings.fields.bounds.max_input_pixels,
        max_pixels=settings.fields.bounds.max_pixels,
    )
    if settings.public_url is not None:
        # Behind the first, which is relative and so also right behind a path prefix.
        document["servers"].append({"url": settings.public_url, "description": "PUBLIC_URL"})
    if not settings.keys:
        del document["components"]["securitySchemes"]


def _add_schemas(schemas: dict[str, Any], settings: DocumentSettings) -> None:
    defaults = {
        "model": settings.default_model,
        "sampler": settings.default_sampler,
        "scheduler": settings.default_scheduler,
        "clip_skip": settings.default_clip_skip,
        "upscaler": settings.default_upscaler,
    }
    for schema in json_schemas(settings.fields).values():
        for name, default in defaults.items():
            if default is not None and name in schema["properties"]:
                schema["properties"][name]["default"] = default
        schemas[schema["title"]] = schema
    schemas["ProblemAnswer"]["properties"]["code"]["enum"] = [
        error.code for error in ERRORS.values() if not error.by_proxy
    ]


def _add_own_fields(schemas: dict[str, Any]) -> None:
    """The service's own fields that OpenAI's door takes under their own names."""
    for schema, own, names in (
        ("OpenAIGenerationFields", "Txt2ImgFields", OWN["generations"]),
        ("OpenAIEditFields", "InpaintingFields", OWN["edits"]),
    ):
        refs = {name: {"$ref": f"#/components/schemas/{own}/properties/{name}"} for name in names}
        schemas[schema]["properties"] = refs | schemas[schema]["properties"]


def _complete(
    operation: dict[str, Any], schemas: dict[str, Any], shared: dict[str, Any], settings: DocumentSettings
) -> None:
    """
    :param schemas: of the fields among others, by name.
    :param shared: answers that operations refer to by name.
    """
    # Calls are counted by key, so those that take none are not counted either.
    limited = operation["security"] != [] and not operation.pop("x-unlimited", False)
    headers = ["X-Request-ID", *(_RATE_LIMIT if limited else ()), *operation.pop("x-headers", ())]
    operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestId"})
    answers = {status: _answer(answer, headers, shared) for status, answer in operation["responses"].items()}
    operation["responses"] = answers | _errors(operation, headers, settings, limited=limited)
    if "requestBody" in operation and _DOOR_FAILURES.keys().isdisjoint(operation["tags"]):
        _add_form(operation["requestBody"]["content"], schemas)
    if not settings.keys:
        del operation["security"]


def _answer(answer: dict[str, Any], headers: Sequence[str], shared: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in answer:
        answer = shared[answer["$ref"].rpartition("/")[2]]
    described = {name: value for name, value in answer.items() if name != "x-headers"}
    return described | {"headers": _refer(*headers, *answer.get("x-headers", ()))}


def _refer(*headers: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def _errors(
    operation: dict[str, Any], headers: Sequence[str], settings: DocumentSettings, *, limited: bool
) -> dict[str, Any]:
    """The errors that an operation can have, by status."""
    names = {"all", operation["operationId"], *operation["tags"], *operation.pop("x-errors", ())}
    if limited:
        names.add("limited")
    if settings.keys and operation["security"] and {} not in operation["security"]:
        names.add("keyed")
    # Without keys nobody may delete; with keys, whoever has one.
    found = [
        error
        for error in ERRORS.values()
        if not names.isdisjoint((error.code, *error.operations)) and not (settings.keys and error.code == "forbidden")
    ]
    for tag, shape in _DOOR_FAILURES.items():
        if tag in operation["tags"]:
            return _door_errors(found, headers, *shape)
    page = errors_page(settings.public_url)
    return {str(status): _error(list(group), headers, page) for status, group in groupby(found, lambda one: one.status)}


def _door_errors(
    errors: Sequence[ErrorKind], headers: Sequence[str], shape: _Shape, schema: str, own_headers: Sequence[str]
) -> dict[str, Any]:
    """The same in a door's shape, where an error that is retryable may have another status than one that is not."""
    answers: dict[int, dict[str, Any]] = {}
    for error in errors:
        for retryable in (True, False) if error.retryable == "sometimes" else (error.retryable,):
            status, body = shape(Failure(kind=error, detail=error.detail or error.example, retryable=retryable))
            answers.setdefault(status, {})[error.code] = {"summary": error.title, "value": body}
    return {
        str(status): {
            "description": "\n".join(f"- [`{code}`](docs/errors#{code})" for code in examples),
            "headers": _refer(*headers, *own_headers, *(("Retry-After",) if status in (429, 503) else ())),
            "content": {
                "application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": examples}
            },
        }
        for status, examples in sorted(answers.items())
    }


def _error(errors: Sequence[ErrorKind], headers: Sequence[str], page: str) -> dict[str, Any]:
    """One answer for the errors that share a status, with an example of each."""
    status = errors[0].status
    properties: dict[str, Any] = {"status": {"const": status}, "code": {"enum": [error.code for error in errors]}}
    if reasons := [reason for error in errors for reason in error.reasons]:
        properties["reason"] = {"pattern": f"^({'|'.join(reasons)})$".replace("NNN", "[1-9][0-9]{2}")}
    schema = {"allOf": [{"$ref": "#/components/schemas/ProblemAnswer"}, {"properties": properties}]}
    examples = {error.code: {"summary": error.title, "value": _example(error, page)} for error in errors}
    return {
        "description": "\n".join(f"- [`{error.code}`](docs/errors#{error.code}): {error.cause}" for error in errors),
        "headers": _refer(*headers, *_ERROR_HEADERS.get(status, ())),
        "content": {"application/problem+json": {"schema": schema, "examples": examples}},
    }


def _example(error: ErrorKind, page: str) -> dict[str, Any]:
    reason = next(iter(error.reasons), "").replace("NNN", "500")
    return {
        "type": f"{page}#{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail or error.example,
        **({"reason": reason} if reason else {}),
        **({"errors": error.example_errors} if error.example_errors else {}),
        "retryable": error.retryable is True,
        "request_id": "9f1c2b3d4e5f60718293a4b5c6d7e8f9",
    }


def _head(get: dict[str, Any]) -> dict[str, Any]:
    bare = {
        status: {name: value for name, value in answer.items() if name != "content"}
        for status, answer in get["responses"].items()
    }
    return {**get, "operationId": f"{get['operationId']}Head", "tags": ["HEAD"], "responses": bare}


def _add_form(content: dict[str, Any], schemas: dict[str, Any]) -> None:
    """The same fields as a form, with pictures as files; base64 is taken for them too, as in JSON."""
    schema = schemas[content["application/json"]["schema"]["$ref"].rpartition("/")[2]]
    files = [name for name in PICTURE_FIELDS if name in schema["properties"]]
    binary = {name: _file(name) for name in files}
    texts = {name: _as_json(schema["properties"][name]) for name in STRUCTURED_FIELDS & schema["properties"].keys()}
    title = f"{schema['title']} as a form"
    form: dict[str, Any] = {"schema": {**schema, "title": title, "properties": schema["properties"] | binary | texts}}
    if files:
        form["encoding"] = {name: {"contentType": _PICTURE_TYPES} for name in files}
    content["multipart/form-data"] = form


def _as_json(field: dict[str, Any]) -> dict[str, Any]:
    """A list or an object, which a form has as a text."""
    described = {"type": "string", "contentMediaType": "application/json", "contentSchema": field}
    return {**described, "description": f"{field['description']} As JSON."}


def _file(name: str) -> dict[str, str]:
    description = "A PNG, JPEG, WebP or BMP file." + (" White is repainted." if name == "mask" else "")
    return {"type": "string", "format": "binary", "description": description}
