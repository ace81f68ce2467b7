"""Each gunicorn's folder for metrics is its own, and goes with it."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from observability.metrics_folder import count_death, mark_dead, merge_dead, reading, reserve
from tests.running import DEADLINE_S, ROOT
from tests.scraped import Scraped, scraped


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


# --- Many deaths ----------------------------------------------------------------------------------------------------

REQUESTS = mmap_key("requests", "requests_total", ["route"], ["/x"], "Requests.")
BUCKETS = {
    bound: mmap_key("took_seconds", "took_seconds_bucket", ["le"], [bound], "Time.") for bound in ("0.5", "1.0", "+Inf")
}
SUM = mmap_key("took_seconds", "took_seconds_sum", [], [], "Time.")


def work(folder: Path, pid: int, seconds: list[float]) -> None:
    """A worker counts as prometheus_client does."""
    reserve(folder, pid)
    with closing(MmapedDict(str(folder / f"counter_{pid}.db"))) as counter:
        counter.write_value(REQUESTS, float(len(seconds)), 0.0)
    with closing(MmapedDict(str(folder / f"histogram_{pid}.db"))) as histogram:
        before = 0.0
        for bound, key in BUCKETS.items():
            histogram.write_value(key, float(sum(before < one <= float(bound) for one in seconds)), 0.0)
            before = float(bound)
        histogram.write_value(SUM, math.fsum(seconds), 0.0)


def scrape(folder: Path) -> Scraped:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    with reading(folder):
        return scraped(generate_latest(registry).decode())


def test_many_deaths_leave_one_file_of_each_kind_and_every_count(tmp_path: Path) -> None:
    steps = random.Random(7)
    seconds: list[float] = []
    for pid in range(100, 160):
        mine = [steps.randrange(2**21) / 2**20 for _ in range(10)]  # as they are observed: see observability.metrics
        seconds += mine
        work(tmp_path, pid, mine)
        before = scrape(tmp_path)
        mark_dead(tmp_path, pid)
        merge_dead(tmp_path, alive=())
        assert scrape(tmp_path).samples == before.samples, "to the last bit"
    assert {path.name for path in tmp_path.glob("*.db")} == {"counter_dead.db", "histogram_dead.db"}
    shown = scrape(tmp_path)
    assert shown.value("requests_total", route="/x") == shown.value("took_seconds_count") == 600
    assert shown.value("took_seconds_bucket", le="1.0") == sum(one <= 1 for one in seconds)
    assert shown.value("took_seconds_sum") == math.fsum(seconds)


def test_whoever_lives_keeps_its_files(tmp_path: Path) -> None:
    for pid in (7, 8, 9):
        work(tmp_path, pid, [0.25])
    mark_dead(tmp_path, 8)
    merge_dead(tmp_path, alive={7, 9})
    assert {path.name for path in tmp_path.glob("counter_*.db")} == {
        "counter_7.db",
        "counter_9.db",
        "counter_dead.db",
    }
    assert scrape(tmp_path).value("requests_total", route="/x") == 3


def test_nobody_who_reads_finds_a_count_twice_or_not_at_all(tmp_path: Path) -> None:
    work(tmp_path, 1, [0.25])
    found: list[float | None] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            found.append(scrape(tmp_path).value("requests_total", route="/x"))

    reader = threading.Thread(target=look)
    reader.start()
    for pid in range(2, 80):
        work(tmp_path, pid, [])
        merge_dead(tmp_path, alive=())
    done.set()
    reader.join(DEADLINE_S)
    assert set(found) == {1.0}


def test_what_is_put_off_while_somebody_reads_is_made_up_for(tmp_path: Path) -> None:
    work(tmp_path, 7, [0.25])
    with reading(tmp_path):
        merge_dead(tmp_path, alive=())
        assert (tmp_path / "counter_7.db").exists()
    work(tmp_path, 8, [0.25])
    merge_dead(tmp_path, alive=())
    assert [path.name for path in tmp_path.glob("counter_*.db")] == ["counter_dead.db"]
    assert scrape(tmp_path).value("requests_total", route="/x") == 2


def test_deaths_are_counted_beside_the_workers(tmp_path: Path) -> None:
    for died in range(1, 4):
        count_death(tmp_path)
        assert scrape(tmp_path).value("sd_api_worker_deaths_total") == died
        merge_dead(tmp_path, alive=())


def test_room_is_made_in_a_folder_that_was_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "metrics-x"
    reserve(folder, 7)
    assert folder.parent.stat().st_mode & 0o077 == 0
    assert {path.name for path in folder.iterdir()} == {"counter_7.db", "histogram_7.db", "gauge_livemax_7.db"}
