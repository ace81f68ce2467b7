"""GET, HEAD and DELETE of stored images."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient

from simulator import Simulator
from storage import open_storage
from tests.api.answers import problem_of
from tests.api.conditional_requests import CASES, Conditional, check
from tests.conftest import MakeApp
from tests.running import PREFIX
from tests.services import picture_samples as samples

PNG = samples.encode(samples.noise())
KEY = {"X-API-Key": "k1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def stored_in(folder: Path) -> UUID:
    """A new image in this folder."""
    image_id = uuid4()
    open_storage(str(folder)).save(image_id, PNG, {})
    return image_id


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def shared_app(make_shared_app: MakeApp, shared_simulator: Simulator, shared_folder: Path) -> Flask:
    return make_shared_app(shared_simulator.url, IMAGE_DIR=str(shared_folder))


@pytest.fixture
def images(shared_app: Flask, simulator: Simulator) -> FlaskClient:
    return shared_app.test_client()


@pytest.fixture
def stored(shared_folder: Path) -> UUID:
    """An image that `images` has."""
    return stored_in(shared_folder)


def test_get(images: FlaskClient, stored: UUID) -> None:
    answer = images.get(f"{PREFIX}/image/{stored}", buffered=True)

    assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/png", PNG)
    assert answer.headers["Content-Length"] == str(len(PNG))
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Accept-Ranges"] == "bytes"
    tag, weak = answer.get_etag()
    assert tag
    assert not weak


def test_an_id_in_capitals_is_the_same(images: FlaskClient, stored: UUID) -> None:
    assert images.get(f"{PREFIX}/image/{str(stored).upper()}", buffered=True).data == PNG


def test_head(images: FlaskClient, stored: UUID) -> None:
    get, head = (images.open(f"{PREFIX}/image/{stored}", method=name, buffered=True) for name in ("GET", "HEAD"))

    assert (head.status_code, head.data) == (200, b"")
    changing = {"X-Request-ID", "Date", "X-RateLimit-Remaining", "X-RateLimit-Reset"}
    assert {k: v for k, v in head.headers if k not in changing} == {k: v for k, v in get.headers if k not in changing}


def test_if_none_match(images: FlaskClient, stored: UUID) -> None:
    tag = images.get(f"{PREFIX}/image/{stored}", buffered=True).headers["ETag"]
    for value in (tag, f'"other", {tag}', "*", f"W/{tag}"):
        answer = images.get(f"{PREFIX}/image/{stored}", headers={"If-None-Match": value}, buffered=True)
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", tag)
        assert answer.headers["Cache-Control"].endswith("immutable")
    other = images.get(f"{PREFIX}/image/{stored}", headers={"If-None-Match": '"other"'}, buffered=True)
    assert (other.status_code, other.data) == (200, PNG)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("query", ["", "?width=24", "?format=webp"])
def test_conditions_and_ranges(images: FlaskClient, stored: UUID, query: str, case: Conditional) -> None:
    check(images, f"{PREFIX}/image/{stored}{query}", case)


@pytest.mark.parametrize(
    "query", ["t=1", "fbclid=x&utm_source=y", "from=timeline", "height=5", "foo=1&foo=2", "%00=%ff"]
)
def test_parameters_that_are_not_ours_do_nothing(images: FlaskClient, stored: UUID, query: str) -> None:
    plain = images.get(f"{PREFIX}/image/{stored}", buffered=True)
    answer = images.get(f"{PREFIX}/image/{stored}?{query}", buffered=True)
    assert (answer.status_code, answer.data) == (200, PNG)
    assert answer.headers["ETag"] == plain.headers["ETag"]
    small = images.get(f"{PREFIX}/image/{stored}?{query}&width=24", buffered=True)
    assert small.headers["ETag"] == f'"{stored}-png-24"'


@pytest.mark.parametrize("query", ["widht=24", "WIDTH=24", "with=24", "fromat=webp", "Format=webp", "widths=24"])
def test_a_misspelt_parameter_is_told(images: FlaskClient, stored: UUID, query: str) -> None:
    (error,) = problem_of(images.get(f"{PREFIX}/image/{stored}?{query}"))["errors"]
    assert error["field"] == query.partition("=")[0]
    assert "did you mean '" in error["message"]


def test_an_id_with_png_behind_it_is_the_same(images: FlaskClient, stored: UUID) -> None:
    plain, named = (images.get(f"{PREFIX}/image/{stored}{end}", buffered=True) for end in ("", ".png"))
    assert (named.status_code, named.data, named.headers["ETag"]) == (200, PNG, plain.headers["ETag"])
    assert images.get(f"{PREFIX}/image/{stored}.png?width=24", buffered=True).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Match": '"other"'}, 412),
        ({"If-None-Match": "*"}, 412),
        ({"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 412),
        ({"If-Match": "*"}, 204),
        ({"If-None-Match": '"other"'}, 204),
        ({"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT", "Range": "bytes=0-1"}, 204),
    ],
)
def test_conditions_of_a_removal(
    make_app: MakeApp, simulator: Simulator, folder: Path, headers: dict[str, str], status: int
) -> None:
    client = make_app(simulator.url, IMAGE_DIR=str(folder), API_KEYS="key-of-16-letters").test_client()
    path = f"{PREFIX}/image/{stored_in(folder)}"
    answer = client.delete(path, headers={"X-API-Key": "key-of-16-letters", **headers})
    assert answer.status_code == status
    assert client.get(path, buffered=True).status_code == (404 if status == 204 else 200)
    if status == 412:
        assert problem_of(answer)["code"] == "precondition_failed"


def test_conditions_of_an_image_that_is_not_there(images: FlaskClient, stored: UUID) -> None:
    for headers in ({"If-Match": "*"}, {"If-None-Match": "*"}, {"Range": "bytes=0-9"}):
        assert images.get(f"{PREFIX}/image/{uuid4()}", headers=headers).status_code == 404


HOSTILE = [
    "x",
    "..",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "....//....//",
    "%00",
    "{id}%00",
    "{id}.png.png",
    "{id}.PNG",
    "{id}.jpg",
    "{id}.json",
    "{id}%20",
    "%20{id}",
    "{id}%0a",
    "{hex}",
    "%7B{id}%7D",
    "urn:uuid:{id}",
    "{short}",
    "{id}0",
    "0b",
    ".incoming",
    "%ef%bc%90" * 8,
    "A" * 5000,
    "con",
    "-1",
    "*",
]


@pytest.fixture(scope="module")
def without_folder(
    make_shared_app: MakeApp, shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> FlaskClient:
    """Were the storage asked at all, a file in the folder's place would make it a 500."""
    file = tmp_path_factory.mktemp("images") / "kept"
    file.write_text("not a folder")
    return make_shared_app(shared_simulator.url, IMAGE_DIR=str(file), API_KEYS="k1").test_client()


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_invalid_id_never_touches_the_disk(without_folder: FlaskClient, method: str, hostile: str) -> None:
    known = uuid4()
    name = hostile.format(id=known, hex=known.hex, short=str(known)[:-1])
    answer = without_folder.open(f"{PREFIX}/image/{name}", method=method, headers=KEY)

    assert answer.status_code == 404
    if method != "HEAD":
        assert problem_of(answer)["code"] in ("image_not_found", "not_found")


def test_an_image_that_is_not_there(images: FlaskClient, stored: UUID) -> None:
    problem = problem_of(images.get(f"{PREFIX}/image/{uuid4()}"))
    assert (problem["status"], problem["code"]) == (404, "image_not_found")


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("foo=1&width=x", {"width"}),
        ("format=exe", {"format"}),
        ("format=", {"format"}),
        ("format=gif&width=-1", {"format", "width"}),
        ("width=0", {"width"}),
        ("width=1.5", {"width"}),
        ("width=abc", {"width"}),
        ("width=", {"width"}),
        ("width=99999999999999999999", {"width"}),
        ("width=49", {"width"}),
        ("width=16&width=17", {"width"}),
        ("format=webp&format=png", {"format"}),
    ],
)
def test_parameters_are_checked(images: FlaskClient, stored: UUID, query: str, wrong: set[str]) -> None:
    problem = problem_of(images.get(f"{PREFIX}/image/{stored}?{query}"))
    assert {entry["field"] for entry in problem["errors"]} == wrong


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("width", [None, 24, 48])
def test_a_copy(images: FlaskClient, stored: UUID, kind: str, width: int | None) -> None:
    query = f"format={kind}" + (f"&width={width}" if width else "")
    path = f"{PREFIX}/image/{stored}?{query}"
    answer = images.get(path, buffered=True)

    assert (answer.status_code, answer.mimetype) == (200, f"image/{kind}")
    with samples.Image.open(io.BytesIO(answer.data)) as picture:
        assert picture.format == kind.upper()
        assert picture.size == ((24, 16) if width == 24 else samples.SIZE)
    tag = answer.headers["ETag"]
    assert images.get(path, headers={"If-None-Match": tag}, buffered=True).status_code == 304
    part = images.get(path, headers={"Range": "bytes=0-9"}, buffered=True)
    assert (part.status_code, part.data) == (206, answer.data[:10])
    whole = images.get(f"{PREFIX}/image/{stored}", buffered=True)
    assert whole.headers["ETag"] != tag or answer.data == whole.data
    assert images.head(path, buffered=True).headers["Content-Length"] == str(len(answer.data))


def test_delete_is_off_without_keys(images: FlaskClient, stored: UUID) -> None:
    for headers in ({}, KEY):
        problem = problem_of(images.delete(f"{PREFIX}/image/{stored}", headers=headers))
        assert (problem["status"], problem["code"]) == (403, "forbidden")
    assert images.get(f"{PREFIX}/image/{stored}", buffered=True).data == PNG


def test_delete_with_a_key(make_app: MakeApp, simulator: Simulator, folder: Path) -> None:
    stored = stored_in(folder)
    client = make_app(simulator.url, IMAGE_DIR=str(folder), API_KEYS="k1").test_client()
    for headers in ({}, {"X-API-Key": "wrong"}):
        assert client.delete(f"{PREFIX}/image/{stored}", headers=headers).status_code == 401
    answer = client.delete(f"{PREFIX}/image/{stored}", headers=KEY)
    assert (answer.status_code, answer.data) == (204, b"")
    assert not [*folder.rglob("*.png"), *folder.rglob("*.json")]
    for method in ("GET", "DELETE"):
        problem = problem_of(client.open(f"{PREFIX}/image/{stored}", method=method, headers=KEY))
        assert (problem["status"], problem["code"]) == (404, "image_not_found")


@pytest.mark.parametrize(("age_s", "most"), [(0, 3600), (-86_400, 3600), (1800, 1800)])
def test_a_caller_keeps_an_image_no_longer_than_its_time(
    make_app: MakeApp, simulator: Simulator, tmp_path: Path, age_s: int, most: int
) -> None:
    """Not even one that was stored while the clock was a day ahead."""
    folder = tmp_path / "kept"
    client = make_app(simulator.url, IMAGE_DIR=str(folder), IMAGE_TTL_HOURS="1").test_client()
    url = client.post(f"{PREFIX}/txt2img", json={"prompt": "a", "width": 64, "height": 64}).get_json()["image_url"]
    (file,) = folder.rglob("*.png")
    os.utime(file, (time.time() - age_s,) * 2)
    kept_for = client.head(url).headers["Cache-Control"]
    max_age = int(kept_for.split("max-age=")[1].split(",")[0])
    assert most - 60 <= max_age <= most
