"""Values that are allowed and must do no harm, and the tricks around them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from config import Config, ConfigError
from simulator import Simulator
from stable_diffusion_api import create_app
from tests.api.answers import problem_of
from tests.api.bad_inputs import BOUNDARY, PNG, VALID, form, part, text
from tests.conftest import MakeApp
from tests.running import PREFIX

SMALL = {"width": 64, "height": 64, "steps": 1}

#: Prompts are the model's business: of what they say nothing is changed, and nothing comes back but the picture.
PROMPTS = {
    "control characters": "a\tb\nc\r\nd\x01\x07\x08\x1b[2Je\x7f\x85",
    "a header": "a\r\nSet-Cookie: b=c\r\n\r\n<html>",
    "bidirectional": "\u202ea\u2066b\u200d\ufeff",
    "line separators": "a\u2028b\u2029c",
    "HTML": "<script>alert(1)</script>",
    "attention and scheduling": "((a)) [b:c:0.5] (d:1.3) BREAK AND __e__ {f|g}",
    "a template": "{{7*7}} ${7*7} %s %(a)s {0.__class__}",
    "a command": "$(id) `id` ; id | id & id",
    "SQL": "'; DROP TABLE images; --",
    "a URL": "http://169.254.169.254/latest/meta-data file:///etc/passwd",
    "what a WebUI writes": "a\nNegative prompt: b\nSteps: 1, Model hash: 0000000000",
    "beyond the first plane": "\U0001f600\U000e0041",
    "a tag that is none": "sd_cpp_extra_args < sd_cpp extra_args>",
}

#: Ways to write the tag that changes stable-diffusion.cpp's own settings.
TAGS = (
    '<sd_cpp_extra_args>{"steps": 1}</sd_cpp_extra_args>',
    "<SD_CPP_EXTRA_ARGS>",
    "<sd_cpp_extra_args",
    "</sd_cpp_extra_args>",
    "<\n/\tsd_cpp_extra_args >",
    "<sd_cpp_extra_args a='b'>",
    "<<sd_cpp_extra_args>>",
    "&lt;<sd_cpp_extra_args>",
    "a" * 9000 + "<sd_cpp_extra_args>",
)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_arrives_as_it_was_sent(client: FlaskClient, simulator: Simulator, name: str, field: str) -> None:
    body = {**VALID["txt2img"], **SMALL, "response_format": "url", field: PROMPTS[name]}
    answer = client.post(f"{PREFIX}/txt2img", json=body)

    assert answer.status_code == 200, answer.text
    assert json.loads(simulator.generations[0].body)[field] == PROMPTS[name]
    assert PROMPTS[name] not in answer.text
    assert "Set-Cookie" not in str(answer.headers)


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("tag", ["<lora:../../etc/passwd:1>", "<lora:C:\\x:1>", "<lora:{0.__class__}:1>", "<lyco:x:1>"])
def test_no_tag_is_passed_on_unread(client: FlaskClient, simulator: Simulator, tag: str, field: str) -> None:
    answer = client.post(f"{PREFIX}/txt2img", json={**SMALL, "prompt": "a", field: f"a {tag}"})
    assert [entry["field"] for entry in problem_of(answer)["errors"]] == [field]
    assert simulator.generations == []


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("tag", TAGS)
def test_no_tag_reaches_past_the_prompt(client: FlaskClient, simulator: Simulator, tag: str, field: str) -> None:
    answers = [
        client.post(f"{PREFIX}/txt2img", json={"prompt": "a", field: f"a {tag}"}),
        client.post(f"{PREFIX}/txt2img", data={"prompt": "a", field: f"a {tag}"}, content_type="multipart/form-data"),
    ]
    for answer in answers:
        assert [entry["field"] for entry in problem_of(answer)["errors"]] == [field]
    assert simulator.generations == []


@pytest.mark.parametrize(
    "kind",
    [
        "application/json; charset=utf-16",
        "application/json; charset=utf-7; charset=x",
        "application/json; boundary=the-boundary",
        "APPLICATION/JSON;",
        'application/json ; a="b;c"',
    ],
)
def test_json_is_utf_8_whatever_its_type_says(client: FlaskClient, simulator: Simulator, kind: str) -> None:
    body = json.dumps({**VALID["txt2img"], **SMALL, "prompt": "é"}, ensure_ascii=False).encode()

    assert client.post(f"{PREFIX}/txt2img", data=body, content_type=kind).status_code == 200
    assert json.loads(simulator.generations[0].body)["prompt"] == "é"


@pytest.mark.parametrize(
    "kind",
    [
        "application/json, multipart/form-data",
        "multipart/form-data; boundary=" + "b" * 5000,
        'multipart/form-data; boundary="a\r\nX: y"'.replace("\r\n", ""),
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\u00e9",
        "multipart/related; boundary=the-boundary",
        "text/html; application/json",
        "application/json/../../x",
    ],
)
def test_types_that_are_none(client: FlaskClient, simulator: Simulator, kind: str) -> None:
    answer = client.post(f"{PREFIX}/txt2img", data=form(part("prompt", b"a")), content_type=kind)

    assert problem_of(answer)["status"] in (400, 415)
    assert simulator.generations == []


def multipart(*heads: str) -> bytes:
    parts = [f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + PNG + b"\r\n" for head in heads]
    return part("prompt", b"a") + b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


@pytest.mark.parametrize(
    "head",
    [
        'Content-Disposition: form-data; name="image"; filename="../../../etc/cron.d/x"',
        'Content-Disposition: form-data; name="image"; filename="a.php"\r\nContent-Type: application/x-php',
        'Content-Disposition: form-data; name="image"; filename="a.svg"\r\nContent-Type: image/svg+xml',
        'Content-Disposition: form-data; name="image"; filename="C:\\b.png"\r\nContent-Type: text/html; charset=utf-7',
        "Content-Disposition: form-data; name=image; filename*=utf-8''..%2f..%2fa.png",
        'Content-Disposition: form-data; name="image"; filename="a"\r\nContent-Length: 5',
        'Content-Disposition: form-data; name="image"; filename="' + "a" * 2000 + '"',
    ],
)
def test_what_a_file_calls_itself_does_not_matter(client: FlaskClient, simulator: Simulator, head: str) -> None:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    answer = client.post(f"{PREFIX}/img2img", data=multipart(head), content_type=kind)

    assert answer.status_code == 200, answer.text
    assert json.loads(simulator.generations[0].body)["init_images"] == [text(PNG)]


def test_thousands_of_parts_are_refused(client: FlaskClient) -> None:
    parts = [part(f"field{number}", b"") for number in range(20_000)]
    answer = client.post(
        f"{PREFIX}/txt2img", data=form(*parts), content_type=f"multipart/form-data; boundary={BOUNDARY}"
    )
    assert problem_of(answer)["status"] == 413


RANGES = {
    "a thousand": "bytes=" + ",".join(f"{number}-{number}" for number in range(1000)),
    "all of it a hundred times": "bytes=" + ",".join(["0-"] * 100),
    "overlapping": "bytes=0-9,5-14",
    "backwards": "bytes=9-0",
    "of the end": "bytes=-0",
    "beyond every number": "bytes=" + "9" * 4000 + "-",
    "negative": "bytes=--1",
    "of another unit": "lines=0-9",
    "nonsense": "bytes=a-b",
    "empty": "bytes=",
}


@pytest.mark.parametrize("query", ["", "?format=webp"])
@pytest.mark.parametrize("name", RANGES)
def test_ranges_never_cost_more_than_the_image(client: FlaskClient, name: str, query: str) -> None:
    url = client.post(f"{PREFIX}/txt2img", json={**VALID["txt2img"], **SMALL}).get_json()["image_url"]
    whole = client.get(url + query, buffered=True).data
    answer = client.get(url + query, headers={"Range": RANGES[name]}, buffered=True)

    assert answer.status_code in (200, 206, 416)
    assert len(answer.data) <= max(len(whole), 500)
    assert "multipart" not in answer.mimetype


def test_a_redirect_to_the_callers_own_host_is_never_given(client: FlaskClient) -> None:
    for path in ("/api//v1/ai/generation/health", f"{PREFIX}//health", f"{PREFIX}/health/", f"{PREFIX}/models/"):
        answer = client.get(path, headers={"Host": "evil.example"}, base_url="http://evil.example")
        assert problem_of(answer)["status"] == 404
        assert "evil" not in answer.text + str(answer.headers)


@pytest.mark.parametrize("host", ["evil.example", "evil.example@good.example", "x/..//y"])
def test_without_public_url_an_address_is_a_path(client: FlaskClient, host: str) -> None:
    headers = {"Host": host, "X-Forwarded-Host": host, "X-Forwarded-Proto": "gopher", "Forwarded": f"host={host}"}
    answer = client.post(f"{PREFIX}/txt2img", json={**VALID["txt2img"], **SMALL}, headers=headers)
    if answer.status_code == 400:
        assert problem_of(answer)["code"] == "malformed_request"
    else:
        assert answer.get_json()["image_url"].startswith(f"{PREFIX}/image/")


def test_a_public_url_is_kept_whatever_a_proxy_passes_on(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, PUBLIC_URL="https://pictures.example", TRUSTED_PROXIES="1").test_client()
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "javascript"}
    answer = client.post(f"{PREFIX}/txt2img", json={**VALID["txt2img"], **SMALL}, headers=headers)
    assert answer.get_json()["image_url"].startswith(f"https://pictures.example{PREFIX}/image/")


def test_a_models_name_adds_no_header(simulator: Simulator, tmp_path: Path) -> None:
    """The settings refuse such an alias; a WebUI may have a model of such a name."""
    own = {"RUNTIME_DIR": str(tmp_path / "run"), "IMAGE_DIR": str(tmp_path / "images"), "SD_WEBUI_URL": simulator.url}
    name = "a\r\nSet-Cookie: b\u00e9"
    with pytest.raises(ConfigError, match="SD_MODEL_ALIASES: contains an invisible character"):
        Config.from_env({**own, "SD_MODEL_ALIASES": f"{name}=dreamshaper_8"})
    config = Config.from_env(own).model_copy(update={"sd_model_aliases": {name: "dreamshaper_8"}})
    app = create_app(config)
    try:
        answer = app.test_client().post(
            f"{PREFIX}/txt2img", json={**VALID["txt2img"], **SMALL, "model": name}, headers={"Accept": "image/png"}
        )
    finally:
        app.extensions["close"]()

    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Model"] == "a%0D%0ASet-Cookie: b%C3%A9"
    assert "Set-Cookie" not in answer.headers
