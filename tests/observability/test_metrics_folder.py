"""Each gunicorn's folder for metrics is its own, and goes with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from observability.metrics_folder import mark_dead, reserve
from tests.running import DEADLINE_S, ROOT


@contextmanager
def process(runtime: Path, *, largest_file: int = 0) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """One that has a folder, and the folder."""
    command = [sys.executable, str(Path(__file__).with_name("folder_process.py")), str(runtime), str(largest_file)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env={"PYTHONPATH": str(ROOT)}, **pipes) as started:
        try:
            assert started.stdout is not None
            yield started, Path(started.stdout.readline().strip())
        finally:
            started.kill()
            started.wait(DEADLINE_S)


def folders(runtime: Path) -> set[Path]:
    return {path for path in runtime.iterdir() if path.is_dir()}


def test_gunicorns_master_leaves_it_to_the_workers_how_they_count(tmp_path: Path) -> None:
    """A prometheus_client that is imported before the folder is named would count in each worker for itself."""
    look = "import runpy, sys; runpy.run_path(sys.argv[1]); print('prometheus_client' in sys.modules)"
    command = [sys.executable, "-c", look, str(ROOT / "gunicorn.conf.py")]
    variables = {"PYTHONPATH": str(ROOT), "RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stdout.strip() == "False"


def test_two_services_have_two_folders(tmp_path: Path) -> None:
    with process(tmp_path) as (_, first), process(tmp_path) as (_, second):
        assert folders(tmp_path) == {first, second}
        assert first != second


def test_the_folder_of_one_that_was_killed_goes_with_the_next_start(tmp_path: Path) -> None:
    with process(tmp_path) as (killed, left):
        (left / "counter_1.db").write_bytes(b"x")
        killed.kill()
        killed.wait(DEADLINE_S)
    assert folders(tmp_path) == {left}
    with process(tmp_path) as (_, new):
        assert folders(tmp_path) == {new}
        assert list(new.iterdir()) == []


def test_what_a_worker_will_count_has_its_blocks(tmp_path: Path) -> None:
    reserve(tmp_path, 7)
    files = {path.name: path.stat() for path in tmp_path.iterdir()}
    assert files.keys() == {"counter_7.db", "histogram_7.db", "gauge_livemax_7.db"}
    assert all(found.st_blocks > 0 for found in files.values()), "no holes"


def test_the_counts_of_an_earlier_worker_of_that_number_stay(tmp_path: Path) -> None:
    (tmp_path / "counter_7.db").write_bytes(b"counted")
    reserve(tmp_path, 7)
    assert (tmp_path / "counter_7.db").read_bytes().rstrip(b"\0") == b"counted"
    assert (tmp_path / "counter_7.db").stat().st_size == (tmp_path / "histogram_7.db").stat().st_size


def test_a_full_disk_is_told_and_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    with process(tmp_path, largest_file=1000) as (started, _):
        assert started.stdout is not None
        assert started.stdout.readline().strip() == "OSError []"


def test_a_dead_worker_keeps_its_counts_only(tmp_path: Path) -> None:
    for pid in (7, 8):
        reserve(tmp_path, pid)
    with (tmp_path / "counter_7.db").open("rb+") as file:
        file.write((100).to_bytes(4, sys.byteorder))  # as prometheus_client notes how much it has used
    mark_dead(tmp_path, 7)
    mark_dead(tmp_path, 9)  # it died before it had any
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"counter_7.db", "histogram_7.db", "counter_8.db", "histogram_8.db", "gauge_livemax_8.db"}
    assert (tmp_path / "counter_7.db").stat().st_size == 100
