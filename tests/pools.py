"""A pool as one process of the service has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sd_client.pool import WebUIPool
from sd_client.schedule import Schedule
from sd_client.shared_schedule import ScheduleJson
from state.holders import Holders
from state.sqlite import STATE_FILE, SqliteStore
from state.store import Store
from state.stores import Stores


class OwnPool(WebUIPool):
    """
    With its own store and holder, which it closes.

    :param folder: the same for all processes of one host. :param store: None: this host's.
    """

    def __init__(self, urls: Sequence[str], *, folder: Path, store: Store | None = None, **settings: Any) -> None:
        host = SqliteStore(folder / STATE_FILE)
        store = store or host
        self._holder = Holders(folder, store)
        defaults = {"slots": 1, "queue_limit": 20, "use_gpu": True, "cpu_fallback": True}
        super().__init__(urls, store=store, host=host, holders=self._holder, **(defaults | settings))

    def close(self) -> None:
        super().close()
        self._holder.close()


def stored_schedule(store: Store) -> Schedule:
    """As a running service wrote it last; empty if there is none."""
    return ScheduleJson().load(store.get("pool:schedule"))


def pool_of(stores: Stores) -> WebUIPool:
    """One whose only WebUI is down."""
    return WebUIPool(
        ["http://127.0.0.1:1"],
        store=stores.shared,
        host=stores.host,
        holders=stores.holders,
        slots=1,
        queue_limit=1,
        use_gpu=False,
        cpu_fallback=True,
    )
