import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from observability.metrics import STORAGE_OPERATIONS
from storage import ImageExistsError, ImageNotFoundError, LocalStorage, StorageUnavailableError
from storage.local import SAVE_STEPS
from tests.storage.records import record_in

ID = UUID("0b9f1c2d-3e4f-4a5b-8c6d-7e8f90a1b2c3")


class StopError(Exception):
    pass


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_layout_and_modes(tmp_path: Path, files_under) -> None:
    before = os.umask(0)
    try:
        LocalStorage(tmp_path / "deep" / "root").save(ID, b"png", {"b": "ü", "a": 1})
    finally:
        os.umask(before)
    root = tmp_path / "deep" / "root"
    assert files_under(root) == [f"0b/9f/{ID}.json", f"0b/9f/{ID}.png"]
    assert (root / f"0b/9f/{ID}.json").read_bytes() == '{"a": 1, "b": "ü"}'.encode()
    assert {mode(path) for path in root.rglob("*") if path.is_file()} == {0o640}
    folders = [tmp_path / "deep", root, *(path for path in root.rglob("*") if path.is_dir())]
    assert {mode(path) for path in folders} == {0o750}


def test_the_record_is_whole_before_the_image_is_there(tmp_path: Path) -> None:
    seen: dict[str, tuple[bool, bool]] = {}

    def on_step(step: str) -> None:
        record, image = (tmp_path / f"0b/9f/{ID}{suffix}" for suffix in (".json", ".png"))
        whole = record.exists() and record.read_bytes() == b'{"n": 1}'
        seen[step] = (whole, image.exists())
        if not image.exists():
            for method in (other.open, other.delete):
                with pytest.raises(ImageNotFoundError):
                    method(ID)

    other = LocalStorage(tmp_path)
    LocalStorage(tmp_path, on_step=on_step).save(ID, b"png", {"n": 1})
    assert list(seen) == list(SAVE_STEPS)
    assert [step for step, (_, image) in seen.items() if image] == ["image_visible", "image_durable"]
    assert all(record for record, image in seen.values() if image)


@pytest.mark.parametrize("fsync", [True, False])
def test_fsync_changes_nothing_that_can_be_seen(tmp_path: Path, fsync: bool, files_under) -> None:
    storage = LocalStorage(tmp_path, fsync=fsync)
    storage.check()
    storage.save(ID, b"png", {"n": 1})
    assert record_in(tmp_path, ID) == {"n": 1}
    storage.delete(ID)
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("step", SAVE_STEPS)
def test_an_interrupted_save_takes_everything_back(tmp_path: Path, step: str, files_under) -> None:
    def on_step(reached: str) -> None:
        if reached == step:
            raise StopError

    storage = LocalStorage(tmp_path, on_step=on_step)
    with pytest.raises(StopError):
        storage.save(ID, b"png", {})
    assert files_under(tmp_path) == []
    LocalStorage(tmp_path).save(ID, b"png", {})


def test_an_image_without_record_is_not_overwritten(tmp_path: Path, files_under) -> None:
    (tmp_path / "0b/9f").mkdir(parents=True)
    image = tmp_path / f"0b/9f/{ID}.png"
    image.write_bytes(b"restored by hand")
    with pytest.raises(ImageExistsError):
        LocalStorage(tmp_path).save(ID, b"png", {})
    assert image.read_bytes() == b"restored by hand"
    assert files_under(tmp_path) == [f"0b/9f/{ID}.png"]


def test_check_leaves_nothing(tmp_path: Path, files_under) -> None:
    LocalStorage(tmp_path / "root").check()
    assert files_under(tmp_path) == []


# --- a folder that cannot be used


@pytest.mark.parametrize("place", ["", ".incoming", "0b", "0b/9f"])
def test_a_file_in_place_of_a_folder(tmp_path: Path, place: str) -> None:
    root = tmp_path / "root"
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_bytes(b"in the way")
    storage = LocalStorage(root)
    with pytest.raises(StorageUnavailableError) as error:
        storage.save(ID, b"png", {})
    assert error.value.reason == "missing"
    assert isinstance(error.value.__cause__, OSError)
    assert str(tmp_path) not in str(error.value)
    assert (root / place).read_bytes() == b"in the way"


@pytest.mark.parametrize("method", ["check", "sweep"])
def test_a_file_in_place_of_the_root(tmp_path: Path, method: str) -> None:
    root = tmp_path / "root"
    root.write_bytes(b"in the way")
    with pytest.raises(StorageUnavailableError) as error:
        getattr(LocalStorage(root), method)()
    assert error.value.reason == "missing"


@pytest.mark.parametrize("method", ["open", "delete"])
def test_an_outage_is_not_told_as_an_unknown_image(tmp_path: Path, method: str) -> None:
    root = tmp_path / "root"
    root.write_bytes(b"in the way")
    with pytest.raises(StorageUnavailableError) as error:
        getattr(LocalStorage(root), method)(ID)
    assert error.value.reason == "missing"


@pytest.mark.parametrize("method", ["check", "save"])
def test_a_dangling_link_in_place_of_the_root(tmp_path: Path, method: str) -> None:
    (tmp_path / "root").symlink_to(tmp_path / "unplugged")
    storage = LocalStorage(tmp_path / "root")
    with pytest.raises(StorageUnavailableError) as error:
        storage.check() if method == "check" else storage.save(ID, b"png", {})
    assert error.value.reason == "missing"
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("step", SAVE_STEPS)
def test_the_root_is_removed_during_a_save(tmp_path: Path, step: str) -> None:
    root = tmp_path / "root"

    def on_step(reached: str) -> None:
        if reached == step:
            shutil.rmtree(root)

    storage = LocalStorage(root, on_step=on_step)
    if step == SAVE_STEPS[-1]:
        storage.save(ID, b"png", {})
    else:
        with pytest.raises(StorageUnavailableError) as error:
            storage.save(ID, b"png", {})
        assert error.value.reason == "missing"
    with pytest.raises(ImageNotFoundError):
        storage.open(ID)


def test_the_root_is_removed_between_saves(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "root")
    storage.save(ID, b"png", {})
    shutil.rmtree(tmp_path / "root")
    assert storage.sweep() == 0
    with pytest.raises(ImageNotFoundError):
        storage.open(ID)
    storage.check()
    storage.save(ID, b"again", {})
    with storage.open(ID).file as file:
        assert file.read() == b"again"


# --- what the operating system refuses, for real


@pytest.mark.parametrize("max_bytes", [0, 1000, 4096, 10_000])
def test_a_file_that_may_not_grow(tmp_path: Path, max_bytes: int, run_process, files_under) -> None:
    status, out = run_process("save_with_file_size_limit", tmp_path, max_bytes, ID)
    assert (status, out.split()) == (0, ["io"])
    assert files_under(tmp_path) == []
    LocalStorage(tmp_path).save(ID, b"png", {})


def test_no_permission(tmp_path: Path, run_process) -> None:
    root = tmp_path / "root"
    root.mkdir(mode=0)
    assert run_process("use_as_nobody", root) == (0, "permission\npermission\n")


def test_a_full_disk(tmp_path: Path, run_process, own_mounts) -> None:
    status, out = run_process("fill_a_small_disk", tmp_path, prefix=own_mounts)
    assert status == 0
    assert out.split() == ["disk_full", "disk_full", "True", "disk_full", "True", "done", "True"]


def test_a_read_only_disk(tmp_path: Path, run_process, own_mounts) -> None:
    status, out = run_process("use_a_read_only_disk", tmp_path, prefix=own_mounts)
    assert status == 0
    assert out.split() == ["read_only", "read_only", "read_only", "True"]


# --- files that somebody else put there


def put_link(path: Path) -> None:
    target = path.parents[2] / "secret"
    target.write_bytes(b'{"secret": 1}')
    path.symlink_to(target)


@pytest.mark.parametrize("put", [put_link, os.mkfifo, os.mkdir], ids=["link", "pipe", "folder"])
def test_only_regular_files_are_read(tmp_path: Path, put) -> None:
    storage = LocalStorage(tmp_path)
    storage.save(ID, b"png", {})
    path = tmp_path / f"0b/9f/{ID}.png"
    path.unlink()
    put(path)
    with pytest.raises(StorageUnavailableError) as error:
        storage.open(ID)
    assert error.value.reason == "io"


# --- several processes


def test_four_processes_share_the_ids_out(tmp_path: Path, start_process) -> None:
    ids = [uuid4() for _ in range(40)]
    processes = {f"author{n}": start_process("save_all", tmp_path / "root", f"author{n}", *ids) for n in range(4)}
    won = {}
    for author, process in processes.items():
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        won[author] = json.loads(out)
    assert sorted(image_id for image_ids in won.values() for image_id in image_ids) == sorted(map(str, ids))
    storage = LocalStorage(tmp_path / "root")
    for author, image_ids in won.items():
        for image_id in map(UUID, image_ids):
            assert record_in(tmp_path / "root", image_id) == {"author": author}
            with storage.open(image_id).file as file:
                assert file.read() == f"{author} {image_id}\n".encode() * 3000


OPERATIONS: dict[str, Callable[[LocalStorage], object]] = {
    "save": lambda storage: storage.save(ID, b"png", {}),
    "open": lambda storage: storage.open(ID),
    "look": lambda storage: storage.look(ID),
    "delete": lambda storage: storage.delete(ID),
    "images": lambda storage: list(storage.images()),
    "sweep": lambda storage: storage.sweep(),
    "check": lambda storage: storage.check(),
}


@pytest.mark.parametrize("operation", STORAGE_OPERATIONS)
def test_each_failure_is_reported_by_its_operation(tmp_path: Path, operation: str) -> None:
    # Neither a folder nor missing: nothing at all can be done there.
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    failed: list[str] = []
    with pytest.raises(StorageUnavailableError):
        OPERATIONS[operation](LocalStorage(loop, on_failure=failed.append))
    assert failed == [operation]


def test_an_image_that_is_missing_or_there_already_is_no_failure(tmp_path: Path) -> None:
    failed: list[str] = []
    storage = LocalStorage(tmp_path, on_failure=failed.append)
    for operation in ("open", "look", "delete"):
        with pytest.raises(ImageNotFoundError):
            OPERATIONS[operation](storage)
    storage.save(ID, b"png", {})
    with pytest.raises(ImageExistsError):
        storage.save(ID, b"png", {})
    assert failed == []
