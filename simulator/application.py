"""What all servers built on FastAPI share: routing, authentication, bodies, error shapes, headers."""

import base64
import binascii
import contextlib
import gzip
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any

from simulator.errors import BodyError, CrashError, HTTPError, InvalidError, SimulatedError
from simulator.wire import Request, Response

GZIP_FROM = 1000  # Bytes.
GZIP_LEVEL = 9
WORKER_THREADS = 40  # Starlette's pool: with more requests waiting, every ordinary route hangs.

Handler = Callable[[Request, Any], Response]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method of one path. With `body` the handler gets the parsed JSON, else None."""

    method: str
    path: str
    handler: Handler
    body: bool = False
    protected: bool = True
    on_event_loop: bool = False
    """Whether it needs none of the worker threads."""


def json_bytes(value: object) -> bytes:
    """As Starlette writes it.

    :raises CrashError: NaN or an infinity.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as exc:
        raise CrashError("ValueError", str(exc)) from exc


def json_response(value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A JSON answer without a charset."""
    return Response(status=status, body=json_bytes(value), headers=(*headers, ("content-type", "application/json")))


class Flavour(ABC):
    """One kind of server: answers requests and shapes its own errors."""

    name: str
    connection_threads: int | None = None
    """How many connections are served at once; None for no limit."""
    length_header = "content-length"
    http_version = "1.1"
    """What its answers begin with; after an answer of HTTP/1.0 the connection is closed."""
    invalid_head = (("content-type", "text/plain; charset=utf-8"), ("Connection", "close"))

    @abstractmethod
    def respond(self, request: Request) -> Response:
        """Answer it, with all headers but content-length."""

    @abstractmethod
    def crash(self, name: str, text: str) -> Response:
        """The answer for an unhandled exception of this class and text."""

    @abstractmethod
    def refuse(self, status: int, detail: str) -> Response:
        """The answer for a refusal on purpose."""

    @abstractmethod
    def dress(self, request: Request, response: Response, seconds: float) -> Response:
        """Put on the headers every answer of this server has."""

    @abstractmethod
    def close(self) -> None:
        """End all jobs and all waiting."""


class Application(Flavour):
    """A FastAPI server.

    :param auth: `user:password` as --api-auth takes it, or None.
    :param startup_s: so long the port answers but /sdapi does not exist, as in web-UI mode.
    """

    def __init__(self, *, auth: str | None, startup_s: float) -> None:
        self._auth = auth
        self._ready_at = time.monotonic() + startup_s
        self._threads = threading.BoundedSemaphore(WORKER_THREADS)
        self._routes: dict[str, dict[str, Route]] = {}
        for route in self.routes():
            self._routes.setdefault(route.path, {})[route.method] = route

    @abstractmethod
    def routes(self) -> list[Route]:
        """All routes of this server."""

    @property
    def paths(self) -> dict[str, list[str]]:
        """All paths with their methods, lower case."""
        return {path: [method.lower() for method in methods] for path, methods in self._routes.items()}

    def respond(self, request: Request) -> Response:
        """See `Flavour.respond`."""
        started = time.perf_counter()
        response = self._preflight(request) or self._route(request)
        return self.dress(request, response, time.perf_counter() - started)

    def _preflight(self, request: Request) -> Response | None:
        if request.method != "OPTIONS" or "access-control-request-method" not in request.headers:
            return None
        asked = request.headers.get("access-control-request-headers")
        headers = (
            ("vary", "Origin"),
            ("access-control-allow-methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
            ("access-control-max-age", "600"),
            ("access-control-allow-credentials", "true"),
            *((("access-control-allow-headers", asked),) if asked else ()),
            ("content-type", "text/plain; charset=utf-8"),
        )
        return Response(status=400, body=b"Disallowed CORS origin", headers=headers)

    def _route(self, request: Request) -> Response:
        path = request.path
        methods = self._routes.get(path)
        if path.startswith("/sdapi/") and time.monotonic() < self._ready_at:
            methods = None
        elif methods is None and path:
            other = path.removesuffix("/") if path.endswith("/") else f"{path}/"
            if other in self._routes:
                return self._redirect(request, other)
        if methods is None:
            return json_response({"detail": "Not Found"}, 404)
        route = methods.get(request.method)
        if route is None:
            allow = next(iter(methods))
            return json_response({"detail": "Method Not Allowed"}, 405, (("allow", allow),))
        with contextlib.nullcontext() if route.on_event_loop else self._threads:
            return self._handle(route, request)

    def _redirect(self, request: Request, path: str) -> Response:
        host = request.headers.get("host", "localhost")
        return Response(status=307, headers=(("location", f"http://{host}{path}"),))

    def _handle(self, route: Route, request: Request) -> Response:
        try:
            # In FastAPI's order: malformed JSON is found before the credentials are looked at, a wrong type after.
            body = self.parse_body(request) if route.body else None
            if route.protected:
                self._authenticate(request)
            return route.handler(request, body)
        except SimulatedError as error:
            return self.error_response(error)

    def error_response(self, error: SimulatedError) -> Response:
        """The answer to any error."""
        match error:
            case InvalidError(entries=entries):
                return json_response({"detail": entries}, 422)
            case HTTPError(status=status, detail=detail):
                return self.refuse(status, detail)
            case CrashError(name=name, text=text):
                return self.crash(name, text)
            case BodyError():
                return json_response({"detail": "There was an error parsing the body"}, 400)
        raise AssertionError(error)

    def _authenticate(self, request: Request) -> None:
        if self._auth is None:
            return
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic" or not value:
            raise HTTPError(401, "Not authenticated")
        try:
            given = base64.b64decode(value, validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError) as exc:
            raise HTTPError(401, "Invalid authentication credentials") from exc
        if ":" not in given:
            raise HTTPError(401, "Invalid authentication credentials")
        if given != self._auth:
            raise HTTPError(401, "Incorrect username or password")

    def dress(self, request: Request, response: Response, seconds: float) -> Response:
        """See `Flavour.dress`."""
        response = compressed(request, response)
        headers = [("date", formatdate(usegmt=True)), ("server", "uvicorn"), *response.headers]
        if "origin" in request.headers and not any(name.startswith("access-control") for name, _ in headers):
            headers.append(("access-control-allow-credentials", "true"))
        if self.reports_time and not response.crashed:
            headers.append(("x-process-time", f"{seconds:.4f}"))
        return replace(response, headers=tuple(headers))

    reports_time = True
    """Whether answers carry x-process-time."""

    def parse_body(self, request: Request) -> object:
        """The body as FastAPI hands it to pydantic: JSON if the type says so or says nothing, else the plain text.

        :returns: None if there is no body.
        :raises InvalidError: malformed JSON.
        :raises BodyError: not decodable, or too deep.
        """
        if not request.body:
            return None
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            return request.body.decode("latin-1")
        try:
            return json.loads(request.body)
        except json.JSONDecodeError as exc:
            raise InvalidError(self.malformed(exc)) from exc
        except (ValueError, RecursionError) as exc:
            raise BodyError from exc

    def malformed(self, error: json.JSONDecodeError) -> dict[str, Any]:
        """FastAPI 0.94's entry for malformed JSON; it holds the whole body."""
        place = {"pos": error.pos, "lineno": error.lineno, "colno": error.colno}
        return {
            "loc": ["body", error.pos],
            "msg": str(error),
            "type": "value_error.jsondecode",
            "ctx": {"msg": error.msg, "doc": error.doc, **place},
        }


def fixed_route(path: str, value: object, *, method: str = "GET", protected: bool = True) -> Route:
    """A route whose answer never changes; an unprotected one needs no worker thread either."""
    response = json_response(value)
    return Route(
        method=method,
        path=path,
        handler=lambda _request, _body: response,
        protected=protected,
        on_event_loop=not protected,
    )


def empty_object(_request: Request, _body: None) -> Response:
    """An answer of `{}`."""
    return json_response({})


def compressed(request: Request, response: Response) -> Response:
    """With gzip, if its name occurs anywhere in Accept-Encoding (even with q=0) and the body is worth it."""
    if "gzip" not in request.headers.get("accept-encoding", "") or len(response.body) < GZIP_FROM:
        return response
    headers = (*response.headers, ("content-encoding", "gzip"), ("vary", "Accept-Encoding"))
    return replace(response, body=gzip.compress(response.body, GZIP_LEVEL, mtime=0), headers=headers)
