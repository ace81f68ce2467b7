"""``GET``, ``HEAD`` and ``DELETE image/<image_id>``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID

from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import wrap_file

from api.errors import ForbiddenError, ImageNotFoundError
from services.answers import png_size
from services.copies import FORMATS, Copies, Format
from services.problems import InvalidParamsError, Problem, nearest
from storage.base import ImageStorage, OpenImage, parse_image_id
from storage.errors import ImageNotFoundError as NotStoredError

_YEAR_S = 31_536_000
_SMALLEST_WIDTH = 16
#: Enough of a PNG to read its size from.
_HEAD_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class ImageRoutes:
    """
    Stored images by their id. An id that is no UUID never touches the storage.

    :param ttl_s: an older image counts as removed, whether or not it has been yet; None: none is too old.
    """

    storage: ImageStorage
    copies: Copies
    ttl_s: float | None

    def register(self, app: Flask, prefix: str) -> None:
        routes = Blueprint("images", __name__, url_prefix=prefix)
        routes.get("/image/<image_id>")(self.get_image)
        routes.delete("/image/<image_id>")(self.delete_image)
        app.register_blueprint(routes)

    def get_image(self, image_id: str) -> Response:
        """The PNG itself, or a smaller copy; ``HEAD``, ``If-None-Match`` and ``Range`` work."""
        _refuse_unknown_parameters()
        found, image = self._open(image_id)
        try:
            response = self._answer(found, image)
        except BaseException:
            image.file.close()
            raise
        response.headers["Cache-Control"] = f"private, max-age={self._seconds_left(image)}, immutable"
        return response

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

    def _open(self, image_id: str) -> tuple[UUID, OpenImage]:
        found = parse_image_id(image_id)
        if found is None:
            raise ImageNotFoundError
        try:
            image = self.storage.open(found)
        except NotStoredError as error:
            raise ImageNotFoundError from error
        if self._seconds_left(image) <= 0:
            image.file.close()
            raise ImageNotFoundError
        return found, image

    def _seconds_left(self, image: OpenImage) -> int:
        return _YEAR_S if self.ttl_s is None else int(image.modified.timestamp() + self.ttl_s - time.time())

    def _answer(self, image_id: UUID, image: OpenImage) -> Response:
        if not request.args:
            return _file(image)
        form, width = _copy_asked_for(image)
        if (form, width) == ("png", None):
            return _file(image)
        shown_width = width or _width(image)
        data = self.copies.get(image_id, image.file.read, form=form, width=shown_width)
        image.file.close()
        response = Response(data, mimetype=f"image/{form}")
        response.set_etag(f"{image.etag}-{form}-{shown_width}")
        response.last_modified = image.modified
        response.make_conditional(request.environ, accept_ranges=True, complete_length=len(data))
        return response


def _file(image: OpenImage) -> Response:
    """The file as it lies on the disk: gunicorn sends it with sendfile(2)."""
    response = Response(wrap_file(request.environ, image.file), mimetype="image/png", direct_passthrough=True)
    response.call_on_close(image.file.close)
    response.content_length = image.size_bytes
    response.set_etag(image.etag)
    response.last_modified = image.modified
    try:
        response.make_conditional(request.environ, accept_ranges=True, complete_length=image.size_bytes)
    except RequestedRangeNotSatisfiable:
        image.file.close()
        raise
    return response


def _refuse_unknown_parameters() -> None:
    problems = []
    for name in list(request.args)[:10]:
        if name not in ("format", "width"):
            message = f"is not a parameter of this route{nearest(name[:80], ('format', 'width'))}"
            problems.append(Problem(field=name[:80], message=message))
        elif len(request.args.getlist(name)) > 1:
            problems.append(Problem(field=name, message="is given more than once"))
    if problems:
        raise InvalidParamsError(problems)


def _copy_asked_for(image: OpenImage) -> tuple[Format, int | None]:
    """:raises InvalidParamsError: a format that is none, or a width that would not make the image smaller."""
    problems = []
    asked_form = request.args.get("format", "png")
    form = next((known for known in FORMATS if known == asked_form), None)
    if form is None:
        message = f"must be one of {', '.join(FORMATS)}"
        problems.append(Problem(field="format", message=message, received=asked_form[:80]))
    asked_width = request.args.get("width")
    largest = _width(image)
    width = int(asked_width) if asked_width and asked_width.isascii() and asked_width.isdigit() else None
    if asked_width is not None and (width is None or not _SMALLEST_WIDTH <= width <= largest):
        message = f"must be whole pixels between {_SMALLEST_WIDTH} and the image's own {largest}"
        problems.append(Problem(field="width", message=message, received=asked_width[:80]))
    if problems or form is None:
        raise InvalidParamsError(problems)
    return form, width


def _width(image: OpenImage) -> int:
    width, _ = png_size(image.file.read(_HEAD_BYTES))
    image.file.seek(0)
    return width
