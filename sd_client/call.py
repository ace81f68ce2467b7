"""A job's call to a WebUI, as it is seen from beside it: how far it is, and that nobody wants its pictures any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sd_client.connection import OneExchange
from sd_client.errors import JobCancelledError


def _nobody(_count: int, _of: int) -> None:
    """Nobody wants to know."""


class Call:
    """
    For one job, which may be several requests: a server that paints one picture a job is sent a batch one by one.

    :param genkey: what KoboldCpp is to know the job by.
    :param on_painted: receives how many pictures are there, and of how many, where they are painted one by one.
    """

    def __init__(self, *, genkey: str = "", on_painted: Callable[[int, int], None] = _nobody) -> None:
        self.genkey = genkey
        self.on_painted = on_painted
        self._mutex = threading.Lock()
        self._exchange: OneExchange | None = None
        self._ended = False
        #: The connection was cut off on purpose.
        self.hung_up = False
        #: The WebUI has answered the last request: what it does from now on is something else.
        self.answered = False

    def end(self, *, hang_up: bool) -> None:
        """No further request is sent. :param hang_up: the one under way is cut off."""
        with self._mutex:
            self._ended = True
            self.hung_up = hang_up
            exchange = self._exchange
        if hang_up and exchange is not None:
            exchange.hang_up()

    @contextmanager
    def over(self, exchange: OneExchange) -> Iterator[None]:
        """
        The request under way goes over this connection.

        :raises JobCancelledError: the call was ended before.
        """
        with self._mutex:
            if self._ended:
                raise JobCancelledError("the rest of the job is not wanted any more")
            self._exchange = exchange
            self.answered = False
        try:
            yield
        finally:
            with self._mutex:
                self._exchange = None
