"""The workers of one gunicorn count together, each gunicorn for itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from observability.multiprocess import free_slot
from tests.running import DEADLINE_S, ROOT
from tests.scraped import Scraped, scraped

HERE = Path(__file__).parent


@contextmanager
def master(runtime: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has a folder, and the folder."""
    command = [sys.executable, str(HERE / "multiprocess_master.py"), str(runtime)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={"PYTHONPATH": str(ROOT)}, **pipes) as started:
        try:
            assert started.stdout is not None
            yield started, Path(started.stdout.readline().strip())
        finally:
            started.kill()
            started.wait(DEADLINE_S)


def work(folder: Path, slot: int, images: int, *, largest_file: int = 0) -> Scraped:
    """Lets a worker store so many images, and returns what it shows at its end."""
    script = HERE / "multiprocess_worker.py"
    command = [sys.executable, str(script), str(folder), str(slot), str(images), str(largest_file)]
    variables = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=variables, capture_output=True, timeout=DEADLINE_S, check=True)
    return scraped(done.stdout.decode())


def stored(shown: Scraped) -> float | None:
    return shown.value("sd_api_images_stored_total")


def folders(runtime: Path) -> set[Path]:
    return {path for path in runtime.iterdir() if path.is_dir()}


def test_two_services_have_two_folders(tmp_path: Path) -> None:
    with master(tmp_path) as (_, first), master(tmp_path) as (_, second):
        assert folders(tmp_path) == {first, second}
        assert first != second


def test_the_folder_of_a_killed_master_goes_with_the_next_start(tmp_path: Path) -> None:
    with master(tmp_path) as (killed, left):
        work(left, 0, 1)
        killed.kill()
        killed.wait(DEADLINE_S)
    assert folders(tmp_path) == {left}
    with master(tmp_path) as (_, new):
        assert folders(tmp_path) == {new}
        assert list(new.glob("*.db")) == []


def test_the_lowest_free_slot() -> None:
    assert [free_slot(taken) for taken in (set(), {0}, {1}, {0, 1, 3})] == [0, 1, 0, 2]


def test_workers_count_together_and_their_counts_outlive_them(tmp_path: Path) -> None:
    assert [stored(work(tmp_path, slot, 2)) for slot in (0, 1)] == [2, 4]
    shown = work(tmp_path, 0, 3)
    assert stored(shown) == 7
    assert shown.value("sd_api_queue_wait_seconds_count", mode="txt2img") == 3
    assert "pid=" not in shown.text


def test_files_do_not_grow_with_the_number_of_workers_that_ended(tmp_path: Path) -> None:
    for ended in range(1, 5):
        assert stored(work(tmp_path, 0, 1)) == ended
    files = {path.name: path.stat() for path in tmp_path.iterdir()}
    assert files.keys() == {"counter_0.db", "histogram_0.db"}
    assert all(found.st_blocks * 512 >= found.st_size for found in files.values()), "the disk has given every block"


def test_without_room_on_the_disk_a_worker_counts_alone(tmp_path: Path) -> None:
    assert stored(work(tmp_path, 0, 2)) == 2
    assert stored(work(tmp_path, 1, 3, largest_file=1000)) == 3
    assert stored(work(tmp_path, 0, 1)) == 3


def test_a_folder_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "metrics-x"
    assert stored(work(folder, 0, 2)) == 2
    assert folder.parent.stat().st_mode & 0o077 == 0
