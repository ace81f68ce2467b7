"""The limits that this host's processes have learned, in files that they share: each is paid for with a picture."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sd_client.limits import Limits
from sd_client.models import Capabilities

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Learned:
    """``checkpoint``: the title of the model they are of."""

    checkpoint: str
    limits: Limits


_LEARNED = TypeAdapter(_Learned)


class LearnedLimits:
    """By WebUI id. They end with the WebUI's process, since the next one may have another model or other options."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int, int] | None, _Learned]] = {}

    def refresh(self, webuis: Iterable[str]) -> None:
        """Takes over what other processes have learned or forgotten."""
        for webui in webuis:
            try:
                self._read(webui)
            except FileNotFoundError:
                if webui in self._known and self._known[webui][0] is not None:  # else it could not be written
                    del self._known[webui]
            except (OSError, ValidationError):
                continue

    def applied(self, webui: str, capabilities: Capabilities) -> Capabilities:
        known = self._known.get(webui)
        if known is None or not capabilities.clamps or known[1].checkpoint != _checkpoint(capabilities):
            return capabilities
        return replace(capabilities, limits=known[1].limits)

    def learn(self, webui: str, capabilities: Capabilities, limits: Limits) -> None:
        """For all processes of this host; for this one even where it cannot be written."""
        learned = _Learned(checkpoint=_checkpoint(capabilities), limits=limits)
        self._known[webui] = None, learned
        temporary = self._folder / f"{webui}.{uuid.uuid4().hex}.tmp"
        try:
            temporary.write_bytes(_LEARNED.dump_json(learned))
            temporary.replace(self._file(webui))
        except OSError as error:
            log.error("what was learned of a webui cannot be written: %s", type(error).__name__)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def forget(self, webui: str) -> None:
        self._known.pop(webui, None)
        with contextlib.suppress(OSError):
            self._file(webui).unlink(missing_ok=True)

    def _read(self, webui: str) -> None:
        path = self._file(webui)
        found = os.stat(path)
        version = found.st_ino, found.st_mtime_ns, found.st_size
        if webui not in self._known or self._known[webui][0] != version:
            self._known[webui] = version, _LEARNED.validate_json(path.read_bytes())

    def _file(self, webui: str) -> Path:
        return self._folder / f"{webui}.limits.json"


def _checkpoint(capabilities: Capabilities) -> str:
    """Servers that clamp have one model."""
    return capabilities.checkpoints[0].title if capabilities.checkpoints else ""
