"""The whole document: what all operations share is put in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from api.error_table import ERRORS
from api.openapi import examples
from api.openapi.headers import HEADERS, PARAMETERS
from api.openapi.operations import OPERATIONS, Answer, Operation
from api.openapi.problems import codes, responses
from api.schemas import Bounds, json_schemas
from api.schemas.answers import answer_schemas
from api.schemas.picture_fields import PICTURE_FIELDS
from services.generation import Mode

_REF = "#/components/schemas/{model}"
_MODELS: dict[Mode, str] = {"txt2img": "Txt2ImgFields", "img2img": "Img2ImgFields", "inpainting": "InpaintingFields"}
_PICTURE_TYPES = "image/png, image/jpeg, image/webp, image/bmp"

#: Of every answer to a call that is counted.
_RATE_LIMIT = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")

_TAGS = {
    "Generation": "Painting. A field that is not described is refused; nothing is ignored, clamped or replaced.",
    "Requests": "Following and cancelling one's own requests by their `X-Request-ID`.",
    "Images": "Finished images by their id.",
    "Catalogue": "What can be asked for.",
    "Health": "For balancers and monitoring.",
    "About": "This description.",
    "HEAD": "Each `GET` without its body.",
}


@dataclass(frozen=True, kw_only=True)
class Offer:
    """
    What the settings have to do with the description.

    :param prefix: of all routes but the absolute ones.
    :param keys: whether API keys are on.
    :param public_url: None: only the address that the description was fetched from is known.
    """

    version: str
    prefix: str
    bounds: Bounds
    default_model: str
    default_sampler: str | None
    default_scheduler: str | None
    keys: bool
    public_url: str | None
    max_body_mb: float
    rate_limit_global: str
    rate_limit_generation: str
    rate_limit_images: str | None


def describe(offer: Offer) -> dict[str, Any]:
    """An OpenAPI 3.1 document, ready for JSON."""
    fields = _fields(offer)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Stable Diffusion API",
            "version": offer.version,
            "summary": "Text-to-image, image-to-image and inpainting in front of Stable Diffusion WebUIs.",
            "description": _introduction(offer),
        },
        "servers": _servers(offer),
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(offer, fields),
        "components": {
            "schemas": {**fields, **_answers()},
            "headers": HEADERS,
            "parameters": PARAMETERS,
            **({"securitySchemes": _SECURITY_SCHEMES} if offer.keys else {}),
        },
    }


_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
}


def _introduction(offer: Offer) -> str:
    keys = "An API key is asked for" if offer.keys else "No API key is asked for"
    rates = f"`{offer.rate_limit_global}` over all routes, `{offer.rate_limit_generation}` generations"
    if offer.rate_limit_images:
        rates += f", `{offer.rate_limit_images}` images (which then do not count with the rest)"
    return f"""\
Limits per caller: {rates}. {keys}.
A body has at most {offer.max_body_mb:g} MB, a picture at most {offer.bounds.max_input_pixels} pixels,
width × height at most {offer.bounds.max_pixels}.

Every failure, on every path, is `application/problem+json`; [what each code means](docs/errors). Beside those that
operations list: 404 `not_found` and 405 `method_not_allowed` for what is no operation, and 414, 417, 431 and 501
`malformed_request` for what is no request that the service reads.

Every answer has `X-Content-Type-Options`, `Content-Security-Policy` and `Referrer-Policy` as well.
"""


def _servers(offer: Offer) -> list[dict[str, str]]:
    # Relative to where the description was fetched from, so that it is right behind a path prefix, too.
    here = {"url": ".", "description": "where this description comes from"}
    return [here] if offer.public_url is None else [here, {"url": offer.public_url, "description": "PUBLIC_URL"}]


def _fields(offer: Offer) -> dict[str, dict[str, Any]]:
    described = json_schemas(offer.bounds, ref_template=_REF)
    own = {"model": offer.default_model, "sampler": offer.default_sampler, "scheduler": offer.default_scheduler}
    for model in described.values():
        for name, default in own.items():
            if default is not None:
                model["properties"][name]["default"] = default
    return described


def _answers() -> dict[str, dict[str, Any]]:
    described = answer_schemas(ref_template=_REF)
    described["ProblemAnswer"]["properties"]["code"]["enum"] = list(codes())
    return described


def _paths(offer: Offer, fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        path = operation.path if operation.path.startswith("/") else f"{offer.prefix}/{operation.path}"
        described = _operation(operation, offer, fields)
        paths.setdefault(path, {})[operation.method] = described
        if operation.method == "get":
            paths[path]["head"] = _head(described)
    return paths


def _operation(operation: Operation, offer: Offer, fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    common = ("X-Request-ID", *(_RATE_LIMIT if operation.limited else ()), *operation.headers)
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in (*operation.parameters, "RequestId")],
        "responses": {
            **{str(status): _answer(answer, common) for status, answer in operation.answers.items()},
            **responses(_codes(operation, offer), headers=common, public_url=offer.public_url),
        },
    }
    if operation.body:
        described["requestBody"] = _body(operation.body, fields)
    if offer.keys:
        described["security"] = _SECURITY[operation.key]
    return described


_SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "required": [{"bearer": []}, {"key": []}],
    "optional": [{}, {"bearer": []}, {"key": []}],
    "unused": [],
}


def _codes(operation: Operation, offer: Offer) -> set[str]:
    names = {"all", operation.id, operation.tag}
    if operation.limited:
        names.add("limited")
    if offer.keys and operation.key == "required":
        names.add("keyed")
    wanted = {code for code, kind in ERRORS.items() if not names.isdisjoint(kind.operations)}
    # Without keys nobody may delete, with keys whoever has one.
    return wanted - {"forbidden"} if offer.keys else wanted


def _answer(answer: Answer, common: tuple[str, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": answer.description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in (*common, *answer.headers)},
    }
    return {**described, "content": answer.content} if answer.content else described


def _head(get: dict[str, Any]) -> dict[str, Any]:
    bare = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in get["responses"].items()
    }
    return {**get, "operationId": f"{get['operationId']}Head", "tags": ["HEAD"], "responses": bare}


def _body(mode: Mode, fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    name = _MODELS[mode]
    shown = {title: {"value": body} for title, body in examples.REQUESTS[mode].items()}
    files = [picture for picture in PICTURE_FIELDS if picture in fields[name]["properties"]]
    form: dict[str, Any] = {"schema": _form(fields[name], files)}
    if files:
        form["encoding"] = {picture: {"contentType": _PICTURE_TYPES} for picture in files}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": _REF.format(model=name)}, "examples": shown},
            "multipart/form-data": form,
        },
    }


def _form(model: dict[str, Any], files: list[str]) -> dict[str, Any]:
    """The same fields, pictures as files; base64 is taken for them, too, as in JSON."""
    properties = dict(model["properties"])
    for picture in files:
        properties[picture] = {
            "type": "string",
            "format": "binary",
            "description": "A PNG, JPEG, WebP or BMP file. " + ("" if picture == "image" else "White is repainted."),
        }
    return {**model, "title": f"{model['title']} as a form", "properties": properties}
