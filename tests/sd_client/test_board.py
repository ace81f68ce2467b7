"""The schedule over hosts: a real Redis that dies, freezes and comes back, and holders that die."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from sd_client import schedule
from sd_client.board import Board, Change
from sd_client.granting import grant
from sd_client.leases import SharedSchedule
from sd_client.redis_schedule import RedisSchedule
from sd_client.schedule import Job
from tests.running import DEADLINE_S, RedisServer, wait_until


def job(ticket: str, holder: str, *, webui: str | None = None) -> Job:
    return Job(ticket=ticket, holder=holder, webuis=("w",), model="m", since=0.0, webui=webui)


def granted(state: schedule.Schedule) -> schedule.Schedule:
    return grant(state, slots=1, patience_s=0.0, now=1.0)


class Host:
    """One process of the service on a host of its own."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        client = redis.Redis.from_url(server.url, socket_timeout=0.25, socket_connect_timeout=0.25)
        local = SharedSchedule(folder)
        self.shared = RedisSchedule(client, prefix="shop:pool", holder=local.holder)
        self.board = Board(local, self.shared)

    def take(self, ticket: str) -> str | None:
        """The WebUI that a new job got at once."""
        found = self.board.enter(job(ticket, self.board.holder), granted).find(ticket)
        return found.webui if found else None

    def give_back(self, ticket: str) -> None:
        self.board.leave(ticket, lambda state: granted(schedule.leave(state, ticket)))


@pytest.fixture
def hosts(redis_server: RedisServer, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    pair = Host(redis_server, tmp_path / "a"), Host(redis_server, tmp_path / "b")
    yield pair
    for host in pair:
        host.board.close()


def test_two_hosts_share_one_place(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    assert one.take("first") == "w"
    assert other.take("second") is None
    one.give_back("first")
    wait_until(lambda: not other.board.look().waiting, "the change is seen")
    assert [running.ticket for running in other.board.look().running] == ["second"]


def test_a_holder_that_is_gone_loses_its_place(hosts: tuple[Host, Host]) -> None:
    one, other = hosts
    one.take("first")
    one.shared.close()  # what expiry does to the key of a process that died
    assert other.take("second") == "w"


def test_concurrent_changes_lose_nothing(hosts: tuple[Host, Host]) -> None:
    def enter_many(host: Host, name: str) -> None:
        for number in range(25):
            host.board.enter(job(f"{name}{number}", host.board.holder), lambda state: state)

    threads = [threading.Thread(target=enter_many, args=(host, f"{n}-")) for n, host in enumerate(hosts * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.02)  # a look may be some milliseconds old
    assert len(hosts[0].board.look().waiting) == 100


def test_a_redis_that_forgot_everything_is_told_again(hosts: tuple[Host, Host], redis_server: RedisServer) -> None:
    one, other = hosts
    one.take("first")
    redis_server.stop()
    redis_server.start()
    one.board.tick()
    one.board.update(lambda state: state)
    other.board.tick()
    assert other.take("second") is None


class CountedSchedule(SharedSchedule):
    updates = 0

    def update(self, change: Change) -> schedule.Schedule:
        self.updates += 1
        return super().update(change)


def test_those_who_wait_are_served_together_and_each_hears_of_its_own_failure(tmp_path: Path) -> None:
    local = CountedSchedule(tmp_path)
    board = Board(local, None)
    about_to_enter = threading.Barrier(21)

    def until_all_come(state: schedule.Schedule) -> schedule.Schedule:
        about_to_enter.wait(DEADLINE_S)
        return state

    def refuse(state: schedule.Schedule) -> schedule.Schedule:
        raise LookupError("full")

    def enter(number: int) -> None:
        about_to_enter.wait(DEADLINE_S)
        board.enter(job(f"job{number}", board.holder), refuse if number % 10 == 3 else granted)

    with ThreadPoolExecutor(21) as threads:
        first = threads.submit(board.update, until_all_come)
        others = [threads.submit(enter, number) for number in range(20)]
        assert first.result(DEADLINE_S) == schedule.Schedule(epoch=board.look().epoch)
        failed = [number for number, other in enumerate(others) if other.exception(DEADLINE_S)]
    assert failed == [3, 13]
    assert local.updates < 15
    found = board.look()
    assert {one.ticket for one in (*found.waiting, *found.running)} == {f"job{n}" for n in range(20) if n not in failed}
    assert len(found.running) == 1
    board.close()


def test_where_it_cannot_be_written_everybody_hears_of_it(tmp_path: Path) -> None:
    board = Board(SharedSchedule(tmp_path), None)
    board.update(lambda state: state)
    (tmp_path / "schedule.json.new").mkdir()
    for ticket in ("one", "two"):
        with pytest.raises(IsADirectoryError):
            board.enter(job(ticket, board.holder), granted)
    assert not board.has_jobs()
    (tmp_path / "schedule.json.new").rmdir()
    assert board.enter(job("three", board.holder), granted).running[0].ticket == "three"
    board.close()


def test_after_the_file_was_cleared_away_nobody_grants_before_all_have_put_their_jobs_back(tmp_path: Path) -> None:
    one, other, third = (Board(SharedSchedule(tmp_path), None) for _ in range(3))
    one.enter(job("first", one.holder), granted)
    other.enter(job("second", other.holder), granted)
    third.update(lambda state: state)
    (tmp_path / "schedule.json").unlink()
    # Each finds it out by itself, whoever makes the file anew.
    for board in (other, third):
        assert board.settled()
        board.update(lambda state: state)
        assert not board.settled()
    assert [waiting.ticket for waiting in third.look().waiting] == ["second"]
    assert [running.ticket for running in one.update(granted).running] == ["first"]
    wait_until(third.settled, "all have put their jobs back")
    for board in (one, other, third):
        board.close()


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_without_redis_the_host_goes_on(hosts: tuple[Host, Host], redis_server: RedisServer, how: str) -> None:
    one, _ = hosts
    one.take("first")
    redis_server.stop() if how == "stopped" else redis_server.freeze()
    one.board.update(lambda state: state)
    assert not one.board.settled()  # other workers of this host may have jobs that are not in its file yet
    assert one.board.look().find("first") == replace(one.board.look().running[0])
    if how == "frozen":
        redis_server.thaw()


def test_what_another_host_runs_is_left_to_it_for_a_while(
    hosts: tuple[Host, Host], redis_server: RedisServer, tmp_path: Path
) -> None:
    one, other = hosts
    assert one.take("first") == "w"
    assert other.take("second") is None
    redis_server.stop()
    wait_until(lambda: bool(other.board.update(lambda state: state)) and other.board.settled(), "it has settled")
    kept = other.board.update(granted)
    assert ([job.ticket for job in kept.waiting], [job.webui for job in kept.running]) == (["second"], ["w"])
    wait_until(lambda: not other.board.update(granted).waiting, "after a while it is taken over")
    assert [job.ticket for job in other.board.look().running] == ["second"]
    redis_server.start()
    for host in (other, one):
        host.board.tick()
        state = host.board.update(lambda state: state)
    assert {job.ticket for job in state.running} == {"first", "second"}


def test_what_another_process_of_the_host_runs_is_its_own_to_tell(redis_server: RedisServer, tmp_path: Path) -> None:
    one, other = Host(redis_server, tmp_path), Host(redis_server, tmp_path)
    assert one.take("first") == "w"
    assert other.take("second") is None
    redis_server.stop()
    assert [job.ticket for job in other.board.update(lambda state: state).running] == []
    one.board.update(lambda state: state)
    assert [job.ticket for job in other.board.look().running] == ["first"]
    for host in (one, other):
        host.board.close()


def test_redis_is_taken_up_again(hosts: tuple[Host, Host], redis_server: RedisServer) -> None:
    one, other = hosts
    one.take("first")
    redis_server.stop()
    one.board.update(lambda state: state)
    redis_server.start()
    one.board.tick()
    one.board.update(lambda state: state)
    assert one.shared.look().find("first") is not None
    other.board.tick()
    assert other.take("second") is None


def test_a_redis_that_is_away_at_the_start_costs_nothing(tmp_path: Path, redis_server: RedisServer) -> None:
    redis_server.stop()
    host = Host(redis_server, tmp_path / "c")
    assert host.take("first") == "w"
    assert host.board.settled()
    host.board.close()
