"""Several processes, callers of all kinds and faults at random: no job is painted twice, and no place stays taken."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import redis

from state.redis import RedisStore
from state.sqlite import STATE_FILE, SqliteStore
from state.store import Store, StoreError
from tests.pools import stored_schedule
from tests.running import DEADLINE_S, ROOT, RedisServer, wait_until
from tests.sd_client.servers import Answer, PaintingServer, Received

PROCESSES, WEBUIS, FAULTS = 3, 2, 8
#: Shorter than the time in which all processes put their jobs back.
PAUSE_S = 0.1


class SlowServer(PaintingServer):
    """Takes a moment for each job."""

    def _paint(self, received: Received) -> Answer:
        time.sleep(0.01)
        return super()._paint(received)


class Processes:
    """
    :param hosts: the folder of each process; processes with one folder are of one host.
    :param redis_url: "" if there is none.
    """

    def __init__(self, hosts: Sequence[Path], redis_url: str, servers: Sequence[PaintingServer]) -> None:
        self._redis_url = redis_url
        self._urls = [server.url for server in servers]
        self._first_seeds = iter(range(0, 10**9, 10**6))
        self.running = [self._started(host) for host in hosts]

    def _started(self, host: Path) -> tuple[Path, subprocess.Popen[str]]:
        command = [sys.executable, "-m", "tests.faults.pool_process", str(host), self._redis_url]
        command += [str(next(self._first_seeds)), *self._urls]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return host, process

    def kill_one(self, draw: random.Random) -> None:
        """And start another one in its place."""
        host, process = self.running.pop(draw.randrange(len(self.running)))
        process.kill()
        process.communicate()
        self.running.append(self._started(host))

    def pause_one(self, draw: random.Random) -> None:
        _, process = draw.choice(self.running)
        process.send_signal(signal.SIGSTOP)
        time.sleep(PAUSE_S)
        process.send_signal(signal.SIGCONT)

    def ends(self) -> dict[int, str]:
        """What became of each job of the processes that are left."""
        for _, process in self.running:
            _say(process)
        found: dict[int, str] = {}
        for _, process in self.running:
            assert process.stdout is not None
            found |= {int(seed): end for seed, end in json.loads(process.stdout.readline()).items()}
        return found

    def close(self) -> None:
        for _, process in self.running:
            with suppress(OSError):
                _say(process)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=DEADLINE_S)
            process.kill()


def _say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()


@pytest.fixture
def servers() -> Iterator[list[PaintingServer]]:
    with ExitStack() as stack:
        made: list[PaintingServer] = []
        for _ in range(WEBUIS):
            made.append(SlowServer())
            stack.callback(made[-1].close)
        yield made


def assert_all_is_well(processes: Processes, store: Store, servers: Sequence[PaintingServer]) -> None:
    ends = processes.ends()
    wait_until(lambda: not stored_schedule(store).waiting and not stored_schedule(store).running, "all places are free")
    painted = [received.json["seed"] for server in servers for received in server.jobs()]
    assert len(painted) == len(set(painted)), "a job was sent twice"
    assert {seed for seed, end in ends.items() if end == "painted"} <= set(painted)
    assert sum(end == "painted" for end in ends.values()) > FAULTS


def lose(store: Store) -> None:
    with suppress(StoreError):
        store.delete("pool:schedule")


@pytest.mark.parametrize("seed", range(2))
def test_processes_of_one_host(servers: list[PaintingServer], tmp_path: Path, seed: int) -> None:
    """Whatever is lost or held up, each WebUI has one job at a time; a killed process leaves its job to the WebUI."""
    draw = random.Random(seed)
    store = SqliteStore(tmp_path / STATE_FILE)
    processes = Processes([tmp_path] * PROCESSES, "", servers)
    try:
        play([lambda: processes.pause_one(draw), lambda: lose(store)], draw)
        assert [server.most_at_once for server in servers] == [1] * WEBUIS
        play([lambda: processes.kill_one(draw), lambda: lose(store)], draw)
        assert_all_is_well(processes, store, servers)
    finally:
        processes.close()
        store.close()


@pytest.mark.parametrize("seed", range(2))
def test_processes_of_two_hosts(
    servers: list[PaintingServer], redis_server: RedisServer, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    client = redis.Redis.from_url(redis_server.url)
    store = RedisStore(client, prefix="shop")
    hosts = [tmp_path / "one", tmp_path / "two"]
    processes = Processes([hosts[number % 2] for number in range(PROCESSES)], redis_server.url, servers)

    def restart() -> None:
        redis_server.stop()
        time.sleep(draw.choice([0.0, 1.0]))
        redis_server.start()

    def freeze() -> None:
        redis_server.freeze()
        time.sleep(draw.choice([0.1, 1.0]))
        redis_server.thaw()

    try:
        play([lambda: processes.pause_one(draw), redis_server.empty, lambda: lose(store)], draw)
        assert [server.most_at_once for server in servers] == [1] * WEBUIS
        play([lambda: processes.kill_one(draw), restart, freeze], draw)
        assert_all_is_well(processes, store, servers)
    finally:
        processes.close()
        client.close()


def play(faults: Sequence[Callable[[], None]], draw: random.Random) -> None:
    for _ in range(FAULTS // 2):
        time.sleep(draw.random() / 2)
        draw.choice(faults)()
