"""``GET``, ``HEAD`` and ``DELETE image/<image_id>``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os import SEEK_END
from typing import Any, BinaryIO, cast
from uuid import UUID

from flask import Blueprint, Flask, Response, g, request
from werkzeug.http import http_date, quote_etag
from werkzeug.wsgi import wrap_file

from api.conditions import CONDITIONS, PRECONDITIONS, is_known_already, make_conditional
from api.errors import ForbiddenError, ImageNotFoundError
from api.transfers import Downloads, end_slow_reader, still_there
from services.problems import InvalidParamsError, Problem, nearest
from services.results import png_size
from services.stored_images import StoredImages
from services.thumbnails import FORMATS, Format, Thumbnails
from storage.base import ImageFacts, OpenImage, image_path, parse_image_id

#: nginx's internal location whose root is ``IMAGE_DIR``, in ``deploy/nginx/nginx.conf``.
SENDFILE_PREFIX = "/_images/"

_SMALLEST_WIDTH = 16
_PARAMETERS = ("format", "width")
#: How similar a parameter's name must be to a known one to count as a misspelling of it (difflib's ratio): "from" and
#: "height", which others add or mean something else by, are less similar.
_SIMILAR = 0.75
#: Bytes of a PNG that include its size.
_HEAD_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class ImageRoutes:
    """
    Stored images by their id. An invalid id never reaches the storage.

    :param downloads: places for those who fetch.
    :param removed: called for each image that a caller has removed.
    :param sendfile_header: tells the server in front to send the file itself; None: it is sent from here.
    """

    images: StoredImages
    thumbnails: Thumbnails
    downloads: Downloads
    removed: Callable[[], None]
    sendfile_header: str | None = None

    def register(self, app: Flask, prefix: str) -> None:
        routes = Blueprint("images", __name__, url_prefix=prefix)
        routes.get("/image/<image_id>")(self.get_image)
        routes.delete("/image/<image_id>")(self.delete_image)
        app.register_blueprint(routes)

    def get_image(self, image_id: str) -> Response:
        """The PNG itself, or a smaller copy; ``HEAD``, conditions and ``Range`` work."""
        asked = _parameters()
        found = _id_in(image_id)
        with ExitStack() as stack:
            stack.callback(self.downloads.begin())
            if not asked and self.sendfile_header is None and (bodiless := self._bodiless(found)) is not None:
                return bodiless
            image = self.images.open(found)
            stack.callback(image.file.close)
            form, width = _copy_asked_for(image, asked) if asked else ("png", None)
            if (form, width) != ("png", None):
                response = self._copy(found, image, form, width, stack)
            elif self.sendfile_header is not None:
                # The server in front sends the body, and takes care of its ETag, ranges and conditions.
                own = {self.sendfile_header: SENDFILE_PREFIX + image_path(found)}
                response = Response(mimetype="image/png", headers=own)
            else:
                response = _file(image, stack)
        return self._kept_by_caller(response, image)

    def delete_image(self, image_id: str) -> tuple[str, int]:
        """Removes an image; only with API keys switched on."""
        if "api_key" not in g:
            raise ForbiddenError("deleting needs an API key, and this service has none set up")
        found = _id_in(image_id)
        if not PRECONDITIONS.isdisjoint(request.environ):
            facts = self.images.storage.look(found)
            is_known_already(request, etag=facts.etag, modified=facts.modified)
        self.images.storage.delete(found)
        self.removed()
        return "", 204

    def _bodiless(self, image_id: UUID) -> Response | None:
        """
        The answer to ``HEAD``, or 304; None if the image has to be sent. Opening one in a bucket would fetch it whole.

        :raises PreconditionFailedError:
        """
        if request.method != "HEAD" and PRECONDITIONS.isdisjoint(request.environ):
            return None
        facts = self.images.look(image_id)
        if request.method != "HEAD" and not is_known_already(request, etag=facts.etag, modified=facts.modified):
            return None
        return self._kept_by_caller(_described(Response(mimetype="image/png"), facts), facts)

    def _kept_by_caller(self, response: Response, image: ImageFacts) -> Response:
        response.headers.add("Cache-Control", f"private, max-age={self.images.seconds_left(image)}, immutable")
        return response

    def _copy(self, image_id: UUID, image: OpenImage, form: Format, width: int | None, begun: ExitStack) -> Response:
        """:param begun: ends when the answer has been sent."""
        shown_width = width or _width(image)
        etag = f"{image.etag}-{form}-{shown_width}"
        data = b""
        if not is_known_already(request, etag=etag, modified=image.modified):
            check = still_there(request)
            data = self.thumbnails.get(image_id, image.file.read, form=form, width=shown_width, check=check)
        image.file.close()
        response = Response(data, mimetype=f"image/{form}", headers={"Accept-Ranges": "bytes"})
        response.set_etag(etag)
        response.last_modified = image.modified
        make_conditional(response, request, etag=etag, modified=image.modified, size=len(data))
        response.call_on_close(begun.pop_all().close)
        return response


def _file(image: OpenImage, begun: ExitStack) -> Response:
    """
    The file on the disk, which gunicorn sends with sendfile(2).

    :param begun: ends when the answer has been sent.
    """
    begun.callback(end_slow_reader(request))
    sent = _SentFile(image.file)
    body = wrap_file(request.environ, cast("BinaryIO", sent))
    response = _described(Response(body, mimetype="image/png", direct_passthrough=True), image)
    sent.at_end = begun.pop_all().close
    return response


def _described(response: Response, image: ImageFacts) -> Response:
    response.headers.add("Content-Length", str(image.size_bytes))
    response.headers.add("ETag", quote_etag(image.etag))
    response.headers.add("Last-Modified", http_date(image.modified))
    response.headers.add("Accept-Ranges", "bytes")
    if not CONDITIONS.isdisjoint(request.environ):
        make_conditional(response, request, etag=image.etag, modified=image.modified, size=image.size_bytes)
    return response


class _SentFile:
    """A file that the server closes once it has been sent, which is how a response that is passed through learns it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.at_end: Callable[[], None] = file.close

    def close(self) -> None:
        """Must be a method: gunicorn looks it up before ``at_end`` has its final value."""
        self.at_end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _id_in(path: str) -> UUID:
    found = parse_image_id(path.removesuffix(".png"))
    if found is None:
        raise ImageNotFoundError
    return found


def _parameters() -> dict[str, str]:
    """
    The known ones. Others, which people add when they pass a link on, have no effect.

    :raises InvalidParamsError: one is given twice, or misspelt.
    """
    problems = []
    for name in request.args:
        if name in _PARAMETERS:
            if len(request.args.getlist(name)) > 1:
                problems.append(Problem(field=name, message="is given more than once"))
        elif meant := nearest(name[:80], _PARAMETERS, cutoff=_SIMILAR):
            problems.append(Problem(field=name[:80], message=f"is not a parameter of this route{meant}"))
    if problems:
        raise InvalidParamsError(problems[:10])
    return {name: request.args[name] for name in _PARAMETERS if name in request.args}


def _copy_asked_for(image: OpenImage, asked: Mapping[str, str]) -> tuple[Format, int | None]:
    """:raises InvalidParamsError: an unknown format, or a width that would not make the image smaller."""
    problems = []
    asked_form, asked_width = asked.get("format", "png"), asked.get("width")
    form = next((known for known in FORMATS if known == asked_form), None)
    if form is None:
        message = f"must be one of {', '.join(FORMATS)}"
        problems.append(Problem(field="format", message=message, received=asked_form[:80]))
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
    # Via the end: a seek within what was read ahead would not move the descriptor, which gunicorn sends from.
    image.file.seek(0, SEEK_END)
    image.file.seek(0)
    return width
