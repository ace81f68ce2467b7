"""Requests in the shape of OpenAI's Images API, small ones, and what every failure of that door has."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image

from tests.api.answers import Answer, assert_nothing_internal
from tests.api.bad_inputs import FORM, PNG, SIZE, form, part
from tests.services import picture_samples as samples

SMALL = {"prompt": "a harbour", "size": "64x64", "steps": 1}

#: As OpenAI's masks are: the middle is transparent.
_holed = Image.new("RGBA", SIZE, (0, 0, 0, 255))
_holed.paste((0, 0, 0, 0), (16, 16, 48, 48))
HOLED = samples.encode(_holed)


def edit(*pieces: bytes, image: bytes | None = PNG, **fields: object) -> dict[str, Any]:
    """The arguments of a call of Flask's test client."""
    texts = [part(name, str(value).encode()) for name, value in {**SMALL, **fields}.items()]
    pictures = [] if image is None else [part("image", image, "upload")]
    return {"data": form(*texts, *pictures, *pieces), "content_type": FORM}


def pictures_of(answer: Any) -> list[Image.Image]:
    return [opened(base64.b64decode(item["b64_json"])) for item in json.loads(answer.text)["data"]]


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def error_of(answer: Answer) -> dict[str, Any]:
    """The error's object, after a look at everything that all failures have in common."""
    assert answer.status_code >= 400, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Should-Retry"] in ("true", "false")
    assert "WWW-Authenticate" not in answer.headers
    assert ("Retry-After" in answer.headers) == (answer.status_code in (429, 503))
    assert_nothing_internal(answer.text)
    (name, error), *rest = json.loads(answer.text).items()
    assert (name, rest) == ("error", [])
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["param"] is None or error["message"].startswith(error["param"])
    return dict(error)
