"""The most memory that a worker has had."""

from __future__ import annotations

import re
from pathlib import Path

from tests.running import Service


class Peak:
    """Of a service's one worker, from now on; what it has now does not count."""

    def __init__(self, service: Service) -> None:
        master = service.process.pid
        (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        self._worker = Path(f"/proc/{worker}")
        (self._worker / "clear_refs").write_text("5")
        self._before = self._most()

    @property
    def grown_bytes(self) -> int:
        return self._most() - self._before

    def _most(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._worker / "status").read_text())
        assert found
        return 1024 * int(found[1])
