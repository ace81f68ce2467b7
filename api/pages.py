"""The service's own pages: the studio, ``/openapi.json``, ``/docs`` and ``/docs/errors``. They need no other server."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import flask_swagger_ui  # type: ignore[import-untyped]
from flask import Blueprint, Flask, Response, redirect, render_template, request
from flask_limiter import Limiter
from markupsafe import Markup, escape
from pydantic_core import to_json
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from api.conditions import make_conditional
from api.error_table import ERRORS
from api.openapi import DocumentSettings, describe
from api.transfers import Downloads

_DOCS = Path(__file__).resolve().parent / "docs_pages"
_SWAGGER_UI = Path(flask_swagger_ui.__file__).resolve().parent / "dist"

#: Everything that lies below ``/docs``.
_DOCS_FILES = {
    "docs.css": _DOCS,
    "docs.js": _DOCS,
    "errors.css": _DOCS,
    "favicon-32x32.png": _SWAGGER_UI,
    "swagger-ui-bundle.js": _SWAGGER_UI,
    "swagger-ui.css": _SWAGGER_UI,
}

#: Files of other kinds are not served.
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}

#: Scripts and styles come from files only; pictures also from memory: Swagger UI's icons are data:, images blob:.
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_HEADERS = {
    "Content-Security-Policy": _CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
}
_STUDIO_HEADERS = {
    "Content-Security-Policy": f"{_CONTENT_POLICY}; require-trusted-types-for 'script'; trusted-types 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class _Page:
    """
    A small file in memory. Flask's ``send_from_directory`` would take its type from the machine's own table, its tag
    from the time of its installation, and answer a failed ``If-Match`` with the file.
    """

    data: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, data: bytes, suffix: str) -> _Page:
        return cls(data, _CONTENT_TYPES[suffix], hashlib.sha256(data).hexdigest()[:32])

    @classmethod
    def read(cls, path: Path) -> _Page:
        """:raises OSError:"""
        return cls.of(path.read_bytes(), path.suffix)

    def answer(self, headers: Mapping[str, str]) -> Response:
        """:raises PreconditionFailedError:"""
        # Names stay the same over versions: a browser may keep a file, but has to ask whether it is still current.
        response = Response(self.data, content_type=self.content_type, headers={"Cache-Control": "no-cache", **headers})
        response.set_etag(self.etag)
        return make_conditional(response, request, etag=self.etag, modified=None)


class PageRoutes:
    """
    Nothing of this needs a key or counts against a limit: whoever is refused must be able to read why, and a single
    visit asks for many files.

    :param settings: what the description shows of the service's settings.
    :param downloads: places for those who fetch the documentation: Swagger UI has 1.7 MB.
    :param studio: the folder of the studio page, flat, read once; None: there is no such page.
    :raises OSError: the folder cannot be read.
    """

    def __init__(self, *, settings: DocumentSettings, downloads: Downloads, studio: Path | None) -> None:
        self._settings = settings
        self._downloads = downloads
        self._studio = _read_all(studio) if studio else {}

    def register(self, app: Flask, limiter: Limiter) -> None:
        routes = Blueprint("pages", __name__, template_folder=str(_DOCS))
        routes.get("/openapi.json")(self.get_description)
        routes.get("/docs")(self.get_docs)
        routes.get("/docs/")(self.get_docs_folder)
        routes.get("/docs/errors")(self.get_errors)
        routes.get("/docs/<name>")(self.get_docs_file)
        if self._studio:
            routes.get("/")(self.get_studio)
            routes.get("/studio/<name>")(self.get_studio_file)
        limiter.exempt(routes)
        app.register_blueprint(routes)

    def get_description(self) -> Response:
        """The description of this API (OpenAPI 3.1)."""
        return self._documentation(self._description)

    def get_docs(self) -> Response:
        """A page to read the description and to try requests."""
        return self._documentation(self._docs)

    def get_docs_folder(self) -> AnyResponse:
        """Leads those who type a slash at the end to the same page."""
        # Relative, like every link here: behind a path prefix the service does not know its own path.
        return redirect("../docs", 308)

    def get_errors(self) -> Response:
        """Every error's cause, what to do, and whether to try again."""
        return self._documentation(self._errors)

    def get_docs_file(self, name: str) -> Response:
        """A script or a style of the documentation."""
        if name not in self._docs_files:
            raise NotFound
        return self._documentation(self._docs_files[name])

    def get_studio(self) -> Response:
        """The studio: a page that shows what the service can do."""
        return self._studio["index.html"].answer(_STUDIO_HEADERS)

    def get_studio_file(self, name: str) -> Response:
        """A script or a style of the studio."""
        if name not in self._studio or name == "index.html":
            raise NotFound
        return self._studio[name].answer(_STUDIO_HEADERS)

    def _documentation(self, page: _Page) -> Response:
        end = self._downloads.begin()
        response = page.answer(_DOCS_HEADERS)
        response.call_on_close(end)
        return response

    # Made when they are first asked for, then kept.

    @cached_property
    def _description(self) -> _Page:
        return _Page.of(to_json(describe(self._settings)), ".json")

    @cached_property
    def _docs(self) -> _Page:
        return _Page.read(_DOCS / "docs.html")

    @cached_property
    def _errors(self) -> _Page:
        text = render_template("errors.html", errors=ERRORS.values(), marked=_marked)
        return _Page.of(text.encode(), ".html")

    @cached_property
    def _docs_files(self) -> dict[str, _Page]:
        return {name: _Page.read(folder / name) for name, folder in _DOCS_FILES.items()}


def _read_all(folder: Path) -> dict[str, _Page]:
    paths = [path for path in folder.iterdir() if path.suffix in _CONTENT_TYPES and not path.name.startswith(".")]
    return {path.name: _Page.read(path) for path in paths}


def _marked(text: str) -> Markup:
    """`names` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just before
