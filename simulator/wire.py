"""One HTTP/1.x exchange as bytes: reading requests strictly enough, writing answers exactly as told.

The standard library's http.server decides too much by itself (header case, error pages, connection
reuse) for a stand-in that must look like uvicorn or like cpp-httplib, and break on purpose.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedReader
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_LINE = 1 << 20  # A WebUI behind uvicorn accepted a 70 kB header; anything far beyond is a mistake.


class BadRequestError(Exception):
    """The bytes are no HTTP request. The connection cannot be used any longer."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A request's first line and headers; header names are lower case."""

    method: str
    target: str
    version: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The decoded path without the query."""
        return unquote(self.raw_path)

    @property
    def raw_path(self) -> str:
        """The path as it was sent, without the query."""
        # Not urlsplit: it reads `//x/y` as a host.
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; of a repeated one the last."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants the connection kept; uvicorn closes HTTP/1.0 whatever it asks."""
        return self.version == "1.1" and self.headers.get("connection", "").lower() != "close"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A whole request."""

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


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer; `headers` hold everything but content-length and connection."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    crashed: bool = False
    """Whether it stands for an unhandled exception (the WebUI then sends no x-process-time)."""
    has_length: bool = True
    """Whether its length is stated; else its end is the connection's."""


def read_head(reader: BufferedReader) -> Head | None:
    """Read up to the empty line.

    :returns: None if the client has closed the connection in good order.
    :raises BadRequestError: what came is not HTTP/1.x.
    """
    line = reader.readline(MAX_LINE)
    while line in (b"\r\n", b"\n"):
        line = reader.readline(MAX_LINE)
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
    while True:
        line = reader.readline(MAX_LINE)
        if line in (b"\r\n", b"\n"):
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadRequestError
        headers[name.strip().lower()] = value.strip()


def read_body(reader: BufferedReader, head: Head, send: Callable[[bytes], None]) -> bytes | None:
    """Read the body that belongs to `head`, asking for it first if the client waits to be asked.

    :returns: None if the client went away half-way.
    :raises BadRequestError: a length or a chunk that cannot be read.
    """
    if head.headers.get("expect", "").lower() == "100-continue":
        send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if head.headers.get("transfer-encoding", "").lower() == "chunked":
        return _read_chunks(reader)
    try:
        length = int(head.headers.get("content-length", "0"))
    except ValueError as exc:
        raise BadRequestError from exc
    body = reader.read(length)
    return body if len(body) == length else None


def _read_chunks(reader: BufferedReader) -> bytes | None:
    chunks: list[bytes] = []
    while True:
        line = reader.readline(MAX_LINE)
        if not line:
            return None
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError as exc:
            raise BadRequestError from exc
        chunk = reader.read(size)
        reader.readline(MAX_LINE)
        if len(chunk) < size:
            return None
        if not size:
            return b"".join(chunks)
        chunks.append(chunk)


def answer_head(response: Response, version: str = "1.1") -> bytes:
    """The answer's first line and headers, up to and with the empty line."""
    reason = HTTPStatus(response.status).phrase
    lines = [f"HTTP/{version} {response.status} {reason}", *(f"{name}: {value}" for name, value in response.headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
