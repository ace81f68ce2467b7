"""Servers that speak S3: a real one that can go away and come back, and some that answer as they are told."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from localbucket import S3Handler

from tests.running import Child

SCRIPT = Path(__file__).with_name("s3_process.py")
BUCKET = "pictures"

Handler = type[BaseHTTPRequestHandler]


@contextmanager
def aws_variables(**variables: str) -> Iterator[None]:
    """These ``AWS_`` variables and no others: they are where credentials come from."""
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in before:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(before)


class S3Server(Child):
    """An S3 server as a process. What is in the bucket is below ``folder``, a file for each object."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._port = 0
        self.folder = root / BUCKET
        self.folder.mkdir(parents=True)

    def start(self) -> None:
        """At the same port as before."""
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(self._root), str(self._port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def url(self, prefix: str = "", bucket: str = BUCKET) -> str:
        return f"s3://{bucket}/{prefix}?{self.query}"

    @property
    def query(self) -> str:
        return f"endpoint=http://127.0.0.1:{self._port}&allow_http=true"


@contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """The address of a bucket on a server in this process."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"s3://{BUCKET}?endpoint=http://127.0.0.1:{server.server_address[1]}&allow_http=true"
        finally:
            server.shutdown()
            thread.join()


def always(status: int, body: bytes, *, length: int | None = None, until: threading.Event | None = None) -> Handler:
    """
    :param length: what the header says, where it is not the body's.
    :param until: the connection stays open after the body until this is set.
    """

    class Always(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            whole = len(body) if length is None else length
            start = int(re.sub(r"\D.*", "", self.headers.get("Range", "bytes=0-")[6:]))
            self.send_response(206 if start else status)
            self.send_header("Content-Length", str(whole - start))
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            self.send_header("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[start:])
            if until is not None:
                self.wfile.flush()
                until.wait(60)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Always


def s3_error(code: str) -> bytes:
    return f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>secret-bucket</Message></Error>'.encode()


class Interfered(S3Handler):
    """A real S3 server whose ``spoil`` may answer a PUT instead; it is given the handler and the real PUT."""

    protocol_version = "HTTP/1.0"
    spoil: Callable[[Interfered, Callable[[], None]], bool]
    seen: list[tuple[str, str, str | None, str | None]]

    def do_PUT(self) -> None:
        name = self.path.rpartition("/")[2]
        self.seen.append((self.command, name, self.headers["If-None-Match"], self.headers["Content-Type"]))
        if not type(self).spoil(self, super().do_PUT):
            super().do_PUT()

    def do_DELETE(self) -> None:
        self.seen.append((self.command, self.path.rpartition("/")[2], None, None))
        super().do_DELETE()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def refuse(self, status: int, code: str) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(status, code)

    def carry_out_and_fail(self, put: Callable[[], None]) -> None:
        answers, self.wfile = self.wfile, io.BytesIO()
        put()
        self.wfile = answers
        self.answer(500, "InternalError")

    def answer(self, status: int, code: str) -> None:
        body = s3_error(code)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def interfered(root: Path, spoil: Callable[[Interfered, Callable[[], None]], bool]) -> type[Interfered]:
    (root / BUCKET).mkdir(parents=True, exist_ok=True)
    return type("One", (Interfered,), {"data_root": root, "spoil": staticmethod(spoil), "seen": []})
