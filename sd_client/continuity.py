"""Whether the schedule that is found is the one that was left."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import replace

from sd_client.schedule import Schedule


class Continuity:
    """
    A schedule that is made has an epoch of its own: whoever finds another one than before knows that what was known
    was lost (Redis was emptied, the file cleared away), and that the others have not all put their jobs back yet.

    :ivar lost_at: when that was seen last, by ``time.monotonic``; known before a change is applied.
    """

    def __init__(self) -> None:
        self.lost_at = -math.inf
        self._epoch = ""

    def found(self, stored: Schedule) -> Schedule:
        """The stored schedule, with an epoch."""
        if self._epoch and stored.epoch != self._epoch:
            self.lost_at = time.monotonic()
        return stored if stored.epoch else replace(stored, epoch=uuid.uuid4().hex)

    def left(self, after: Schedule) -> None:
        """What was found has been changed to this."""
        self._epoch = after.epoch
