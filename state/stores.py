"""Makes the stores of a process, and joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from state.failover import FailoverStore
from state.holders import Holders
from state.sqlite import STATE_FILE, SqliteStore
from state.store import Store

if TYPE_CHECKING:
    import redis


@dataclass(frozen=True, kw_only=True)
class Stores:
    """
    :param host: for what is this host's own, such as which WebUIs it can reach.
    :param shared: for what all hosts share; without Redis it is ``host``.
    :param durable: for what all hosts share, and must outlive a restart.
    :param failover: whether Redis is up, and ``redis``, the connections to it; None without Redis.
    """

    host: SqliteStore
    shared: Store
    durable: Store
    holders: Holders
    failover: FailoverStore | None = None
    redis: redis.Redis | None = None

    def start(self) -> None:
        """To be called in the process that serves, after any fork."""
        if self.failover is not None:
            self.failover.start()

    def close(self) -> None:
        """This process holds nothing any more."""
        self.holders.close()
        if self.failover is not None:
            self.failover.close()
        self.host.close()


def open_stores(
    runtime_dir: Path,
    *,
    durable_dir: Path,
    durable: Sequence[str],
    redis_url: str | None,
    redis_prefix: str,
    on_redis_error: Callable[[], None],
) -> Stores:
    """
    :param durable_dir: outlives a restart; may be on a network file system.
    :param durable: what the keys begin with that are kept there.
    :raises OSError: ``runtime_dir`` cannot be used.
    """
    host = SqliteStore(runtime_dir / STATE_FILE)
    kept = SqliteStore(durable_dir / STATE_FILE, journal="TRUNCATE")
    if redis_url is None:
        return Stores(host=host, shared=host, durable=kept, holders=Holders(runtime_dir))
    from state.connection import open_redis
    from state.redis import RedisStore

    client = open_redis(redis_url)
    store = RedisStore(client, prefix=redis_prefix)
    failover = FailoverStore(host, store, durable=durable, kept=kept, on_error=on_redis_error)
    holders = Holders(runtime_dir, failover)
    return Stores(host=host, shared=failover, durable=failover, holders=holders, failover=failover, redis=client)
