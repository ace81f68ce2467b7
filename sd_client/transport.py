"""One HTTP exchange with a WebUI. The exceptions of requests and urllib3 end here."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
import urllib3
from pydantic_core import from_json

from sd_client.errors import (
    InvalidAnswerError,
    MissingRouteError,
    OutOfMemoryError,
    WebUIAuthError,
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

_PIECE_BYTES = 1024 * 1024

_HEADERS = {
    # A1111 gzips on its event loop: a stall for everybody else, and CPU on both sides for a quarter of the bytes.
    "Accept-Encoding": "identity",
    "Accept": "application/json",
    # A connection kept alive may be closed by the WebUI (after 5 s) just when a job is sent over it, and eight idle
    # ones block stable-diffusion.cpp's server.
    "Connection": "close",
    "User-Agent": "stable-diffusion-api",
}

_OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|could not allocate|failed to allocate|OutOfMemory", re.IGNORECASE
)
_CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")


class Transport:
    """
    :param url: ``http://user:password@host:port/prefix``; the credentials are sent as HTTP Basic (``--api-auth``).
    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._base = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._clock = clock

    def get(self, path: str, *, timeout_s: float) -> Any:
        """The JSON of a GET; None for an empty body. :raises WebUIError:"""
        return self._json(self.exchange("GET", path, None, timeout_s=timeout_s))

    def post(self, path: str, body: bytes, *, timeout_s: float) -> Any:
        """The JSON of a POST's answer; None for an empty body (SD.Next answers 204). :raises WebUIError:"""
        return self._json(self.exchange("POST", path, body, timeout_s=timeout_s))

    def exchange(self, method: str, path: str, body: bytes | None, *, timeout_s: float) -> bytes:
        """
        The body of a successful answer, over a connection of its own.

        :param timeout_s: seconds until the whole answer must be there, however steadily it drips.
        :raises WebUIError: one of the tree, never an exception of requests.
        """
        deadline = self._clock() + timeout_s
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy of the environment, no ~/.netrc
                with session.request(
                    method,
                    self._base + path,
                    data=body,
                    headers=_HEADERS | ({"Content-Type": "application/json"} if body is not None else {}),
                    auth=self._auth,
                    timeout=(CONNECT_TIMEOUT_S, timeout_s),
                    stream=True,
                    allow_redirects=False,
                ) as response:
                    if response.status_code >= 300:
                        raise _status_error(response.status_code, self._read(response, deadline, _MAX_ERROR_BYTES))
                    return self._read(response, deadline, MAX_ANSWER_BYTES)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _translated(error) from error

    def _read(self, response: requests.Response, deadline: float, most: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                if most == _MAX_ERROR_BYTES:
                    break
                raise InvalidAnswerError("the WebUI's answer is too large")
            if self._clock() > deadline:
                raise WebUITimeoutError("the WebUI's answer did not end in time")
        return b"".join(pieces)

    @staticmethod
    def _json(body: bytes) -> Any:
        if not body.strip():
            return None
        try:
            return from_json(body)
        except ValueError as error:
            raise InvalidAnswerError("the WebUI's answer is not JSON") from error


def _translated(error: Exception) -> WebUIError:
    """Which of the three errors of the wire it was: never sent, lost, or still running."""
    reason: object = error
    if isinstance(error, requests.ConnectionError) and error.args:
        reason = getattr(error.args[0], "reason", error.args[0])
    never_sent = (
        requests.ConnectTimeout,
        requests.exceptions.InvalidURL,
        requests.exceptions.SSLError,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.SSLError,
    )
    if isinstance(error, never_sent) or isinstance(reason, never_sent):
        return WebUIConnectError(f"no connection to the WebUI ({type(reason).__name__})")
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if isinstance(error, timeouts) or isinstance(reason, timeouts):
        return WebUITimeoutError("the WebUI did not answer in time")
    return WebUIReadError(f"the WebUI's answer was lost ({type(reason).__name__})")


def _status_error(status: int, body: bytes) -> WebUIStatusError:
    """What kind of error an answer is, from its status and any of the shapes that the servers use."""
    kind, text = _error_text(body)
    if status == 401:
        return WebUIAuthError(status, kind)
    # 404 is overloaded: "Sampler not found" and "Init image not found" are answers of a route that exists.
    if status in (404, 405, 501) and text in ("", "Not Found", "Method Not Allowed"):
        return MissingRouteError(status, kind)
    if _OUT_OF_MEMORY.search(kind) or _OUT_OF_MEMORY.search(text):
        return OutOfMemoryError(status, kind)
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
    return kind, " ".join(text for text in texts[: len(texts)] if isinstance(text, str) and text and text != kind)
