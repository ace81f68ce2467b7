"""``GET image/<id>?format=…&width=…``."""

from __future__ import annotations

import io

import pytest
from flask.testing import FlaskClient
from PIL import Image

from tests.running import PREFIX


@pytest.fixture
def image_url(client: FlaskClient) -> str:
    body = {"prompt": "a lake", "width": 128, "height": 64, "steps": 1, "response_format": "url"}
    return str(client.post(f"{PREFIX}/txt2img", json=body).get_json()["image_url"])


@pytest.mark.parametrize(
    ("query", "form", "size"),
    [
        ("format=webp", "WEBP", (128, 64)),
        ("format=jpeg&width=32", "JPEG", (32, 16)),
        ("width=64", "PNG", (64, 32)),
        ("format=png&width=128", "PNG", (128, 64)),
    ],
)
def test_a_smaller_copy(client: FlaskClient, image_url: str, query: str, form: str, size: tuple[int, int]) -> None:
    answer = client.get(f"{image_url}?{query}")
    assert (answer.status_code, answer.mimetype) == (200, f"image/{form.lower()}")
    image = Image.open(io.BytesIO(answer.data))
    assert (image.format, image.size) == (form, size)
    again = client.get(f"{image_url}?{query}", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert client.head(f"{image_url}?{query}").content_length == len(answer.data)


def test_png_alone_is_the_file_itself(client: FlaskClient, image_url: str) -> None:
    with client.get(f"{image_url}?format=png") as copy, client.get(image_url) as file:
        assert copy.data == file.data
        assert copy.headers["ETag"] == file.headers["ETag"]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("format=gif", ["format"]),
        ("format=", ["format"]),
        ("format=WEBP", ["format"]),
        ("width=0", ["width"]),
        ("width=15", ["width"]),
        ("width=129", ["width"]),
        ("width=-5", ["width"]),
        ("width=6.5", ["width"]),
        ("width=", ["width"]),
        ("width=٣٣", ["width"]),
        ("width=99999999999999999999999", ["width"]),
        ("width=32&width=64", ["width"]),
        ("widht=32", ["widht"]),
        ("format=gif&width=1", ["format", "width"]),
    ],
)
def test_a_wrong_parameter_is_named(client: FlaskClient, image_url: str, query: str, fields: list[str]) -> None:
    answer = client.get(f"{image_url}?{query}")
    assert answer.status_code == 422
    assert sorted(error["field"] for error in answer.get_json()["errors"]) == fields
