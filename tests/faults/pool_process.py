"""One process of the service with callers of all kinds: run by test_queue_stress.py, until a line comes in."""

import functools
import json
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import redis

from sd_client.errors import JobCancelledError, PoolError
from state.failover import FailoverStore
from state.redis import RedisStore
from state.sqlite import STATE_FILE, SqliteStore
from state.store import Store
from tests.pools import OwnPool
from tests.running import Repeating
from tests.sd_client.jobs import job, job_request

CALLERS = 6


class CallerLeftError(Exception):
    """What the check of a caller raises that has hung up."""


def leave() -> NoReturn:
    raise CallerLeftError


def stay() -> None:
    pass


def open_store(folder: Path, redis_url: str) -> Store:
    host = SqliteStore(folder / STATE_FILE)
    if not redis_url:
        return host
    client = redis.Redis.from_url(redis_url, socket_timeout=0.25, socket_connect_timeout=0.25)
    store = FailoverStore(host, RedisStore(client, prefix="shop"))
    store.start()
    return store


class Callers(Repeating):
    """
    Jobs of all kinds from several threads, and what became of each by its seed.

    :param first_seed: so that no two processes have a job with the same seed.
    """

    def __init__(self, pool: OwnPool, first_seed: int) -> None:
        self.ends: dict[int, str] = {}
        self._pool = pool
        self._seeds = iter(range(first_seed, first_seed + 1_000_000))
        self._mutex = threading.Lock()
        super().__init__([functools.partial(self._call, first_seed + number) for number in range(CALLERS)])

    def _call(self, seed: int) -> None:
        draw = random.Random(seed)
        while not self.ended.is_set():
            with self._mutex:
                seed = next(self._seeds)
            self.ends[seed] = self._one(seed, draw)

    def _one(self, seed: int, draw: random.Random) -> str:
        check: Callable[[], None] = leave if draw.random() < 0.1 else stay
        if draw.random() < 0.1:
            threading.Timer(draw.random() / 10, self._pool.cancel, (str(seed),)).start()
        try:
            asked = job_request(
                job(seed=seed),
                task_id=str(seed),
                request=str(seed),
                since=self._pool.now(),
                wait_s=draw.choice([0.0, 0.2, 60.0]),
                run_s=60.0,
                check=check,
            )
            self._pool.run(asked)
        except (PoolError, JobCancelledError, CallerLeftError) as error:
            return type(error).__name__
        return "painted"


def main(folder: Path, redis_url: str, first_seed: int, urls: list[str]) -> None:
    pool = OwnPool(urls, folder=folder, store=open_store(folder, redis_url), queue_limit=8)
    pool.start()
    pool.ready_view()
    callers = Callers(pool, first_seed)
    callers.start()
    print("ready", flush=True)
    sys.stdin.readline()
    callers.end()
    print(json.dumps(callers.ends), flush=True)
    sys.stdin.readline()
    pool.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])
