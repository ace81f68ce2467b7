"""Whether the caller still waits for its answer."""

from __future__ import annotations

import socket
from collections.abc import Callable

from flask import Request

from api.errors import CallerGoneError


def still_there(request: Request) -> Callable[[], None]:
    """
    A check that raises :class:`CallerGoneError` once the caller closed, or half-closed, its connection.

    gunicorn hands its socket over in the WSGI environment; under a server that does not, nothing can be noticed.
    """
    connection: socket.socket | None = request.environ.get("gunicorn.socket")

    def check() -> None:
        if connection is None:
            return
        try:
            # Not SSLSocket's own recv, which takes no flags: under TLS too, an end of the connection is an end.
            gone = socket.socket.recv(connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return  # open and silent, as it should be
        except OSError:
            gone = True
        if gone:
            raise CallerGoneError

    return check
