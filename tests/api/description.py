"""An answer held against the description: its status, media type, body and every one of its headers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from flask import Flask
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

#: Of HTTP itself, of the server, or on every answer as the description's introduction says.
_UNDESCRIBED = {
    *("content-type", "content-length", "connection", "date", "server", "allow", "vary"),
    *("x-content-type-options", "content-security-policy", "referrer-policy", "cross-origin-opener-policy"),
}


def description(app: Flask) -> dict[str, Any]:
    answer = app.test_client().get("/openapi.json")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    document: dict[str, Any] = json.loads(answer.text)
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method in lower case, and operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def schema_of(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """One that can be used by itself: what it refers to is in it."""
    return {**schema, "components": document["components"]}


def operation_of(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    for template, methods in document["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path):
            return methods[method.lower()]
    raise AssertionError(f"{method} {path} is not described")


def assert_described(document: dict[str, Any], answer: TestResponse, status: int) -> None:
    data = answer.data
    answer.close()
    assert answer.status_code == status, data[:500]
    operation = operation_of(document, answer.request.method, answer.request.path)
    response = operation["responses"][str(status)]
    assert_headers_described(document, response, dict(answer.headers))
    if "content" not in response:
        assert data == b""
        return
    schema = response["content"][answer.mimetype]["schema"]
    if answer.mimetype.endswith("json"):
        body = json.loads(data)
        Draft202012Validator(schema_of(document, schema)).validate(body)
        assert _undescribed(document, schema, body) == set()


def assert_headers_described(document: dict[str, Any], response: dict[str, Any], headers: dict[str, str]) -> None:
    described = {name.lower(): name for name in response.get("headers", {})}
    assert {name.lower() for name in headers} - described.keys() - _UNDESCRIBED == set()
    for name, value in headers.items():
        if name.lower() in described:
            schema = document["components"]["headers"][described[name.lower()]]["schema"]
            kinds = {"integer": int, "number": float}
            Draft202012Validator(schema).validate(kinds.get(schema["type"], str)(value))


def _undescribed(document: dict[str, Any], schema: dict[str, Any], body: Any) -> set[str]:
    """Names in a body that its schema does not have: schemas are open, so that an answer may get more of them."""
    if "$ref" in schema:
        return _undescribed(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], body)
    if "allOf" in schema:
        return _undescribed(document, schema["allOf"][0], body)
    if isinstance(body, list):
        return {name for entry in body for name in _undescribed(document, schema.get("items", {}), entry)}
    if not isinstance(body, dict) or "properties" not in schema:
        return set()
    known = schema["properties"]
    found = body.keys() - known.keys()
    return set(found).union(*(_undescribed(document, known[name], body[name]) for name in known.keys() & body.keys()))
