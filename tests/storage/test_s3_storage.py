"""What an S3 storage does beyond the contract of all storages: keys, order, leftovers, long listings."""

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from storage import (
    ImageExistsError,
    ImageNotFoundError,
    LocalStorage,
    S3Address,
    StorageConfigurationError,
    StorageUnavailableError,
    open_storage,
)
from storage.s3 import S3Storage
from tests.storage.records import record_in
from tests.storage.s3_servers import BUCKET, Interfered, S3Server, aws_variables, interfered, serving

ID = UUID("0b9f1c2d-3e4f-4a5b-8c6d-7e8f90a1b2c3")
HOUR = 3600.0


@pytest.fixture
def prefix() -> str:
    return uuid4().hex


@pytest.fixture
def storage(s3_server: S3Server, prefix: str) -> S3Storage:
    return S3Storage(S3Address.parse(s3_server.url(f"a/{prefix}")))


@pytest.fixture
def folder(s3_server: S3Server, prefix: str) -> Path:
    """Where the storage's objects are, each a file."""
    return s3_server.folder / "a" / prefix


def put(path: Path, data: bytes, *, age_s: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age_s,) * 2)


def keys(image_id: UUID) -> tuple[str, str]:
    stem = f"{image_id.hex[:2]}/{image_id.hex[2:4]}/{image_id}"
    return f"{stem}.json", f"{stem}.png"


def later(s3_server: S3Server, prefix: str, seconds: float = 2 * HOUR) -> S3Storage:
    """The same storage, as a process sees it some time from now."""
    return S3Storage(S3Address.parse(s3_server.url(f"a/{prefix}")), clock=lambda: time.time() + seconds)


def test_the_keys_are_those_of_the_folder(storage: S3Storage, folder: Path, files_under, tmp_path: Path) -> None:
    storage.save(ID, b"png", {"b": "ü", "a": 1})
    assert files_under(folder) == [f"0b/9f/{ID}.json", f"0b/9f/{ID}.png"]
    shutil.copytree(folder, tmp_path / "images")
    local = LocalStorage(tmp_path / "images")
    assert record_in(tmp_path / "images", ID) == {"b": "ü", "a": 1}
    with local.open(ID).file as file:
        assert file.read() == b"png"


def test_an_image_open_is_a_file_that_has_no_name(storage: S3Storage) -> None:
    storage.save(ID, b"x" * 3_000_000, {})
    with storage.open(ID).file as file:
        status = os.fstat(file.fileno())
    assert (status.st_size, status.st_nlink) == (3_000_000, 0)


def test_a_check_leaves_nothing(storage: S3Storage, folder: Path, files_under) -> None:
    storage.check()
    assert files_under(folder) == []


def test_a_prefix_is_no_beginning_of_a_name(s3_server: S3Server, prefix: str) -> None:
    short, long = (open_storage(s3_server.url(prefix + end)) for end in ("", "-2"))
    long.save(ID, b"png", {})
    assert list(short.images()) == []
    with pytest.raises(ImageNotFoundError):
        short.open(ID)


def test_more_images_than_a_page_of_the_listing_has(
    storage: S3Storage, folder: Path, s3_server: S3Server, prefix: str
) -> None:
    ids = {uuid4() for _ in range(520)}  # and as many records
    alone = sorted(ids)[::40]
    for image_id in ids:
        record, image = keys(image_id)
        put(folder / record, b"{}", age_s=3 * HOUR)
        if image_id not in alone:
            put(folder / image, b"png")
    images = [image.image_id for image in storage.images()]
    assert sorted(images) == sorted(ids - set(alone))
    assert storage.sweep() == len(alone) == 13
    assert storage.sweep() == 0
    assert sorted(image.image_id for image in storage.images()) == sorted(images)
    assert len(list(folder.rglob("*.json"))) == len(images)


def test_a_sweep_takes_old_leftovers_only(storage: S3Storage, folder: Path, files_under) -> None:
    old, young = 2 * HOUR, 0.5 * HOUR
    storage.save(ID, b"png", {})
    lone = [uuid4(), uuid4()]
    put(folder / keys(lone[0])[0], b"{}", age_s=old)
    put(folder / f".incoming/{lone[0]}.probe", b"", age_s=old)
    kept = {
        keys(lone[1])[0]: young,
        f".incoming/{lone[1]}.probe": young,
        f"elsewhere/{lone[0]}.json": old,
        f"{lone[0]}.probe": old,
        ".incoming/notes.probe": old,
        "notes.json": old,
    }
    for key, age_s in kept.items():
        put(folder / key, b"{}", age_s=age_s)
    assert storage.sweep() == 2
    assert files_under(folder) == sorted([*kept, *keys(ID)])


def test_an_image_without_record_is_not_overwritten(storage: S3Storage, folder: Path, files_under) -> None:
    put(folder / keys(ID)[1], b"restored")
    with pytest.raises(ImageExistsError):
        storage.save(ID, b"png", {})
    assert files_under(folder) == [keys(ID)[1]]
    with storage.open(ID).file as file:
        assert file.read() == b"restored"
    storage.delete(ID)
    assert files_under(folder) == []


def test_a_record_alone_is_no_image(storage: S3Storage, folder: Path) -> None:
    put(folder / keys(ID)[0], b"{}")
    for method in (storage.open, storage.delete):
        with pytest.raises(ImageNotFoundError):
            method(ID)
    assert list(storage.images()) == []


def test_several_processes_share_the_ids_out(s3_server: S3Server, prefix: str) -> None:
    stores = [open_storage(s3_server.url(prefix)) for _ in range(4)]
    ids = [uuid4() for _ in range(20)]

    def save_all(n: int) -> list[UUID]:
        won = []
        for image_id in ids:
            try:
                stores[n].save(image_id, f"{n}".encode() * 1000, {"n": n})
            except ImageExistsError:
                continue
            won.append(image_id)
        return won

    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(save_all, range(4)))
    assert sorted(image_id for share in won for image_id in share) == sorted(ids)
    for n, share in enumerate(won):
        for image_id in share:
            assert record_in(s3_server.folder / prefix, image_id) == {"n": n}
            with stores[0].open(image_id).file as file:
                assert file.read() == f"{n}".encode() * 1000


# --- what goes over the wire


def test_the_record_goes_first_and_nothing_is_overwritten(aws_credentials: None, tmp_path: Path) -> None:
    handler = interfered(tmp_path, lambda request, put: False)
    with serving(handler) as url:
        open_storage(url).save(ID, b"png", {})
    assert handler.seen == [
        ("PUT", f"{ID}.json", "*", "application/json"),
        ("PUT", f"{ID}.png", "*", "image/png"),
    ]


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError")])
def test_what_was_refused_is_tried_again(aws_credentials: None, tmp_path: Path, status: int, code: str) -> None:
    def refuse_the_first(request: Interfered, put: object) -> bool:
        first = [name for _, name, *_ in request.seen].count(request.seen[-1][1]) == 1
        if first:
            request.refuse(status, code)
        return first

    handler = interfered(tmp_path, refuse_the_first)
    with serving(handler) as url:
        storage = open_storage(url)
        storage.save(ID, b"png", {"n": 1})
    assert record_in(tmp_path / BUCKET, ID) == {"n": 1}
    assert len(handler.seen) == 4


def test_an_image_that_was_stored_but_answered_as_failed_is_saved(aws_credentials: None, tmp_path: Path) -> None:
    def fail_once(request: Interfered, put) -> bool:
        first = [name for _, name, *_ in request.seen] == [f"{ID}.json", f"{ID}.png"]
        if first:
            request.carry_out_and_fail(put)
        return first

    handler = interfered(tmp_path, fail_once)
    with serving(handler) as url:
        storage = open_storage(url)
        storage.save(ID, b"png", {"n": 1})
        assert [name for _, name, *_ in handler.seen] == [f"{ID}.json", f"{ID}.png", f"{ID}.png"]
    assert record_in(tmp_path / BUCKET, ID) == {"n": 1}


@pytest.mark.parametrize("carried_out", [False, True], ids=["refused", "carried out"])
def test_a_failed_save_keeps_no_image(aws_credentials: None, tmp_path: Path, carried_out: bool, files_under) -> None:
    def fail(request: Interfered, put) -> bool:
        if not request.path.endswith(".png"):
            return False
        if carried_out and len(request.seen) == 4:
            request.carry_out_and_fail(put)
        else:
            request.refuse(500, "InternalError")
        return True

    with serving(interfered(tmp_path, fail)) as url:
        storage = S3Storage(S3Address.parse(url), clock=lambda: time.time() + 2 * HOUR)
        with pytest.raises(StorageUnavailableError) as error:
            storage.save(ID, b"png", {})
        assert error.value.reason == "io"
        assert files_under(tmp_path) == [f"pictures/{keys(ID)[0]}"]
        with pytest.raises(ImageNotFoundError):
            storage.open(ID)
        assert storage.sweep() == 1
        assert files_under(tmp_path) == []


# --- what the environment says


def test_the_address_wins_over_the_variables(s3_server: S3Server, prefix: str) -> None:
    elsewhere = "http://127.0.0.1:1"
    with aws_variables(
        AWS_ACCESS_KEY_ID="tests",
        AWS_SECRET_ACCESS_KEY="tests",
        AWS_ENDPOINT_URL=elsewhere,
        AWS_ENDPOINT_URL_S3=elsewhere,
        AWS_BUCKET="another",
        AWS_CONDITIONAL_PUT="disabled",
        AWS_VIRTUAL_HOSTED_STYLE_REQUEST="true",
    ):
        storage = open_storage(s3_server.url(prefix))
        storage.save(ID, b"png", {})
        with pytest.raises(ImageExistsError):
            storage.save(ID, b"other", {})
    assert json.loads((s3_server.folder / prefix / keys(ID)[0]).read_bytes()) == {}


@pytest.mark.parametrize("name", ["AWS_SERVER_SIDE_ENCRYPTION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_variables_that_cannot_be_used(name: str) -> None:
    with (
        aws_variables(**{name: "s3cr3t"}),
        pytest.raises(StorageConfigurationError, match="AWS_ variables") as error,
    ):
        open_storage("s3://pictures")
    assert "s3cr3t" not in str(error.value)
