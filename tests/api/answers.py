"""What every answer of the service is held against, from Flask's test client or over a real connection."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, Protocol

_KEYS = {"type", "title", "status", "code", "detail", "retryable", "request_id"}

#: Addresses, paths of this machine and of the pretended WebUI, and traces of Python.
_INTERNALS = re.compile(
    r"127\.0\.0\.1|localhost|::1|/opt/|/home/|/tmp/|/usr/|\.py\b|Traceback|stable-diffusion-webui|0x[0-9a-f]{8}"
    r"|Exception\b|<class|\bobject at 0x",
)
#: The class of a WebUI's exception is told; no exception of this service's own is.
_WEBUIS_EXCEPTION = re.compile(r"the WebUI answered \d+ \(\w+\)")


class Answer(Protocol):
    """Both kinds of answer have this."""

    status_code: int
    headers: Any
    text: str


def problem_of(answer: Answer) -> dict[str, Any]:
    """The body of a failure, after a look at everything that all failures have in common."""
    body = shape_of(answer)
    assert_nothing_internal(answer.text)
    return body


def a1111_failure_of(answer: Answer) -> dict[str, Any]:
    """The same in A1111's shape."""
    assert answer.status_code >= 400, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "WWW-Authenticate" not in answer.headers
    body: dict[str, Any] = json.loads(answer.text, parse_constant=_no_constant)
    assert body.keys() == {"error", "detail", "body", "errors", "code", "request_id"}
    assert body["error"] == body["detail"] == body["errors"] != ""
    assert body["body"] == ""
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert_nothing_internal(answer.text)
    return body


def assert_nothing_internal(text: str) -> None:
    assert not _INTERNALS.search(_WEBUIS_EXCEPTION.sub("", text)), text[:2000]


def shape_of(answer: Answer) -> dict[str, Any]:
    """The same for requests that may have anything in them, words that would look like a leak included."""
    assert answer.status_code >= 400, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    body: dict[str, Any] = json.loads(answer.text, parse_constant=_no_constant)
    assert body.keys() - {"errors", "reason"} == _KEYS
    assert ("reason" in body) == (body["code"] == "webui_error")
    assert body["status"] == answer.status_code
    assert body["type"] == f"/docs/errors#{body['code']}"
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert isinstance(body["title"], str)
    assert body["title"]
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert isinstance(body["retryable"], bool)
    for entry in body.get("errors", []):
        assert entry.keys() - {"received"} == {"field", "message"}
        assert entry["message"]
    assert ("errors" in body) == (answer.status_code == 422 and body["code"] != "idempotency_mismatch")
    return body


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")
