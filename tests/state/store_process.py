"""A process that changes a store, for tests that run several at once or kill them.

    python -m tests.state.store_process ADDRESS count TIMES     adds 1 to "counter" so many times
    python -m tests.state.store_process ADDRESS hang            begins to change "counter" and never ends

ADDRESS is the path of an SQLite file or the URL of a Redis.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import redis

from state.redis import RedisStore
from state.sqlite import SqliteStore
from state.store import Store


def open_store(address: str) -> Store:
    return RedisStore(redis.Redis.from_url(address)) if "://" in address else SqliteStore(Path(address))


def one_more(before: bytes | None) -> bytes:
    return str(int(before or b"0") + 1).encode()


def hang(before: bytes | None) -> bytes:
    print("within the change", flush=True)
    time.sleep(3600)
    return b"never"


def main(address: str, what: str, times: str = "1") -> None:
    store = open_store(address)
    for _ in range(int(times)):
        store.update("counter", one_more if what == "count" else hang, ttl_s=600)


if __name__ == "__main__":
    main(*sys.argv[1:])
