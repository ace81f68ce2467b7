"""HTTP/1.x as bytes: requests read, answers written exactly as given.

The standard library's http.server decides header case, error pages and the reuse of connections; the
simulator has to look like uvicorn or cpp-httplib, and to break on purpose.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedReader
from urllib.parse import parse_qsl, unquote

MAX_LINE_BYTES = 1 << 20

Headers = tuple[tuple[str, str], ...]


class BadRequestError(Exception):
    """The bytes are not an HTTP request. The connection cannot be used any longer."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A request's first line and headers; header names are lower case."""

    method: str
    target: str
    version: str
    headers: Mapping[str, str]

    @property
    def raw_path(self) -> str:
        """The path as it was sent, without the query."""
        return self.target.partition("?")[0]

    @property
    def path(self) -> str:
        """The decoded path without the query."""
        return unquote(self.raw_path)

    @property
    def query(self) -> str:
        """What follows the question mark, as it was sent."""
        return self.target.partition("?")[2]

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may be used again; uvicorn closes HTTP/1.0 whatever it asks for."""
        return self.version == "1.1" and self.headers.get("connection", "").lower() != "close"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A whole request; `path` is the one below the simulator's prefix."""

    head: Head
    path: str
    body: bytes
    client_has_gone: Callable[[], bool] = lambda: False

    @property
    def method(self) -> str:
        """The method as sent."""
        return self.head.method

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""
        return self.head.headers

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; of a repeated one the last."""
        return dict(parse_qsl(self.head.query, keep_blank_values=True))


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer; `headers` hold everything but content-length and connection."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    crashed: bool = False
    """Whether it stands for an unhandled exception (A1111 then sends no x-process-time)."""
    has_length: bool = True
    """Whether its length is stated; otherwise the connection's end is its end."""


def read_head(reader: BufferedReader) -> Head | None:
    """Read up to the empty line.

    :returns: None if the client has closed the connection between requests.
    :raises BadRequestError: it is not HTTP/1.x.
    """
    line = reader.readline(MAX_LINE_BYTES)
    if not line:
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError
    headers = _read_headers(reader)
    version = parts[2].removeprefix("HTTP/")
    if version == "1.1" and "host" not in headers:
        raise BadRequestError
    return Head(method=parts[0], target=parts[1], version=version, headers=headers)


def _read_headers(reader: BufferedReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := reader.readline(MAX_LINE_BYTES)) != b"\r\n":
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadRequestError
        headers[name.strip().lower()] = value.strip()
    return headers


def read_body(reader: BufferedReader, head: Head) -> bytes | None:
    """Read the body, whose length is stated.

    :returns: None if the client went away half-way.
    :raises BadRequestError: the length is not a number.
    """
    try:
        length = int(head.headers.get("content-length", "0"))
    except ValueError as error:
        raise BadRequestError from error
    body = reader.read(length)
    return body if len(body) == length else None


def answer_head(status: int, headers: Headers, version: str = "1.1") -> bytes:
    """An answer's first line and headers, including the empty line."""
    lines = [f"HTTP/{version} {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
