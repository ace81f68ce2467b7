"""How failures look at OpenAI's door, and that nothing is painted twice because of a status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.doors.openai_answers import shape
from api.doors.openai_fields import KNOWN
from api.error_table import ERRORS
from api.errors import Failure
from simulator import Simulator
from tests.api.bad_inputs import PNG, form, part
from tests.api.doors.openai_requests import SMALL, edit, error_of, pictures_of
from tests.conftest import MakeApp
from tests.running import service_in_process

GENERATIONS = "/v1/images/generations"

#: Statuses after which OpenAI's libraries ask again.
REPEATED = {408, 409, 429, *range(500, 600)}


def shapes() -> Iterator[tuple[str, bool, int, dict[str, object]]]:
    for code, kind in ERRORS.items():
        if not kind.by_proxy:
            for retryable in (True, False) if kind.retryable == "sometimes" else (kind.retryable,):
                status, body = shape(Failure(kind=kind, detail="why", retryable=bool(retryable)))
                yield code, bool(retryable), status, body["error"]


def test_what_would_end_the_same_way_has_no_status_that_is_repeated() -> None:
    repeated = {code for code, retryable, status, _ in shapes() if status in REPEATED and not retryable}
    assert repeated == {"internal_error"}, "a fault of the service has to look like one"


@pytest.mark.parametrize(
    ("code", "retryable", "expected"),
    [
        ("malformed_request", False, (400, "invalid_request_error", "malformed_request")),
        ("unsupported_media_type", False, (400, "invalid_request_error", "unsupported_media_type")),
        ("validation_error", False, (400, "invalid_request_error", "validation_error")),
        ("capability_missing", False, (400, "invalid_request_error", "capability_missing")),
        ("unauthorized", False, (401, "authentication_error", "invalid_api_key")),
        ("model_not_found", False, (404, "invalid_request_error", "model_not_found")),
        ("not_found", False, (404, "invalid_request_error", "unknown_url")),
        ("method_not_allowed", False, (405, "invalid_request_error", "method_not_allowed")),
        ("payload_too_large", False, (413, "invalid_request_error", "payload_too_large")),
        ("rate_limited", True, (429, "rate_limit_error", "rate_limited")),
        ("cancelled", False, (400, "job_error", "cancelled")),
        ("webui_timeout", False, (400, "job_error", "webui_timeout")),
        ("gpu_out_of_memory", False, (400, "job_error", "gpu_out_of_memory")),
        ("idempotency_mismatch", False, (400, "job_error", "idempotency_mismatch")),
        ("request_timeout", True, (400, "job_error", "request_timeout")),
        ("image_not_found", False, (400, "job_error", "image_not_found")),
        ("webui_error", False, (400, "job_error", "webui_error")),
        ("webui_error", True, (502, "server_error", "webui_error")),
        ("queue_full", True, (503, "server_error", "queue_full")),
        ("queue_timeout", True, (503, "server_error", "queue_timeout")),
        ("queue_unavailable", True, (503, "server_error", "queue_unavailable")),
        ("webui_unavailable", True, (503, "server_error", "webui_unavailable")),
        ("gpu_unavailable", True, (503, "server_error", "gpu_unavailable")),
        ("draining", True, (503, "server_error", "draining")),
        ("storage_unavailable", True, (503, "server_error", "storage_unavailable")),
        ("internal_error", False, (500, "server_error", "internal_error")),
    ],
)
def test_status_type_and_code(code: str, retryable: bool, expected: tuple[int, str, str]) -> None:
    (found,) = [
        (status, error["type"], error["code"]) for c, r, status, error in shapes() if (c, r) == (code, retryable)
    ]
    assert found == expected


def test_every_field_that_it_takes_is_described_and_no_other(client: FlaskClient) -> None:
    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
    for route, name in (("generations", "OpenAIGenerationFields"), ("edits", "OpenAIEditFields")):
        assert schemas[name]["properties"].keys() | {"image[]"} == {*KNOWN[route], "image[]"}


def test_it_speaks_of_its_own_fields() -> None:
    _, body = shape(
        Failure(kind=ERRORS["gpu_out_of_memory"], detail=ERRORS["gpu_out_of_memory"].detail, retryable=False)
    )
    assert "ask for a smaller size or a smaller n" in body["error"]["message"]


@pytest.fixture(scope="module")
def locked(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("locked")
    settings = {"API_KEYS": "k1", "MAX_BODY_MB": "1"}
    with service_in_process(folder, shared_simulator.url, **settings) as app:
        yield app


KEY = {"Authorization": "Bearer k1"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic "}])
def test_without_a_key(locked: Flask, headers: dict[str, str]) -> None:
    client = locked.test_client()
    for method, path in (("POST", GENERATIONS), ("POST", "/v1/images/edits"), ("GET", "/v1/models")):
        error = error_of(answer := client.open(path, method=method, headers=headers))
        assert (answer.status_code, error["type"]) == (401, "authentication_error")
        assert (error["code"], error["param"]) == ("invalid_api_key", None)
        assert 200 <= client.options(path).status_code < 300


@pytest.mark.parametrize(
    "headers", [KEY, {"X-API-Key": "k1"}, {"Authorization": "Basic dXNlcjprMQ=="}, {"authorization": "bearer k1"}]
)
def test_with_a_key(locked: Flask, headers: dict[str, str]) -> None:
    assert locked.test_client().post(GENERATIONS, json=SMALL, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/images/variations", "/v1/chat/completions", "/v1/", "/v1/images/edits/", "/v1/x"]
)
def test_what_is_not_there(locked: Flask, path: str) -> None:
    for method in ("GET", "POST"):
        error = error_of(answer := locked.test_client().open(path, method=method, headers=KEY))
        assert (answer.status_code, error["type"], error["code"]) == (404, "invalid_request_error", "unknown_url")


def test_a_wrong_method(locked: Flask) -> None:
    error = error_of(answer := locked.test_client().get(GENERATIONS))
    assert (answer.status_code, error["code"], sorted(answer.allow)) == (405, "method_not_allowed", ["OPTIONS", "POST"])


def test_too_large_a_body(locked: Flask) -> None:
    large = PNG + bytes(2 * 1024**2)
    for call in ({"json": {**SMALL, "user": "x" * 2 * 1024**2}}, edit(image=large)):
        path = GENERATIONS if "json" in call else "/v1/images/edits"
        error = error_of(answer := locked.test_client().post(path, headers=KEY, **call))
        assert (answer.status_code, error["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize(
    ("path", "body", "kind", "code"),
    [
        (GENERATIONS, b"{", "application/json", "malformed_request"),
        (GENERATIONS, b"[]", "application/json", "malformed_request"),
        (GENERATIONS, b"a=b", "application/x-www-form-urlencoded", "unsupported_media_type"),
        ("/v1/images/edits", b"{}", "application/json", "unsupported_media_type"),
        ("/v1/images/edits", b"no form", "multipart/form-data; boundary=x", "malformed_request"),
    ],
)
def test_a_body_that_cannot_be_read(client: FlaskClient, path: str, body: bytes, kind: str, code: str) -> None:
    error = error_of(answer := client.post(path, data=body, content_type=kind))
    assert (answer.status_code, error["type"], error["code"]) == (400, "invalid_request_error", code)


def test_an_unknown_model(client: FlaskClient) -> None:
    error = error_of(answer := client.post(GENERATIONS, json={**SMALL, "model": "gpt-image-1"}))
    assert (answer.status_code, error["param"], error["code"]) == (404, "model", "model_not_found")
    assert "known: " in error["message"]


def test_a_fixed_name_that_the_operator_made_an_alias(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, SD_MODEL_ALIASES="gpt-image-1=v1-5-pruned-emaonly").test_client()
    assert client.post(GENERATIONS, json={**SMALL, "model": "gpt-image-1"}).get_json()["model"] == "gpt-image-1"
    listed = [model["id"] for model in client.get("/v1/models").get_json()["data"]]
    assert listed[0] == "gpt-image-1"
    assert len(listed) == len(set(listed))
    for name in listed:
        model = client.get(f"/v1/models/{name}").get_json()
        assert model == {"id": name, "object": "model", "created": 0, "owned_by": "stable-diffusion"}
        assert client.post(GENERATIONS, json={**SMALL, "model": name}).status_code == 200, name


@pytest.mark.parametrize("name", ["none", "a/b", "a%2Fb", "%E9", "..", "a b", "x" * 300, "%00"])
def test_a_model_that_is_not_there(client: FlaskClient, name: str) -> None:
    error = error_of(answer := client.get(f"/v1/models/{name}"))
    assert (answer.status_code, error["code"]) == (404, "model_not_found")


def test_a_model_in_a_folder(make_app: MakeApp) -> None:
    with Simulator(models=("photo/real one.safetensors",)) as webui:
        client = make_app(webui.url, SD_MODEL="real one").test_client()
        assert client.get("/v1/models/photo%2Freal%20one.safetensors").status_code == 200
        assert client.get("/v1/models/photo/real one.safetensors").status_code == 200


@pytest.mark.parametrize(("window", "soon"), [("1/30second", "true"), ("1/hour", "false")])
def test_too_many(make_app: MakeApp, simulator: Simulator, window: str, soon: str) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GENERATION=window).test_client()
    assert client.post(GENERATIONS, json=SMALL).status_code == 200
    assert client.post(GENERATIONS, json={"prompt": ""}).status_code == 400, "refused ones are free"
    error = error_of(answer := client.post(GENERATIONS, json=SMALL))
    assert (answer.status_code, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limited")
    assert answer.headers["X-Should-Retry"] == soon
    assert len(simulator.generations) == 1


def test_models_count_against_the_limit_over_all(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="2/hour").test_client()
    assert [client.get("/v1/models").status_code for _ in range(3)] == [200, 200, 429]
    assert client.options("/v1/models").status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "code", "again"),
    [
        ("oom", 400, "gpu_out_of_memory", "false"),
        ("nan", 400, "webui_error", "false"),
        ("error-json", 400, "webui_error", "false"),
        ("garbage", 502, "webui_error", "true"),
        ("busy", 503, "webui_unavailable", "true"),
    ],
)
def test_faults(make_app: MakeApp, simulator: Simulator, fault: str, status: int, code: str, again: str) -> None:
    client = make_app(simulator.url).test_client()
    assert client.get("/v1/models").get_json()["data"], "the WebUI was seen"
    simulator.set_fault(fault)
    error = error_of(answer := client.post(GENERATIONS, json=SMALL))
    assert (answer.status_code, error["code"], answer.headers["X-Should-Retry"]) == (status, code, again)
    assert error["type"] == ("job_error" if status == 400 else "server_error")


def test_a_picture_that_cannot_be_stored_is_sent(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    client = make_app(simulator.url, IMAGE_DIR=str(folder), PUBLIC_URL="https://pictures.example").test_client()
    assert client.post(GENERATIONS, json=SMALL).status_code == 200
    folder.rename(tmp_path / "away")
    folder.write_text("no folder")
    answer = client.post(GENERATIONS, json={**SMALL, "response_format": "url", "output_format": "jpeg", "n": 2})
    assert [image.format for image in pictures_of(answer)] == ["JPEG"] * 2
    assert all("url" not in item for item in answer.get_json()["data"])
    assert "could not be stored" in answer.headers["Warning"]


def test_a_door_that_is_closed(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, DOORS="none").test_client()
    answer = client.post(GENERATIONS, json=SMALL)
    assert (answer.status_code, json.loads(answer.text)["code"]) == (404, "not_found")
    document = client.get("/openapi.json").get_json()
    assert not [path for path in document["paths"] if path.startswith("/v1/")]
    assert "OpenAI door" not in {tag["name"] for tag in document["tags"]}


def test_idempotency(client: FlaskClient, simulator: Simulator) -> None:
    key = {"Idempotency-Key": "one"}
    first, second = (client.post(GENERATIONS, json=SMALL, headers=key) for _ in range(2))
    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.get_json()["data"] == second.get_json()["data"]
    assert first.headers["X-Image-Id"] == second.headers["X-Image-Id"]
    assert len(simulator.generations) == 1
    error = error_of(other := client.post(GENERATIONS, json={**SMALL, "steps": 2}, headers=key))
    assert (other.status_code, error["type"], error["code"]) == (400, "job_error", "idempotency_mismatch")
    bare = {"Idempotency-Key": "a b"}
    assert error_of(client.post(GENERATIONS, json=SMALL, headers=bare))["param"] == "Idempotency-Key"


def test_prefer(client: FlaskClient) -> None:
    answer = client.post(GENERATIONS, json=SMALL, headers={"Prefer": "wait=30"})
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_a_page_may_use_openais_library(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, CORS_ORIGINS="https://page.example").test_client()
    wanted = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,"
    wanted += "x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}
    preflight = client.options(GENERATIONS, headers={"Origin": "https://page.example", **asked})
    allowed = {name.strip().lower() for name in preflight.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed == set(wanted.split(","))
    refused = client.post(GENERATIONS, json={}, headers={"Origin": "https://page.example"})
    assert "X-Should-Retry" in refused.headers["Access-Control-Expose-Headers"]


def test_a_body_may_come_in_chunks(client: FlaskClient) -> None:
    body = form(part("prompt", b"a"), part("steps", b"1"), part("image", PNG, "upload"))
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    kind = edit()["content_type"]
    answer = client.post("/v1/images/edits", data=body, content_type=kind, environ_overrides=environ)
    assert answer.status_code == 200, answer.text
