"""The studio's files: all of them, nothing else, never stale, under a strict policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.error_table import ERRORS
from simulator import Simulator

WEB = Path(__file__).resolve().parents[2] / "web"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = sorted(path.name for path in WEB.iterdir())


def test_there_are_only_files_that_are_served() -> None:
    assert {Path(name).suffix for name in FILES} == TYPES.keys()


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_what_it_is(client: FlaskClient, name: str) -> None:
    answer = client.get("/" if name == "index.html" else f"/studio/{name}")
    assert (answer.status_code, answer.mimetype) == (200, TYPES[Path(name).suffix])
    assert answer.data == (WEB / name).read_bytes()
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get(answer.request.path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    head = client.head(answer.request.path)
    assert (head.status_code, head.data, head.content_length) == (200, b"", len(answer.data))


def test_the_policy_has_no_exceptions(client: FlaskClient) -> None:
    directives = dict(
        part.strip().split(" ", 1) for part in client.get("/").headers["Content-Security-Policy"].split(";")
    )
    assert directives["default-src"] == "'none'"
    assert {directives[f"{kind}-src"] for kind in ("script", "style", "connect")} == {"'self'"}
    assert directives["img-src"] == "'self' data: blob:"
    assert directives["frame-ancestors"] == "'none'"
    assert "unsafe" not in str(directives)


def test_the_page_asks_for_nothing_that_is_not_there(client: FlaskClient) -> None:
    """Whatever page, style or module names: relative, so that it holds below any path of a proxy."""
    page = (WEB / "index.html").read_text()
    named = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert named
    for address in named:
        assert not address.startswith(("/", "http")), address
        if address.startswith("studio/"):
            assert address.removeprefix("studio/") in FILES
    for script in WEB.glob("*.js"):
        for module in re.findall(r'from "([^"]+)"', script.read_text()):
            assert module.removeprefix("./") in FILES, f"{script.name} imports {module}"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script>", page), "the policy forbids what is inline"


def test_the_page_has_words_for_every_error() -> None:
    """But for the one that nobody reads: the caller has hung up. How they come into the page: test_docs_pages.py."""
    page = (WEB / "index.html").read_text()
    for code in ERRORS.keys() - {"caller_gone"}:
        assert ERRORS[code].page_title, f"{code} needs a page_title in api/errors.toml"
        assert f'<symbol id="i-{ERRORS[code].page_icon}"' in page


@pytest.mark.parametrize(
    "path",
    [
        *("/studio/", "/studio/index.html", "/studio/nothing.js", "/studio/APP.js", "/studio/app.js/"),
        *("/studio/../config.py", "/studio/..%2fconfig.py", "/studio/%2e%2e/config.py", "/studio/..%5cconfig.py"),
        *("/studio/./app.js", "/studio//app.js", "/studio/%2fetc%2fpasswd", "/studio/app.js%00.css", "/web/app.js"),
    ],
)
def test_no_path_leads_anywhere_else(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_only_reading(client: FlaskClient) -> None:
    assert client.post("/").status_code == 405
    assert client.delete("/studio/app.js").status_code == 405


def test_it_can_be_switched_off(make_app: Callable[..., Flask], simulator: Simulator) -> None:
    off = make_app(simulator.url, STUDIO="false").test_client()
    for path in ("/", "/studio/app.js"):
        answer = off.get(path)
        assert (answer.status_code, answer.mimetype, answer.get_json()["code"]) == (
            404,
            "application/problem+json",
            "not_found",
        )


def test_it_needs_no_key_and_counts_nowhere(make_app: Callable[..., Flask], simulator: Simulator) -> None:
    client = make_app(simulator.url, API_KEYS="key", RATE_LIMIT_GLOBAL="1/hour").test_client()
    for _ in range(3):
        for path in ("/", "/studio/app.js"):
            answer = client.get(path)
            assert (answer.status_code, "X-RateLimit-Limit" in answer.headers) == (200, False)


@pytest.mark.parametrize(("webuis", "simulated"), [("simulator", "all"), ("nobody", "none")])
def test_options_tell_whether_a_simulator_paints(
    make_app: Callable[..., Flask], simulator: Simulator, webuis: str, simulated: str
) -> None:
    app = make_app(simulator.url if webuis == "simulator" else "http://127.0.0.1:9")
    assert app.test_client().get("/api/v1/ai/generation/options").get_json()["simulated"] == simulated
