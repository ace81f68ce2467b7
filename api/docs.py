"""``GET /openapi.json``, ``/docs`` and ``/docs/errors``: the API described, tried out and explained, offline."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import flask_swagger_ui  # type: ignore[import-untyped]
from flask import Blueprint, Flask, Response, redirect, render_template
from flask_limiter import Limiter
from markupsafe import Markup, escape
from pydantic_core import to_json
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from api.error_table import ERRORS
from api.openapi import DocumentSettings, describe
from api.static_files import CONTENT_POLICY, StaticFile
from api.transfers import Downloads

_OWN = Path(__file__).resolve().parent / "pages"
_SWAGGER_UI = Path(flask_swagger_ui.__file__).resolve().parent / "dist"

#: What lies below ``/docs``, and nothing else does.
_FILES = {
    "docs.css": _OWN,
    "docs.js": _OWN,
    "errors.css": _OWN,
    "favicon-32x32.png": _SWAGGER_UI,
    "swagger-ui-bundle.js": _SWAGGER_UI,
    "swagger-ui.css": _SWAGGER_UI,
}

_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
}


class DocsRoutes:
    """
    Made when they are first asked for, then kept.

    :param settings: what of the settings shows in the description.
    :param downloads: places for those who fetch: Swagger UI has 1.7 MB.
    """

    def __init__(self, *, settings: DocumentSettings, downloads: Downloads) -> None:
        self._settings = settings
        self._downloads = downloads

    def register(self, app: Flask, limiter: Limiter) -> None:
        routes = Blueprint("docs", __name__, template_folder=str(_OWN))
        routes.get("/openapi.json")(self.get_description)
        routes.get("/docs")(self.get_docs)
        routes.get("/docs/")(self.get_docs_folder)
        routes.get("/docs/errors")(self.get_errors)
        routes.get("/docs/<name>")(self.get_file)
        # Whoever is refused must be able to read why; and one visit asks for six files.
        limiter.exempt(routes)
        app.register_blueprint(routes)

    def get_description(self) -> Response:
        """The description of this API (OpenAPI 3.1)."""
        return self._answer(self._description)

    def get_docs(self) -> Response:
        """A page to read the description on and to try requests out."""
        return self._answer(self._docs)

    def get_docs_folder(self) -> AnyResponse:
        """The same page for those who type a slash at the end."""
        # Relative, as everything here: behind a path prefix the service does not know its own.
        return redirect("../docs", 308)

    def get_errors(self) -> Response:
        """Every error's cause, what to do, and whether to try again."""
        return self._answer(self._errors)

    def get_file(self, name: str) -> Response:
        """A script or a style of these pages."""
        if name not in self._files:
            raise NotFound
        return self._answer(self._files[name])

    @cached_property
    def _description(self) -> StaticFile:
        return StaticFile.of(to_json(describe(self._settings)), ".json")

    @cached_property
    def _docs(self) -> StaticFile:
        return StaticFile.read(_OWN / "docs.html")

    @cached_property
    def _errors(self) -> StaticFile:
        text = render_template("errors.html", errors=ERRORS.values(), marked=_marked)
        return StaticFile.of(text.encode(), ".html")

    @cached_property
    def _files(self) -> dict[str, StaticFile]:
        return {name: StaticFile.read(folder / name) for name, folder in _FILES.items()}

    def _answer(self, page: StaticFile) -> Response:
        end = self._downloads.begin()
        response = page.answer(_HEADERS)
        response.call_on_close(end)
        return response


def _marked(text: str) -> Markup:
    """`names` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just before
