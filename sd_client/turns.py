"""Wakes the jobs that wait in this process when something has become of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sd_client.board import Board

#: How often a process looks whether it is a waiting job's turn: the GPU's idle time between jobs of two workers.
TURN_S = 0.01


class Turns:
    """One thread looks at the schedule for all of them."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._turns: dict[str, threading.Event] = {}
        self._stopped = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._announce, name="turns", daemon=True)

    def start(self) -> None:
        """To be called in the process that serves, after any fork."""
        self._thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def expected(self, ticket: str) -> Iterator[threading.Event]:
        """What is set when the job no longer waits, or has been cancelled; :meth:`look_out` must be called for it."""
        turn = self._turns[ticket] = threading.Event()
        try:
            yield turn
        finally:
            del self._turns[ticket]

    def look_out(self) -> None:
        """Begins to look, if nobody does yet: most jobs are granted at once, and need nobody to look for them."""
        self._wanted.set()

    def _announce(self) -> None:
        seen = None
        while not self._stopped.is_set():
            if not self._turns:
                self._wanted.wait()
                self._wanted.clear()
                continue
            try:
                state = self._board.look()
            except OSError:
                state = None  # whoever keeps the schedule tells
            if state is not None and state != seen:
                seen = state
                still = {job.ticket for job in state.waiting if not job.cancelled}
                for ticket, turn in list(self._turns.items()):
                    if ticket not in still:
                        turn.set()
            time.sleep(TURN_S)
