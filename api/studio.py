"""``GET /`` and ``GET /studio/<name>``: the studio page, as it lies in ``web/``."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Flask, Response
from flask_limiter import Limiter
from werkzeug.exceptions import NotFound

from api.static_files import CONTENT_POLICY, CONTENT_TYPES, StaticFile

_PAGE = "index.html"

_HEADERS = {
    "Content-Security-Policy": f"{CONTENT_POLICY}; require-trusted-types-for 'script'; trusted-types 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class StudioRoutes:
    """
    Files are read once, when the service starts: what is not among them then cannot be asked for by any path.

    :param folder: where the page lies, flat; other kinds of files than its own are left alone.
    :raises OSError: the folder cannot be read.
    """

    def __init__(self, *, folder: Path) -> None:
        self._files = _read(folder)
        self._page = self._files.pop(_PAGE)

    def register(self, app: Flask, limiter: Limiter) -> None:
        routes = Blueprint("studio", __name__)
        routes.get("/")(self.get_page)
        routes.get("/studio/<name>")(self.get_file)
        # One visit asks for all of them, which would be half of a minute's calls.
        limiter.exempt(routes)
        app.register_blueprint(routes)

    def get_page(self) -> Response:
        """The studio: a page that shows what the service can do."""
        return self._page.answer(_HEADERS)

    def get_file(self, name: str) -> Response:
        """A script or a style of the studio."""
        if name not in self._files:
            raise NotFound
        return self._files[name].answer(_HEADERS)


def _read(folder: Path) -> dict[str, StaticFile]:
    paths = [path for path in folder.iterdir() if path.suffix in CONTENT_TYPES and not path.name.startswith(".")]
    return {path.name: StaticFile.read(path) for path in paths}
