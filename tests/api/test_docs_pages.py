"""``/docs``, ``/docs/errors`` and their files, without a browser."""

from __future__ import annotations

import html
import re

import pytest
from flask.testing import FlaskClient

from api.error_table import ERRORS
from simulator import Simulator
from tests.api.answers import problem_of
from tests.conftest import MakeApp
from tests.running import PREFIX
from tools import error_docs

TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
PAGES = ["/docs", "/docs/errors"]


def files_of(page: str) -> list[str]:
    """What a page asks for, as it is written there."""
    return re.findall(r'<(?:link|script)[^>]* (?:href|src)="([^"]+)"', page)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_and_all_that_it_asks_for(client: FlaskClient, path: str) -> None:
    page = client.get(path)
    assert (page.status_code, page.content_type) == (200, TYPES["html"])
    files = files_of(page.text)
    assert files
    for name in files:
        assert not name.startswith(("/", "http")), "must be relative: there may be a path prefix"
        answer = client.get(f"{path.rpartition('/')[0]}/{name}")
        assert answer.status_code == 200
        assert answer.content_type == TYPES.get(name.rpartition(".")[2], "image/png")
        assert answer.data


@pytest.mark.parametrize("path", [*PAGES, "/docs/docs.js", "/docs/swagger-ui-bundle.js", "/openapi.json"])
def test_headers(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    policy = dict(rule.partition(" ")[::2] for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "X-RateLimit-Limit" not in answer.headers
    again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    head = client.head(path)
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", answer.headers["ETag"])


@pytest.mark.parametrize("path", PAGES)
def test_no_script_and_no_style_is_in_a_page(client: FlaskClient, path: str) -> None:
    page = client.get(path).text
    assert not re.search(r"<style| style=| on[a-z]+=|javascript:", page)
    assert all(" src=" in script for script in re.findall(r"<script[^>]*>", page))


@pytest.mark.parametrize(
    "path",
    [
        *("/docs/nothing", "/docs/index.html", "/docs/docs.html", "/docs/errors.html", "/docs/oauth2-redirect.html"),
        *("/docs/..%2Fdocs.py", "/docs/%2e%2e/docs.py", "/docs/docs.js/x", "/docs/errors/", "/docs/.", "/docs/DOCS.JS"),
    ],
)
def test_nothing_else_is_there(client: FlaskClient, path: str) -> None:
    assert problem_of(client.get(path))["code"] == "not_found"


def test_a_slash_at_the_end_leads_to_the_page(client: FlaskClient) -> None:
    answer = client.get("/docs/", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers["Location"]) == (308, "../docs")


def test_no_key_is_asked_for(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, API_KEYS="secret").test_client()
    for path in ("/openapi.json", "/docs/", "/docs/docs.js", *PAGES):
        assert client.get(path).status_code in (200, 308)


def test_a_caller_that_is_refused_can_read_why(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="1/hour").test_client()
    refused = [client.get(f"{PREFIX}/models") for _ in range(2)][1]
    assert refused.status_code == 429
    page, _, code = refused.get_json()["type"].partition("#")
    answer = client.get(page)
    assert (answer.status_code, f'<section id="{code}"' in answer.text) == (200, True)


# What the codes mean.


#: What belongs to a door alone: its paths, and what its routes do.
OF_DOORS = {
    "a1111": re.compile(r"/sdapi|A1111's API|A1111 door|AUTOMATIC1111's API|<code>interrupt</code>|`interrupt`"),
    "openai": re.compile(r"(?<!/api)(?<!/sdapi)/v1/|OpenAI"),
}


@pytest.mark.parametrize("doors", [(), ("a1111",), ("openai",), ("a1111", "openai")])
def test_nothing_is_said_of_a_door_that_is_closed(
    make_app: MakeApp, simulator: Simulator, doors: tuple[str, ...]
) -> None:
    client = make_app(simulator.url, DOORS=",".join(doors) or "none").test_client()
    pages = ("/", "/docs", "/docs/errors", "/openapi.json")
    texts = {path: html.unescape(client.get(path).text) for path in pages}
    for door, words in OF_DOORS.items():
        assert bool(words.search(texts["/openapi.json"])) == (door in doors)
        if door not in doors:
            assert [found[0] for text in texts.values() for found in words.finditer(text)] == []


def test_every_code_has_its_place_on_the_page(client: FlaskClient) -> None:
    page = client.get("/docs/errors").text
    shown = re.findall(r'<section id="(\w+)"', page)
    assert len(shown) == len(set(shown))
    assert shown == list(ERRORS)
    assert re.findall(r'href="#(\w+)"', page) == shown
    plain = html.unescape(re.sub(r"<[^>]+>", "", page))
    for error in ERRORS.values():
        for text in (error.cause, error.remedy, error.retry):
            assert text.replace("`", "") in plain


def test_what_is_made_from_the_table_is_up_to_date() -> None:
    for path, text in error_docs.made().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run `make error-docs`"


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_texts_are_sentences(code: str) -> None:
    error = ERRORS[code]
    texts = [error.cause, error.remedy, error.retry, *error.reasons.values()]
    assert all(text.endswith(".") for text in texts)
    assert all(text.count("`") % 2 == 0 for text in texts)
