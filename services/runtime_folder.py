"""Whether ``RUNTIME_DIR`` can be written.

The store alone would not show it: its file has some spare room, which lasts for a while on a full disk.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from state.files import make_own_folder

log = logging.getLogger(__name__)

#: As much as the smallest file takes on most file systems.
_PROBE = b"\0" * 4096


class RuntimeFolder:
    """:param folder: ``RUNTIME_DIR``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._problem = ""

    def can_be_written(self) -> bool:
        """Tries a small write; makes the folder if it was deleted. The log says what has changed, and why."""
        problem = self.problem()
        if problem and problem != self._problem:
            log.error("RUNTIME_DIR cannot be written: %s", problem)
        elif self._problem and not problem:
            log.warning("RUNTIME_DIR can be written again")
        self._problem = problem
        return not problem

    def problem(self) -> str:
        """The system's reason why a small write fails now; "" if it succeeds."""
        probe = self._folder / f"{os.getpid()}.probe"
        try:
            make_own_folder(self._folder)
            try:
                probe.write_bytes(_PROBE)
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""
