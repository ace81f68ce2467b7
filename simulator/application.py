"""What all servers built on FastAPI share: routing, authentication, bodies, error shapes, headers."""

import base64
import contextlib
import gzip
import json
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import cached_property
from typing import Any

from simulator.errors import BodyError, CrashError, HTTPError, InvalidError
from simulator.flavour import Flavour, Settings, filled, json_response
from simulator.wire import Request, Response

GZIP_FROM_BYTES = 1000
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


class Application(Flavour):
    """A FastAPI server."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._ready_at = time.monotonic() + settings.startup_time
        self._threads = threading.BoundedSemaphore(WORKER_THREADS)

    @abstractmethod
    def routes(self) -> Iterator[Route]:
        """All routes of this server."""

    @cached_property
    def _routes(self) -> dict[str, dict[str, Route]]:
        routes: dict[str, dict[str, Route]] = {}
        for route in self.routes():
            routes.setdefault(route.path, {})[route.method] = route
        return routes

    def respond(self, request: Request) -> Response:
        started = time.perf_counter()
        response = self._route(request)
        return self.dress(request, response, time.perf_counter() - started)

    def _route(self, request: Request) -> Response:
        path = request.path
        starting = path.startswith("/sdapi/") and time.monotonic() < self._ready_at
        methods = {} if starting else self._routes.get(path, {})
        if not methods and path.endswith("/") and path.removesuffix("/") in self._routes and not starting:
            location = f"http://{request.headers.get('host', 'localhost')}{path.removesuffix('/')}"
            return Response(status=307, headers=(("location", location),))
        if not methods:
            return json_response({"detail": "Not Found"}, 404)
        route = methods.get(request.method)
        if route is None:
            return json_response({"detail": "Method Not Allowed"}, 405, (("allow", next(iter(methods))),))
        with contextlib.nullcontext() if route.on_event_loop else self._threads:
            return self._handle(route, request)

    def _handle(self, route: Route, request: Request) -> Response:
        try:
            # In FastAPI's order: malformed JSON is found before the credentials are looked at, a wrong type after.
            body = self._parse_body(request) if route.body else None
            if route.protected:
                self._authenticate(request)
            return route.handler(request, body)
        except InvalidError as error:
            return json_response({"detail": error.entries}, 422)
        except HTTPError as error:
            return self.refuse(error.status, error.text)
        except CrashError as error:
            return self.crash(error.name, error.text)
        except BodyError:
            return json_response({"detail": "There was an error parsing the body"}, 400)

    def crash(self, name: str, text: str) -> Response:
        shape = filled(self.profile["errors"]["crash"], error=name, text=text, status=500)
        return replace(json_response(shape, 500), crashed=True)

    def refuse(self, status: int, text: str) -> Response:
        return json_response(filled(self.profile["errors"]["refusal"], text=text, status=status), status)

    def _authenticate(self, request: Request) -> None:
        if self.settings.api_auth is None:
            return
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic" or not value:
            raise HTTPError(401, "Not authenticated")
        try:
            given = base64.b64decode(value, validate=True).decode("ascii")
        except ValueError as error:
            raise HTTPError(401, "Invalid authentication credentials") from error
        if given != self.settings.api_auth:
            raise HTTPError(401, "Incorrect username or password")

    def dress(self, request: Request, response: Response, seconds: float) -> Response:
        response = _compressed(request, response)
        headers = [("date", formatdate(usegmt=True)), ("server", "uvicorn"), *response.headers]
        if self.profile["reports_time"] and not response.crashed:
            headers.append(("x-process-time", f"{seconds:.4f}"))
        return replace(response, headers=tuple(headers))

    def _parse_body(self, request: Request) -> object:
        """The body as FastAPI hands it to pydantic: JSON if the type says so or says nothing, else the plain text.

        :returns: None if there is no body.
        :raises InvalidError: malformed JSON.
        :raises BodyError: not decodable, or too deep.
        """
        if not request.body:
            return None
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            return request.body.decode("latin-1")
        try:
            return json.loads(request.body)
        except json.JSONDecodeError as error:
            raise InvalidError(self._malformed(error)) from error
        except (ValueError, RecursionError) as error:
            raise BodyError from error

    def _malformed(self, error: json.JSONDecodeError) -> dict[str, Any]:
        """The entry for malformed JSON: older versions quote the whole body in it."""
        where: list[str | int] = ["body", error.pos]
        if self.profile["echoes_values"]:
            ctx: dict[str, Any] = {"error": error.msg}
            return {"type": "json_invalid", "loc": where, "msg": "JSON decode error", "input": {}, "ctx": ctx}
        ctx = {"msg": error.msg, "doc": error.doc, "pos": error.pos, "lineno": error.lineno, "colno": error.colno}
        return {"loc": where, "msg": str(error), "type": "value_error.jsondecode", "ctx": ctx}


def fixed_route(path: str, value: object, *, protected: bool = True) -> Route:
    """A route whose answer never changes; an unprotected one needs no worker thread either."""
    response = json_response(value)

    return Route(
        method="GET",
        path=path,
        handler=lambda _request, _body: response,
        protected=protected,
        on_event_loop=not protected,
    )


def _compressed(request: Request, response: Response) -> Response:
    """With gzip, if its name occurs anywhere in Accept-Encoding (even with q=0) and the body is worth it."""
    if "gzip" not in request.headers.get("accept-encoding", "") or len(response.body) < GZIP_FROM_BYTES:
        return response
    headers = (*response.headers, ("content-encoding", "gzip"), ("vary", "Accept-Encoding"))
    return replace(response, body=gzip.compress(response.body, mtime=0), headers=headers)
