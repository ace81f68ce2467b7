"""``GET``, ``HEAD`` and ``DELETE image/<image_id>``."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import wrap_file

from api.errors import ForbiddenError, ImageNotFoundError
from services.problems import InvalidParamsError, Problem
from storage.base import ImageStorage, OpenImage, parse_image_id
from storage.errors import ImageNotFoundError as NotStoredError


@dataclass(frozen=True, kw_only=True)
class ImageRoutes:
    """Stored images by their id. An id that is no UUID never touches the storage."""

    storage: ImageStorage

    def register(self, app: Flask, prefix: str) -> None:
        routes = Blueprint("images", __name__, url_prefix=prefix)
        routes.get("/image/<image_id>")(self.get_image)
        routes.delete("/image/<image_id>")(self.delete_image)
        app.register_blueprint(routes)

    def get_image(self, image_id: str) -> Response:
        """The PNG itself; ``HEAD``, ``If-None-Match`` and ``Range`` work."""
        if request.args:
            problems = [
                Problem(field=name[:80], message="is not a parameter of this route") for name in list(request.args)[:10]
            ]
            raise InvalidParamsError(problems)
        found = parse_image_id(image_id)
        if found is None:
            raise ImageNotFoundError
        try:
            image = self.storage.open(found)
        except NotStoredError as error:
            raise ImageNotFoundError from error
        return _answer(image)

    def delete_image(self, image_id: str) -> tuple[str, int]:
        """Removes an image; only where API keys are on."""
        if "api_key" not in g:
            raise ForbiddenError("deleting needs an API key, and this service has none set up")
        found = parse_image_id(image_id)
        if found is None:
            raise ImageNotFoundError
        try:
            self.storage.delete(found)
        except NotStoredError as error:
            raise ImageNotFoundError from error
        return "", 204


def _answer(image: OpenImage) -> Response:
    """The file as it lies on the disk: gunicorn sends it with sendfile(2)."""
    response = Response(wrap_file(request.environ, image.file), mimetype="image/png", direct_passthrough=True)
    response.call_on_close(image.file.close)
    response.content_length = image.size_bytes
    response.set_etag(image.etag)
    response.last_modified = image.modified
    response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    try:
        response.make_conditional(request.environ, accept_ranges=True, complete_length=image.size_bytes)
    except RequestedRangeNotSatisfiable:
        image.file.close()
        raise
    return response
