"""Whether the folder in which the workers of this host meet can be written."""

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
        self._told = ""

    def can_be_written(self) -> bool:
        """By a small write now. Makes the folder where it was cleared away; the log says what changed, and why."""
        problem = self.problem()
        if problem and problem != self._told:
            log.error("RUNTIME_DIR cannot be written: %s", problem)
        elif self._told and not problem:
            log.warning("RUNTIME_DIR can be written again")
        self._told = problem
        return not problem

    def problem(self) -> str:
        """What the system says of a small write now; "" for nothing."""
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
