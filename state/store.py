"""What every store can do. Keys are text, values are bytes; a key that has expired is not there.

Redis keeps each key under ``REDIS_PREFIX``. The first part of a key says whose it is: ``pool:schedule`` and
``pool:holder:`` are the queue's, ``request:`` belongs to followed requests, ``idempotency:`` to repeated ones,
``model-choice:`` and ``jobs:`` to callers whose programs keep no state, ``trial:`` and ``webui-starts`` to what was
found out about WebUIs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

#: Receives the stored value, None if there is none, and returns the one to store. It may be called more than once.
Change = Callable[[bytes | None], bytes]


class StoreError(Exception):
    """The store cannot be used now; its text says why. Whether a write took effect is unknown: repeating it is safe."""


class StoreFullError(StoreError):
    """There is no room for the value; what was stored before is still there."""


class Store(Protocol):
    """Safe for any number of threads and processes."""

    def get(self, key: str) -> bytes | None:
        """:raises StoreError:"""

    def head(self, key: str, size: int) -> bytes:
        """
        The first bytes of a value: whoever looks often at a large one need not read all of it. Empty if there is none.

        :raises StoreError:
        """

    def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """:raises StoreError:"""

    def update(self, key: str, change: Change, *, ttl_s: float) -> bytes:
        """
        Reads, changes and writes one value in one step that nobody else can come between.

        An unchanged value is not written, so that its time to live goes on. Whatever ``change`` raises is raised here,
        and nothing is written.

        :returns: the value after the change.
        :raises StoreError:
        """

    def delete(self, key: str) -> None:
        """:raises StoreError:"""

    def now(self) -> float:
        """Seconds since 1970 by the clock that all users of the store have in common."""
