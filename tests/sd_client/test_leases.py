"""The schedule as a file, between real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sd_client.granting import grant
from sd_client.leases import SharedSchedule, try_lock
from sd_client.schedule import Job, Schedule, enter, leave

StartWorker = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[SharedSchedule]:
    schedule = SharedSchedule(tmp_path)
    yield schedule
    schedule.close()


def own_job(shared: SharedSchedule, ticket: str) -> Job:
    return Job(ticket=ticket, holder=shared.holder, webuis=("webui",), model="sd15", since=time.monotonic())


def granted(before: Schedule) -> Schedule:
    return grant(before, slots=1, patience_s=0, now=time.monotonic())


def test_what_one_process_enters_the_other_sees(
    shared: SharedSchedule, tmp_path: Path, start_worker: StartWorker
) -> None:
    start_worker("hold", tmp_path, "theirs")
    (job,) = shared.look().running
    assert (job.ticket, job.webui) == ("theirs", "webui")
    after = shared.update(lambda before: granted(enter(before, own_job(shared, "mine"))))
    assert [job.ticket for job in after.waiting] == ["mine"]
    assert after.busy("webui") == 1


def test_a_killed_holder_frees_its_place(shared: SharedSchedule, tmp_path: Path, start_worker: StartWorker) -> None:
    process = start_worker("hold", tmp_path, "theirs")
    shared.update(lambda before: granted(enter(before, own_job(shared, "mine"))))
    process.kill()
    process.wait()
    after = shared.update(granted)
    assert [job.ticket for job in after.running] == ["mine"]
    assert shared.look() == after


def test_a_killed_holder_leaves_the_queue(shared: SharedSchedule, tmp_path: Path, start_worker: StartWorker) -> None:
    shared.update(lambda before: granted(enter(before, own_job(shared, "mine"))))
    process = start_worker("hold", tmp_path, "theirs")
    assert [job.ticket for job in shared.look().waiting] == ["theirs"]
    process.kill()
    process.wait()
    after = shared.update(granted)
    assert (after.waiting, [job.ticket for job in after.running]) == ((), ["mine"])


def test_a_holder_that_ends_frees_its_place(shared: SharedSchedule, tmp_path: Path, start_worker: StartWorker) -> None:
    process = start_worker("hold", tmp_path, "theirs")
    process.communicate("end\n")
    assert shared.update(granted).running == ()


def test_what_killed_holders_left_is_cleared_away(tmp_path: Path, start_worker: StartWorker) -> None:
    process = start_worker("hold", tmp_path, "theirs")
    living = start_worker("hold", tmp_path, "others")
    process.kill()
    process.wait()
    mine = SharedSchedule(tmp_path)
    assert len(list((tmp_path / "holders").iterdir())) == 2
    assert [job.ticket for job in mine.update(granted).running] == ["others"]
    mine.close()
    living.communicate("end\n")
    assert list((tmp_path / "holders").iterdir()) == []


def test_concurrent_updates_of_four_processes_lose_nothing(
    shared: SharedSchedule, tmp_path: Path, start_worker: StartWorker
) -> None:
    processes = [start_worker("count", tmp_path, name, 25) for name in "abcd"]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    after = shared.look()
    assert len(after.loaded) == 100
    assert after.job_seconds == 100


def test_concurrent_updates_of_threads_lose_nothing(shared: SharedSchedule) -> None:
    def enter_one(number: int) -> None:
        shared.update(lambda before: enter(before, own_job(shared, str(number))))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(enter_one, range(80)))
    assert len(shared.look().waiting) == 80


FOREIGN = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[]",
    b"null",
    b'{"waiting": 5}',
    b'{"waiting": [{"ticket": "x"}]}',
    b'{"running": [{"ticket": "x", "holder": "y", "webuis": "z", "model": 5, "since": "now"}]}',
    b'{"loaded": null}',
    b'{"a later release": {"says": "something else"}}',
]


@pytest.mark.parametrize("content", FOREIGN)
def test_a_broken_or_foreign_file_is_an_empty_schedule(shared: SharedSchedule, tmp_path: Path, content: bytes) -> None:
    shared.update(lambda before: enter(before, own_job(shared, "mine")))
    (tmp_path / "schedule.json").write_bytes(content)
    assert shared.look() == Schedule()
    job = own_job(shared, "next")
    shared.update(lambda before: enter(before, job))
    assert shared.look().waiting == (job,)


def test_a_file_that_was_cleared_away_is_an_empty_schedule(shared: SharedSchedule, tmp_path: Path) -> None:
    shared.update(lambda before: enter(before, own_job(shared, "mine")))
    (tmp_path / "schedule.json").unlink()
    assert shared.look() == Schedule()


def test_a_change_that_raises_changes_nothing(shared: SharedSchedule) -> None:
    before = shared.update(lambda before: enter(before, own_job(shared, "mine")))

    def refuse(schedule: Schedule) -> Schedule:
        raise LookupError("full")

    with pytest.raises(LookupError):
        shared.update(refuse)
    assert shared.look() == before
    assert shared.update(lambda schedule: leave(schedule, "mine")) == replace(before, waiting=())


def test_what_is_written_is_read_again(shared: SharedSchedule, tmp_path: Path) -> None:
    job = own_job(shared, "mine")
    written = shared.update(
        lambda before: replace(granted(enter(before, job)), loaded={"webui": "sd15", "x": "y"}, job_seconds=2.5)
    )
    other = SharedSchedule(tmp_path)
    assert other.look() == written
    other.close()


def test_only_its_owner_can_read_who_runs_what(shared: SharedSchedule, tmp_path: Path) -> None:
    for path in (tmp_path / "holders" / shared.holder, tmp_path / "holders"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    assert try_lock(tmp_path / "missing", create=False) is None
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    assert try_lock(tmp_path / "lock") is None
    os.close(lock)
    again = try_lock(tmp_path / "lock")
    assert again is not None
    os.close(again)


def test_a_holder_whose_file_was_cleared_away_lives_on(tmp_path: Path) -> None:
    mine, other = SharedSchedule(tmp_path), SharedSchedule(tmp_path)
    mine.update(lambda state: enter(state, own_job(mine, "1")))
    (tmp_path / "holders" / mine.holder).unlink()
    mine.renew()
    assert [job.ticket for job in other.update(lambda state: state).waiting] == ["1"]
    for schedule in (mine, other):
        schedule.close()


def test_renewing_makes_a_holders_file_young(tmp_path: Path) -> None:
    mine = SharedSchedule(tmp_path)
    path = tmp_path / "holders" / mine.holder
    os.utime(path, (0, 0))
    mine.renew()
    assert path.stat().st_mtime > 0
    mine.close()


def test_a_lock_file_that_is_removed_locks_one_at_a_time(tmp_path: Path) -> None:
    """Whoever opened it before it was removed holds a lock that nobody else can meet."""
    path, inside, most = tmp_path / "lock", [0], [0]

    def lock_and_remove() -> None:
        for _ in range(3000):
            descriptor = try_lock(path)
            if descriptor is None:
                continue
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1
            path.unlink()
            os.close(descriptor)

    threads = [threading.Thread(target=lock_and_remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_folder_that_was_cleared_away_is_there_again_with_the_next_change(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    mine, other = SharedSchedule(folder), SharedSchedule(folder)
    mine.update(lambda state: enter(state, own_job(mine, "1")))
    shutil.rmtree(tmp_path / "deep")
    assert mine.look() == Schedule()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: mine.update(lambda state: enter(state, own_job(mine, f"{n}"))), range(8)))
    other.renew()
    other.update(lambda state: enter(state, own_job(other, "other")))
    assert len(mine.update(lambda state: state).waiting) == 9
    assert folder.stat().st_mode & 0o077 == 0
    for schedule in (mine, other):
        schedule.close()


def test_threads_that_renew_at_once_make_one_file(tmp_path: Path) -> None:
    mine = SharedSchedule(tmp_path)
    for _ in range(50):
        shutil.rmtree(tmp_path / "holders")
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: mine.renew(), range(4)))
        assert try_lock(tmp_path / "holders" / mine.holder, create=False) is None, "it is held"
    mine.close()
