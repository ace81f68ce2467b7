"""The description tells what is there, all of it and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from api.error_table import ERRORS
from api.schemas import FIELDS, STRUCTURED_FIELDS, Bounds, FieldSet, RefusedFieldsError, check, root
from api.schemas.fields import MAX_SEED
from api.schemas.picture_fields import PICTURE_FIELDS
from services.health import Reason
from services.thumbnails import FORMATS
from simulator import Simulator
from tests.api import bad_inputs
from tests.api.description import description, operations, schema_of
from tests.conftest import MakeApp
from tests.running import PREFIX, service_in_process
from tests.services import picture_samples as samples

#: The least that each route accepts. A named upscaler is required only where there is no default.
VALID = {**bad_inputs.VALID, "upscale": {"image": bad_inputs.text(samples.encode(samples.gradient(80, 80)))}}
SMALL = {"width": 64, "height": 64, "steps": 1}
#: Pages for people, and what they are made of.
PAGES = {
    "pages.get_docs",
    "pages.get_docs_folder",
    "pages.get_errors",
    "pages.get_docs_file",
    "pages.get_studio",
    "pages.get_studio_file",
}
#: No operation has them: they are the answer to what is none.
OF_NO_OPERATION = {"not_found", "method_not_allowed"}
#: Unlike any default, so that none can be taken for a bound.
BOUNDS = {"MAX_STEPS": "77", "MAX_BATCH_SIZE": "3", "MAX_PROMPT_CHARS": "55", "MAX_PIXELS": str(640 * 640)}


@pytest.fixture(scope="module")
def bounded(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("bounded")
    with service_in_process(folder, shared_simulator.url, SD_SAMPLER="Euler", **BOUNDS) as app:
        yield app


@pytest.fixture(scope="module")
def keyed(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("keyed")
    with service_in_process(folder, shared_simulator.url, API_KEYS="secret") as app:
        yield app


@pytest.mark.parametrize("settings", [{}, {"API_KEYS": "key"}, {"PUBLIC_URL": "https://paint.example/sd"}, BOUNDS])
def test_it_is_valid(make_app: MakeApp, simulator: Simulator, settings: dict[str, str]) -> None:
    document = description(make_app(simulator.url, **settings))
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_every_route_is_described_and_no_other(app: Flask) -> None:
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint not in PAGES]
    there = {
        (re.sub("<(?:path:)?([a-z_]+)>", r"{\1}", rule.rule), method.lower())
        for rule in rules
        for method in rule.methods - {"OPTIONS"}
    }
    assert there == {(path, method) for path, method, _ in operations(description(app))}


def test_operations_have_names_of_their_own_and_words(app: Flask) -> None:
    found = [operation for _, _, operation in operations(description(app))]
    assert len({operation["operationId"] for operation in found}) == len(found)
    assert all(operation["summary"] and operation["tags"] for operation in found)
    assert all(response["description"] for operation in found for response in operation["responses"].values())


def test_every_code_is_described_and_no_other(app: Flask, keyed: Flask) -> None:
    known = {code for code, kind in ERRORS.items() if not kind.by_proxy}
    used: set[str] = set()
    for document in (description(app), description(keyed)):
        assert set(document["components"]["schemas"]["ProblemAnswer"]["properties"]["code"]["enum"]) == known
        for _, _, operation in operations(document):
            for status, response in operation["responses"].items():
                content = response.get("content", {}).get("application/problem+json")
                if content:
                    codes = content["schema"]["allOf"][1]["properties"]["code"]["enum"]
                    assert content["examples"].keys() == set(codes)
                    assert {example["value"]["status"] for example in content["examples"].values()} == {int(status)}
                    used |= set(codes)
    assert known - used == OF_NO_OPERATION


def test_errors_name_operations_that_there_are(app: Flask) -> None:
    found = [operation for _, _, operation in operations(description(app))]
    known = {"all", "limited", "keyed"}.union(*({one["operationId"], *one["tags"]} for one in found))
    unknown = {code: set(kind.operations) - known for code, kind in ERRORS.items()}
    assert {code: names for code, names in unknown.items() if names} == {}


def test_values_that_the_code_knows_are_all_described(app: Flask) -> None:
    components = description(app)["components"]
    assert components["parameters"]["Format"]["schema"]["enum"] == list(FORMATS)
    assert components["headers"]["X-Seed"]["schema"]["maximum"] == MAX_SEED
    schemas = components["schemas"]
    assert set(schemas["HealthAnswer"]["properties"]["reasons"]["items"]["enum"]) == set(get_args(Reason))


def test_every_shown_body_fits_its_schema(app: Flask) -> None:
    document = description(app)
    shown = 0
    for _, _, operation in operations(document):
        contents = [response.get("content", {}) for response in operation["responses"].values()]
        for content in (*contents, operation.get("requestBody", {}).get("content", {})):
            for described in content.values():
                for example in described.get("examples", {}).values():
                    Draft202012Validator(schema_of(document, described["schema"])).validate(example["value"])
                    shown += 1
    assert shown > 50


@pytest.mark.parametrize("mode", sorted(FIELDS))
def test_every_shown_request_can_be_sent(app: Flask, simulator: Simulator, mode: str) -> None:
    body = description(app)["paths"][f"{PREFIX}/{mode}"]["post"]["requestBody"]["content"]["application/json"]
    quick = {} if mode == "upscale" else {"steps": 1}
    for example in body["examples"].values():
        answer = app.test_client().post(f"{PREFIX}/{mode}", json=example["value"] | quick)
        assert answer.status_code == 200, answer.text[:500]


# What is described is what validates.


def own_fields() -> FieldSet:
    values = {name.lower(): int(value) for name, value in BOUNDS.items()}
    return FieldSet(
        Bounds(max_input_pixels=50_000_000, max_hires_pixels=2048 * 2048, max_upscale_pixels=2**24, **values)
    )


def accepts(mode: str, **values: object) -> bool:
    """Whether these fields are right by themselves, beside a height that leaves room for any width."""
    others = {"height": 64, "reference": VALID["img2img"]["image"]}
    try:
        check(mode, {**VALID[mode], **({} if mode == "upscale" else others), **values}, own_fields())
    except RefusedFieldsError as error:
        return not {root(problem.field) for problem in error.problems} & values.keys()
    return True


def fields_of(app: Flask, mode: str) -> dict[str, dict[str, Any]]:
    document = description(app)
    body = document["paths"][f"{PREFIX}/{mode}"]["post"]["requestBody"]["content"]
    name = body["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema = document["components"]["schemas"][name]
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == VALID[mode].keys()
    form = body["multipart/form-data"]["schema"]
    assert form["required"] == schema["required"]
    for name, field in schema["properties"].items():
        if name in STRUCTURED_FIELDS:
            assert form["properties"][name]["contentSchema"] == field
        elif name not in PICTURE_FIELDS:
            assert {**field, "pattern": None} == {**form["properties"][name], "pattern": None}
    return schema["properties"]


@pytest.mark.parametrize("mode", sorted(FIELDS))
def test_fields(bounded: Flask, mode: str) -> None:
    described = fields_of(bounded, mode)
    assert described.keys() == FIELDS[mode].model_fields.keys()
    assert all(field["description"] for field in described.values())


@pytest.mark.parametrize("sent", ["json", "data"])
@pytest.mark.parametrize("prompt", ["a", "\ufffd", "a\0", " ", "\x85", "\u2003", "é\n"])
def test_patterns(app: Flask, client: FlaskClient, sent: str, prompt: str) -> None:
    kinds = description(app)["paths"][f"{PREFIX}/txt2img"]["post"]["requestBody"]["content"]
    schema = kinds["application/json" if sent == "json" else "multipart/form-data"]["schema"]
    field = {"$ref": schema["$ref"] + "/properties/prompt"} if sent == "json" else schema["properties"]["prompt"]
    fits = Draft202012Validator(schema_of(description(app), field)).is_valid(prompt)
    kind = {"content_type": "multipart/form-data"} if sent == "data" else {}
    answer = client.post(f"{PREFIX}/txt2img", **{sent: {**SMALL, "prompt": prompt}}, **kind)
    assert (answer.status_code == 200) == fits, answer.text[:300]


@pytest.mark.parametrize("mode", sorted(FIELDS))
def test_defaults(bounded: Flask, mode: str) -> None:
    described = {name: field["default"] for name, field in fields_of(bounded, mode).items() if "default" in field}
    if mode == "upscale":
        assert described == {"scale": 2.0, "response_format": "base64"}
        return
    settings = [described.pop(name) for name in ("model", "sampler", "clip_skip")]
    assert settings == ["sd-v1-5", "Euler", 1]
    checked = check(mode, VALID[mode], own_fields())
    taken = {name: value for name, value in checked if value is not None and name not in VALID[mode]}
    if mode == "inpainting":
        assert described.pop("mask_mode") == "white", "left out it is that, where a mask is plain"
    assert described == taken


@pytest.mark.parametrize("mode", sorted(FIELDS))
def test_bounds(bounded: Flask, mode: str) -> None:
    tried = set()
    for name, field in fields_of(bounded, mode).items():
        step = field.get("multipleOf", 1)
        if "maximum" in field:
            assert accepts(mode, **{name: field["minimum"]}), name
            assert accepts(mode, **{name: field["maximum"] if name != "height" else 640}), name
            assert not accepts(mode, **{name: field["minimum"] - step}), name
            assert not accepts(mode, **{name: field["maximum"] + step}), name
            assert step == 1 or not accepts(mode, **{name: field["minimum"] + 1}), name
            tried.add(name)
        if "maxLength" in field:
            assert accepts(mode, **{name: "a" * field["maxLength"]}), name
            assert not accepts(mode, **{name: "a" * (field["maxLength"] + 1)}), name
            assert not accepts(mode, **{name: "a\0b"}), name
            assert "minLength" not in field or not accepts(mode, **{name: ""}), name
            tried.add(name)
        if "enum" in field:
            assert all(accepts(mode, **{name: value}) for value in field["enum"])
            assert not accepts(mode, **{name: "none of them"})
            tried.add(name)
    assert tried == FIELDS[mode].model_fields.keys() - set(PICTURE_FIELDS) - STRUCTURED_FIELDS


def test_bounds_of_loras(bounded: Flask) -> None:
    loras = fields_of(bounded, "txt2img")["loras"]
    one = {"name": "a"}
    for count in (loras["minItems"], loras["maxItems"]):
        assert accepts("txt2img", loras=[one] * count)
    for wrong in (loras["minItems"] - 1, loras["maxItems"] + 1):
        assert not accepts("txt2img", loras=[one] * wrong)
    weight = loras["items"]["properties"]["weight"]
    for bound, step in (("minimum", -0.1), ("maximum", 0.1)):
        assert accepts("txt2img", loras=[{**one, "weight": weight[bound]}])
        assert not accepts("txt2img", loras=[{**one, "weight": weight[bound] + step}])
    assert loras["items"]["required"] == ["name"]
    assert loras["items"]["additionalProperties"] is False


def test_this_services_own_bounds(bounded: Flask) -> None:
    fields = fields_of(bounded, "txt2img")
    found = {
        "MAX_STEPS": fields["steps"]["maximum"],
        "MAX_BATCH_SIZE": fields["batch_size"]["maximum"],
        "MAX_PROMPT_CHARS": fields["prompt"]["maxLength"],
    }
    assert {name: str(bound) for name, bound in found.items()}.items() <= BOUNDS.items()
    assert fields["negative_prompt"]["maxLength"] == 55
    assert str(640 * 640) in description(bounded)["info"]["description"]


def test_a_bound_below_the_default_is_the_default(make_app: MakeApp, simulator: Simulator) -> None:
    """Nobody who leaves steps out gets more than whoever asks for the most."""
    app = make_app(simulator.url, MAX_STEPS="9")
    client = app.test_client()
    for mode in FIELDS.keys() - {"upscale"}:
        assert fields_of(app, mode)["steps"]["default"] == 9
        assert client.get(f"{PREFIX}/options").get_json()["defaults"][mode]["steps"] == 9
    assert client.post(f"{PREFIX}/txt2img", json={"prompt": "a", "width": 64, "height": 64}).status_code == 200
    assert b'"steps":9,' in simulator.generations[-1].body


# Keys.


def test_without_keys_there_is_no_security(app: Flask) -> None:
    document = description(app)
    assert "securitySchemes" not in document["components"]
    assert not any(
        "security" in operation or "401" in operation["responses"] for _, _, operation in operations(document)
    )


def test_with_keys_security_is_what_is_asked_for(keyed: Flask) -> None:
    client = keyed.test_client()
    document = description(keyed)
    assert document["components"]["securitySchemes"].keys() == {"bearer", "key"}
    asked = 0
    for path, method, operation in operations(document):
        url = path.replace("{image_id}", str(uuid4())).replace("{request_id}", "x")
        required = bool(operation["security"]) and {} not in operation["security"]
        assert (client.open(url, method=method.upper()).status_code == 401) == required, (method, path)
        assert ("401" in operation["responses"]) == required, (method, path)
        for headers in ({"Authorization": "Bearer secret"}, {"X-API-Key": "secret"}):
            assert client.open(url, method=method.upper(), headers=headers).status_code != 401, (method, path)
        asked += required
    assert 0 < asked < len(list(operations(document)))


def test_the_description_is_not_fetched_twice(client: FlaskClient) -> None:
    answer = client.get("/openapi.json")
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_servers(make_app: MakeApp, simulator: Simulator) -> None:
    """The first is relative: a page behind a path prefix asks where it came from."""
    assert [server["url"] for server in description(make_app(simulator.url))["servers"]] == ["."]
    public = description(make_app(simulator.url, PUBLIC_URL="https://paint.example/sd"))
    assert [server["url"] for server in public["servers"]] == [".", "https://paint.example/sd"]
