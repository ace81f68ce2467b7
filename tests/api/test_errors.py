"""Every failure has one shape, whatever failed and wherever."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import errors, hooks
from api.error_table import ERRORS, read_error_table
from observability.metrics import Metrics
from sd_client import errors as webui_errors
from services import problems
from simulator import Simulator
from storage import errors as storage_errors
from tests.api.answers import problem_of
from tests.api.bad_inputs import FORM, form, part
from tests.conftest import MakeApp
from tests.running import PREFIX

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path",
    ["/api", "/health", PREFIX, f"{PREFIX}/", f"{PREFIX}/health/", f"{PREFIX}/txt2img/", f"{PREFIX}/image/", "/%00"],
)
def test_unknown_paths(client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method)

    assert answer.status_code == 404
    if method != "HEAD":
        assert problem_of(answer)["code"] == "not_found"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("txt2img", {"POST", "OPTIONS"}),
        ("img2img", {"POST", "OPTIONS"}),
        ("inpainting", {"POST", "OPTIONS"}),
        ("models", {"GET", "HEAD", "OPTIONS"}),
        ("options", {"GET", "HEAD", "OPTIONS"}),
        ("health", {"GET", "HEAD", "OPTIONS"}),
        ("health/live", {"GET", "HEAD", "OPTIONS"}),
        (f"image/{UNKNOWN_ID}", {"GET", "HEAD", "DELETE", "OPTIONS"}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_methods_that_a_path_does_not_take(client: FlaskClient, path: str, allowed: set[str], method: str) -> None:
    if method in allowed:
        assert client.open(f"{PREFIX}/{path}", method=method).status_code != 405
        return
    answer = client.open(f"{PREFIX}/{path}", method=method)

    problem = problem_of(answer)
    assert (problem["status"], problem["code"]) == (405, "method_not_allowed")
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/models/", "try it without the trailing slash"),
        ("/health//", "try it with single slashes"),
        ("//models", "try it with single slashes"),
        ("/image/x/", "try it without the trailing slash"),
        ("/txt2img/", "try it without the trailing slash"),
        ("/nothing/", None),
        ("/nothing", None),
    ],
)
def test_slashes_too_many_are_told(client: FlaskClient, path: str, says: str | None) -> None:
    problem = problem_of(client.get(PREFIX + path))
    assert (problem["status"], problem["code"]) == (404, "not_found")
    assert problem["detail"] == "there is nothing at this path" + (f"; {says}" if says else "")


def test_a_form_or_json_over_the_limit(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, MAX_BODY_MB="0.25").test_client()
    for sent in ({"json": {"prompt": "x" * 300_000}}, {"data": {"prompt": "x" * 300_000}}):
        if "data" in sent:
            sent["content_type"] = "multipart/form-data"
        problem = problem_of(client.post(f"{PREFIX}/txt2img", **sent))
        assert (problem["status"], problem["code"]) == (413, "payload_too_large")
        assert problem["detail"] == "the body is larger than 0.25 MB"
    assert simulator.generations == []


@pytest.mark.parametrize("over", [0, 1])
def test_a_form_may_be_as_large_as_a_body(make_app: MakeApp, simulator: Simulator, over: int) -> None:
    client = make_app(simulator.url, MAX_BODY_MB="0.25").test_client()
    empty = form(part("prompt", b"a"), part("image", b"", "a.png"))
    body = form(part("prompt", b"a"), part("image", b"x" * (256 * 1024 - len(empty) + over), "a.png"))
    problem = problem_of(client.post(f"{PREFIX}/img2img", data=body, content_type=FORM))

    assert len(body) == 256 * 1024 + over
    assert problem["status"] == (413 if over else 422)


@pytest.mark.parametrize("coding", ["identity", "Identity", " identity "])
def test_identity_is_no_coding(client: FlaskClient, coding: str) -> None:
    body = {"prompt": "a", "width": 64, "height": 64, "steps": 1}
    answer = client.post(f"{PREFIX}/txt2img", json=body, headers={"Content-Encoding": coding})
    assert answer.status_code == 200


def test_an_exception_that_nobody_foresaw() -> None:
    app = Flask("failing")
    hooks.register(app, Metrics(), doors=())
    errors.register(app)

    @app.get("/fails")
    def fails() -> str:
        raise RuntimeError("/opt/secret/path.py at 127.0.0.1 with a prompt")

    answer = app.test_client().get("/fails", headers={"X-Request-ID": "me"})

    problem = problem_of(answer)
    assert (problem["status"], problem["code"], problem["request_id"]) == (500, "internal_error", "me")
    assert "prompt" not in answer.text


@pytest.mark.parametrize("public", ["https://pictures.example", "https://pictures.example/base/"])
def test_with_a_public_url_the_type_leads_to_the_page(make_app: MakeApp, simulator: Simulator, public: str) -> None:
    client = make_app(simulator.url, PUBLIC_URL=public, API_KEYS="key").test_client()
    page = f"{public.rstrip('/')}/docs/errors"
    for path, code in [("/nowhere", "unauthorized"), ("/txt2img", "method_not_allowed")]:
        body = client.get(f"{PREFIX}{path}").get_json()
        assert (body["type"], body["code"]) == (f"{page}#{code}", code)
    described = client.get("/openapi.json").get_json()["paths"][f"{PREFIX}/txt2img"]["post"]["responses"]["401"]
    example = described["content"]["application/problem+json"]["examples"]["unauthorized"]["value"]
    assert example["type"] == f"{page}#unauthorized"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_storage_that_fails(make_app: MakeApp, simulator: Simulator, tmp_path: Path, method: str) -> None:
    folder = tmp_path / "images"
    folder.write_text("a file where the folder should be")
    client = make_app(simulator.url, IMAGE_DIR=str(folder), API_KEYS="key").test_client()

    answer = client.open(f"{PREFIX}/image/{UNKNOWN_ID}", method=method, headers={"X-API-Key": "key"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    if method != "HEAD":
        problem = problem_of(answer)
        assert (problem["code"], problem["detail"]) == ("storage_unavailable", "the image storage is failing")
        assert problem["retryable"]
        assert str(tmp_path) not in answer.text


@pytest.mark.parametrize("module", [errors, webui_errors, problems, storage_errors])
def test_every_public_error_has_an_answer(module: object) -> None:
    public = [
        one
        for _, one in inspect.getmembers(module, inspect.isclass)
        if issubclass(one, Exception) and one.__module__ == getattr(module, "__name__", "")
    ]
    assert public
    untold = [one.__name__ for one in public if not any(base in errors.CODES for base in one.__mro__)]
    assert untold == [], "give each a code in CODES of api/errors.py"


def test_every_code_has_its_row_and_every_row_is_used() -> None:
    used = {*errors.CODES.values(), *errors.HTTP_CODES.values(), "internal_error"}
    assert used - ERRORS.keys() == set(), "describe each in api/errors.toml"
    assert {code for code, kind in ERRORS.items() if not kind.by_proxy} - used == set(), "nothing is answered with it"


def test_a_row_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    row = ERRORS["queue_full"]
    text = "\n".join(
        f"{name} = {json.dumps(getattr(row, name))}"
        for name in ("status", "title", "cause", "remedy", "retry", "operations")
    )
    file = tmp_path / "errors.toml"
    for more, error in [("retryable = false", ValueError), ("", TypeError), ("retryable = true\nx = 1", TypeError)]:
        file.write_text(f"[full]\n{text}\n{more}\n")
        with pytest.raises(error):
            read_error_table(file)
    file.write_text(f"[full]\n{text}\nretryable = true\n")
    assert read_error_table(file)["full"].status == 503


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 128])
@pytest.mark.parametrize("path", ["health", "nowhere", "txt2img"])
def test_the_callers_request_id_comes_back(client: FlaskClient, given: str, path: str) -> None:
    assert client.get(f"{PREFIX}/{path}", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a/b", "é", "a\tb", "../x", "a;b", '"', "a,b"])
def test_a_request_id_that_is_none_is_replaced(client: FlaskClient, given: str) -> None:
    made = [client.get(f"{PREFIX}/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in range(2)]
    assert made[0] != made[1]
    assert all(len(one) == 32 and one.isalnum() for one in made)
