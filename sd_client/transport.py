"""One HTTP exchange with a WebUI. The exceptions of requests, urllib3 and http.client end here."""

from __future__ import annotations

import base64
import contextlib
import copy
import functools
import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPException
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
import urllib3
from pydantic_core import from_json

from sd_client.connection import Exchange, ExchangeAdapter
from sd_client.errors import (
    InvalidAnswerError,
    MissingRouteError,
    OutOfMemoryError,
    UntrustedError,
    WebUIAuthError,
    WebUIBusyError,
    WebUIConnectError,
    WebUIError,
    WebUIReadError,
    WebUIStatusError,
    WebUITimeoutError,
)

#: A WebUI on a private network answers a SYN at once or is not there.
CONNECT_TIMEOUT_S = 3.0

#: More than any answer: 4 pictures of 2048² noise and an echo of two input pictures are about 100 MB.
MAX_ANSWER_BYTES = 512 * 1024 * 1024

#: A WebUI's error text is only looked at for its kind.
_MAX_ERROR_BYTES = 64 * 1024

_HEADERS = {
    # A1111 gzips on its event loop: a stall for everybody else, and CPU on both sides for a quarter of the bytes.
    "Accept-Encoding": "identity",
    "Accept": "application/json",
    # A connection kept alive may be closed by the WebUI (after 5 s) just when a job is sent over it, and eight idle
    # ones block stable-diffusion.cpp's server.
    "Connection": "close",
    "User-Agent": "stable-diffusion-api",
}

#: What an exchange that fails raises: a host's name may be impossible, and a compressed answer damaged.
_FAILURES = (OSError, HTTPException, UnicodeError, requests.RequestException, urllib3.exceptions.HTTPError)

_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|could not allocate|failed to allocate|OutOfMemory", re.IGNORECASE
)
#: Callers receive it, so that a word which names no exception is left out: it could be part of a prompt.
_CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,50}(?:[Ee]rror|Exception)")


class SizedPieces(Protocol):
    """A body that is made while it is sent; ``len()`` is its size in bytes."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...


class Transport:
    """
    Neither proxies nor a ``~/.netrc`` are looked for, and no redirect is followed.

    :param url: ``http://user:password@host:port/prefix``; the credentials are sent as HTTP Basic (``--api-auth``).
    :param ca_bundle: path of the certificates that an https WebUI's must go back to; None: the well-known authorities.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_bundle: str | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = dict(_HEADERS)
        if parts.username is not None:
            # Not by requests, which encodes the password as Latin-1: most letters have no code there.
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
        # Not a session: it looks for proxies and a ~/.netrc, and reads a redirect's whole body.
        self._adapter = ExchangeAdapter()
        self._verify: str | bool = ca_bundle or True
        self._connect_timeout_s = connect_timeout_s
        self._max_answer_bytes = max_answer_bytes

    def get(self, path: str, *, timeout_s: float, max_bytes: int | None = None) -> Any:
        """
        The JSON of a GET; None for an empty body.

        :param max_bytes: see :meth:`exchange`.
        :raises WebUIError:
        """
        return as_json(self.exchange("GET", path, None, timeout_s=timeout_s, max_bytes=max_bytes))

    def post(self, path: str, body: bytes, *, timeout_s: float) -> Any:
        """The JSON of a POST's answer; None for an empty body (SD.Next answers 204). :raises WebUIError:"""
        return as_json(self.exchange("POST", path, body, timeout_s=timeout_s))

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | SizedPieces | None,
        *,
        timeout_s: float,
        max_bytes: int | None = None,
        over: Callable[[Exchange], AbstractContextManager[None]] = lambda _: contextlib.nullcontext(),
    ) -> bytes:
        """
        The body of a successful answer.

        :param timeout_s: seconds until the whole answer must be there, however steadily it drips.
        :param max_bytes: of the answer's body; None for those that an answer with pictures may have.
        :param over: is entered with the exchange, which can be hung up on as long as it is under way.
        :raises WebUIError: one of the tree, never an exception of requests.
        """
        most = self._max_answer_bytes if max_bytes is None else max_bytes
        timeout = min(self._connect_timeout_s, timeout_s)  # once connected, the exchange's own time counts
        with Exchange(timeout_s=timeout_s) as exchange, over(exchange):
            try:
                request = self._request(method, path, body)
                with self._adapter.send(request, timeout=timeout, verify=self._verify) as response:
                    refused = response.status_code >= 300
                    content = _body(response, most=_MAX_ERROR_BYTES if refused else most)
            except _FAILURES as error:
                raise _translated(error, exchange) from error
            if exchange.expired:  # what was read may end where the connection was cut
                raise WebUITimeoutError("the WebUI's answer did not end in time")
        if refused:
            raise status_error(response.status_code, content)
        if len(content) > most:
            raise InvalidAnswerError("the WebUI's answer is too large")
        return content

    @contextmanager
    def over_one_connection(self) -> Iterator[Transport]:
        """The same for several exchanges of one thread, none of which does anything: some may be sent twice."""
        adapter = ExchangeAdapter(keeps=True)
        transport = copy.copy(self)
        transport._adapter = adapter
        transport._headers = {name: value for name, value in self._headers.items() if name != "Connection"}
        try:
            yield transport
        finally:
            adapter.close()

    @functools.cached_property
    def _base(self) -> str:
        """:raises requests.InvalidURL: no host can have this name."""
        return str(requests.Request("GET", self._url).prepare().url).rstrip("/")

    def _request(self, method: str, path: str, body: bytes | SizedPieces | None) -> requests.PreparedRequest:
        """Not prepared as a whole, for requests takes long over an address and headers that are right already."""
        request = requests.PreparedRequest()
        request.method, request.url = method, self._base + path
        request.headers = dict(self._headers)  # type: ignore[assignment]  # each name has one spelling here
        if body is not None:
            request.headers["Content-Type"] = "application/json"
        request.prepare_body(body, None)  # sets its length as well
        return request


def as_json(body: bytes) -> Any:
    """None for an empty body. :raises InvalidAnswerError:"""
    if not body.strip():
        return None
    try:
        return from_json(body)
    except ValueError as error:
        raise InvalidAnswerError("the WebUI's answer is not JSON") from error


def _body(response: requests.Response, *, most: int) -> bytes:
    """
    The whole body, decompressed: a proxy may have compressed it though it was asked not to.

    :returns: that many bytes and one more where it has more than ``most``.
    """
    pieces: list[bytes] = []
    left = most + 1
    # The last read finds the end; it fails if the body was cut off.
    while left and (piece := response.raw.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _translated(error: Exception, exchange: Exchange) -> WebUIError:
    """Which of the three errors of the wire it was: never sent, still running, or lost."""
    kind = _innermost(error)
    if not exchange.connected:
        return (UntrustedError if kind == "SSLCertVerificationError" else WebUIConnectError)(kind)
    if exchange.expired:
        return WebUITimeoutError("the WebUI did not answer in time")
    return WebUIReadError(f"the connection to the WebUI broke before its answer was complete ({kind})")


def _innermost(error: BaseException) -> str:
    """The class that says what happened: exceptions are wrapped, some of them several times."""
    while error.__context__ is not None:
        error = error.__context__
    return type(error).__name__


def status_error(status: int, body: bytes) -> WebUIStatusError:
    """What kind of error an answer is, from its status and any of the shapes that the servers use."""
    kind, text = _error_text(body)
    if status == 401:
        return WebUIAuthError(status, kind)
    # 404 is overloaded: "Sampler not found" and "Init image not found" are answers of a route that exists. Such come
    # as JSON; KoboldCpp says in plain text that it lacks one.
    is_json = body.lstrip().startswith(b"{")
    if status in (404, 405, 501) and (not is_json or text in ("", "Not Found", "Method Not Allowed")):
        return MissingRouteError(status, kind)
    if _OUT_OF_MEMORY.search(kind) or _OUT_OF_MEMORY.search(text):
        return OutOfMemoryError(status, kind)
    if status in (429, 503):
        return WebUIBusyError(status, kind)
    return WebUIStatusError(status, kind)


def _error_text(body: bytes) -> tuple[str, str]:
    """(exception class or "", all texts found) of A1111's, FastAPI's, Forge's and sd.cpp's error shapes."""
    try:
        answer = from_json(body)
    except ValueError:
        return "", body[:_MAX_ERROR_BYTES].decode("utf-8", "replace").strip()
    if not isinstance(answer, dict):
        return "", ""
    texts = [answer.get(key) for key in ("detail", "errors", "message", "error")]
    texts += [text.get("msg") for text in texts if isinstance(text, dict)]
    name = answer.get("error")
    kind = name if isinstance(name, str) and _CLASS_NAME.fullmatch(name) else ""
    return kind, " ".join(text for text in texts if isinstance(text, str) and text and text != kind)


def number(value: object) -> float:
    """A number of an answer; 0 if it is not one that can be calculated with."""
    try:
        found = float(value) if isinstance(value, int | float) else 0.0
    except OverflowError:
        return 0.0
    return found if math.isfinite(found) else 0.0
