"""A process that is killed with SIGKILL leaves a whole image or none, and leftovers that a sweep removes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from storage import ImageExistsError, ImageNotFoundError, LocalStorage
from storage.local import DELETE_STEPS, LEFTOVER_AGE_S, SAVE_STEPS
from tests.storage.records import record_in

ROOT = Path(__file__).parents[2]
ID = UUID("0b9f1c2d-3e4f-4a5b-8c6d-7e8f90a1b2c3")
PICTURE = f"child {ID}\n".encode() * 3000
IMAGE, RECORD, INCOMING = f"0b/9f/{ID}.png", f"0b/9f/{ID}.json", f".incoming/{ID}.png"

LEFT_BY_A_SAVE = {
    "folders_ready": [],
    "record_created": [RECORD],
    "record_written": [RECORD],
    "incoming_created": [INCOMING, RECORD],
    "incoming_written": [INCOMING, RECORD],
    "image_visible": [RECORD, IMAGE],
    "image_durable": [RECORD, IMAGE],
}
LEFT_BY_A_DELETE = {"image_removed": [RECORD], "removal_durable": [RECORD], "record_removed": []}


def in_two_hours() -> float:
    return time.time() + 7200


def assert_whole_or_absent(folder: Path, image_id: UUID) -> bool:
    try:
        image = LocalStorage(folder).open(image_id)
    except ImageNotFoundError:
        return False
    with image.file as file:
        assert file.read() == f"child {image_id}\n".encode() * 3000
    assert record_in(folder, image_id) == {"author": "child"}
    return True


def test_every_step_is_in_the_tables() -> None:
    assert tuple(LEFT_BY_A_SAVE) == SAVE_STEPS
    assert tuple(LEFT_BY_A_DELETE) == DELETE_STEPS


@pytest.mark.parametrize(("step", "left"), LEFT_BY_A_SAVE.items(), ids=LEFT_BY_A_SAVE)
def test_killed_during_a_save(tmp_path: Path, step: str, left: list[str], run_process, files_under) -> None:
    status, _ = run_process("save_and_die", tmp_path, step, ID)
    assert status == -signal.SIGKILL
    assert files_under(tmp_path) == left
    storage = LocalStorage(tmp_path, clock=in_two_hours)
    is_whole = assert_whole_or_absent(tmp_path, ID)
    assert is_whole == (IMAGE in left)
    other = uuid4()
    storage.save(other, b"another", {})
    assert storage.sweep() == (0 if is_whole else len(left))
    kept = [f"{other.hex[:2]}/{other.hex[2:4]}/{other}{suffix}" for suffix in (".json", ".png")]
    assert files_under(tmp_path) == sorted(kept + (left if is_whole else []))
    if is_whole:
        with pytest.raises(ImageExistsError):
            storage.save(ID, b"again", {})
    else:
        storage.save(ID, b"again", {})


@pytest.mark.parametrize(("step", "left"), LEFT_BY_A_DELETE.items(), ids=LEFT_BY_A_DELETE)
def test_killed_during_a_delete(tmp_path: Path, step: str, left: list[str], run_process, files_under) -> None:
    LocalStorage(tmp_path).save(ID, PICTURE, {"author": "child"})
    status, _ = run_process("delete_and_die", tmp_path, step, ID)
    assert status == -signal.SIGKILL
    assert files_under(tmp_path) == left
    storage = LocalStorage(tmp_path, clock=in_two_hours)
    assert not assert_whole_or_absent(tmp_path, ID)
    assert storage.sweep() == len(left)
    assert files_under(tmp_path) == []


@pytest.mark.parametrize(
    ("max_bytes", "left"), [(1000, {RECORD: 1000}), (10_000, {INCOMING: 10_000, RECORD: 2031})], ids=["record", "image"]
)
def test_killed_in_the_middle_of_a_write(
    tmp_path: Path, max_bytes: int, left: dict[str, int], run_process, files_under
) -> None:
    status, _ = run_process("die_while_writing", tmp_path, max_bytes, ID)
    assert status == -signal.SIGXFSZ
    assert {name: (tmp_path / name).stat().st_size for name in files_under(tmp_path)} == left
    storage = LocalStorage(tmp_path, clock=in_two_hours)
    assert not assert_whole_or_absent(tmp_path, ID)
    assert storage.sweep() == len(left)
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("images_before", [1, 7, 30])
def test_killed_wherever_it_is(tmp_path: Path, images_before: int, start_process, files_under) -> None:
    process = start_process("save_until_killed", tmp_path)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("??/??/*.png"))) < images_before:
        assert process.poll() is None
        assert time.monotonic() < deadline
    process.kill()
    process.wait()
    storage = LocalStorage(tmp_path, clock=in_two_hours)
    assert storage.sweep() <= 2
    records = {name.removesuffix(".json") for name in files_under(tmp_path) if name.endswith(".json")}
    images = {name.removesuffix(".png") for name in files_under(tmp_path) if name.endswith(".png")}
    assert records == images
    assert len(images) >= images_before
    assert all(assert_whole_or_absent(tmp_path, UUID(name[6:])) for name in images)


# --- sweep


def make_leftovers(root: Path) -> list[str]:
    other = uuid4()
    names = [f"0b/9f/{ID}.json", f".incoming/{ID}.png", f".incoming/{other}.probe", f"00/00/{other}.json"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"half")
    return sorted(names)


def test_young_leftovers_stay(tmp_path: Path, files_under) -> None:
    names = make_leftovers(tmp_path)
    now = time.time()
    for name in names:
        os.utime(tmp_path / name, (now, now))
    assert LocalStorage(tmp_path, clock=lambda: now + LEFTOVER_AGE_S - 1).sweep() == 0
    assert LocalStorage(tmp_path, clock=lambda: now + 59).sweep(older_than_s=60) == 0
    assert files_under(tmp_path) == names
    assert LocalStorage(tmp_path, clock=lambda: now + LEFTOVER_AGE_S + 1).sweep() == len(names)
    assert files_under(tmp_path) == []


def test_only_leftovers_are_removed(tmp_path: Path, files_under) -> None:
    storage = LocalStorage(tmp_path, clock=in_two_hours)
    storage.save(ID, PICTURE, {"author": "child"})
    strangers = [
        "notes.json",
        f"{uuid4()}.json",
        f"0b/{uuid4()}.json",
        f"0B/9f/{uuid4()}.json",
        f"0b/9f/x/{uuid4()}.json",
        "0b/9f/index.json",
        f"0b/9f/{uuid4()}.txt",
        f"0b/9f/{uuid4()}.png",
        f"tmp/{uuid4()}.png",
        ".incoming/notes.png",
        f".incoming/{uuid4()}.txt",
        f".incoming/deeper/{uuid4()}.png",
    ]
    for name in strangers:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"of somebody else")
    elsewhere = tmp_path / "elsewhere"
    make_leftovers(elsewhere)
    (tmp_path / "aa").symlink_to(elsewhere / "0b")
    (tmp_path / ".incoming" / f"{uuid4()}.png").symlink_to(elsewhere / "0b")
    before = files_under(tmp_path)
    assert storage.sweep() == 0
    assert files_under(tmp_path) == before
    assert assert_whole_or_absent(tmp_path, ID)


def test_sweeps_at_the_same_time_share_the_work(tmp_path: Path) -> None:
    names = {name for _ in range(20) for name in make_leftovers(tmp_path)}
    storage = LocalStorage(tmp_path, clock=in_two_hours)
    with ThreadPoolExecutor(4) as threads:
        removed = list(threads.map(lambda _: storage.sweep(), range(4)))
    assert sum(removed) == len(names)


def test_sweep_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert LocalStorage(tmp_path / "root").sweep() == 0
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("step", SAVE_STEPS)
def test_a_sweep_at_any_step_of_a_save(tmp_path: Path, step: str) -> None:
    removed = []

    def on_step(reached: str) -> None:
        if reached == step:
            removed.append(LocalStorage(tmp_path).sweep())

    storage = LocalStorage(tmp_path, on_step=on_step)
    storage.save(ID, PICTURE, {"author": "child"})
    assert removed == [0]
    assert assert_whole_or_absent(tmp_path, ID)


@pytest.mark.parametrize("step", DELETE_STEPS)
def test_a_sweep_at_any_step_of_a_delete(tmp_path: Path, step: str, files_under) -> None:
    def on_step(reached: str) -> None:
        if reached == step:
            LocalStorage(tmp_path, clock=in_two_hours).sweep()

    storage = LocalStorage(tmp_path, on_step=on_step)
    storage.save(ID, PICTURE, {})
    storage.delete(ID)
    assert files_under(tmp_path) == []


def test_sweeping_while_others_write(tmp_path: Path, start_process, files_under) -> None:
    ids = [uuid4() for _ in range(60)]
    writers = [start_process("save_all", tmp_path, "child", *ids[n::2]) for n in range(2)]
    storage = LocalStorage(tmp_path)
    sweeps = 0
    while any(writer.poll() is None for writer in writers):
        assert storage.sweep() == 0
        sweeps += 1
    assert sweeps > 0
    assert [writer.returncode for writer in writers] == [0, 0]
    assert all(assert_whole_or_absent(tmp_path, image_id) for image_id in ids)
    assert len(files_under(tmp_path)) == 2 * len(ids)


def test_the_folder_disappears_during_a_sweep(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_leftovers(root)

    def clock() -> float:
        shutil.rmtree(root)
        return in_two_hours()

    assert LocalStorage(root, clock=clock).sweep() == 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed (apt-get install strace)")
def test_what_is_flushed_to_the_disk(tmp_path: Path) -> None:
    """Record, image, and their folder once the image has its name; and the parent of each new folder."""
    code = (
        "import sys, uuid; from storage.local import LocalStorage\n"
        "storage = LocalStorage(sys.argv[1])\n"
        "for _ in range(8): storage.save(uuid.uuid4(), b'image', {})"
    )
    report = tmp_path / "report"
    traced = ["strace", "-f", "-q", "-y", "-e", "trace=fsync,fdatasync,mkdir,mkdirat", "-o", str(report)]
    command = [*traced, sys.executable, "-B", "-c", code, str(tmp_path / "images")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if "ptrace" in run.stderr:
        pytest.skip("strace may not attach here")
    assert run.returncode == 0, run.stderr
    calls = [line.split(None, 1)[1] for line in report.read_text().splitlines() if line.endswith("= 0")]
    folders = [call for call in calls if call.startswith("mkdir")]
    flushes = [call for call in calls if call.startswith(("fsync", "fdatasync"))]
    assert len(flushes) == 3 * 8 + len(folders), flushes
