import os
from pathlib import Path
from uuid import uuid4

import pytest

from storage import LocalStorage, StorageConfigurationError, StorageError, open_storage
from storage.s3 import S3Storage


@pytest.mark.parametrize(
    "address",
    [
        "{root}/images",
        "{root}/images/",
        "file://{root}/images",
        "file:{root}/images",
        "file://localhost{root}/images",
        "FILE://{root}/images",
        "file://{root}/im%61ges",
    ],
)
def test_local_addresses(tmp_path: Path, address: str) -> None:
    storage = open_storage(address.format(root=tmp_path))
    assert isinstance(storage, LocalStorage)
    assert list(tmp_path.iterdir()) == []
    storage.save(uuid4(), b"png", {})
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("name", ["with space", "50%", "ünï", "a:b", "c?d#e", "-"])
def test_a_plain_path_is_taken_to_the_letter(tmp_path: Path, name: str) -> None:
    open_storage(f"{tmp_path}/{name}").check()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bytes_that_are_no_utf8_in_a_file_url(tmp_path: Path) -> None:
    open_storage(f"file://{tmp_path}/%ff%3F").check()
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff?"]


def test_a_relative_path_is_fixed_when_the_storage_is_opened(tmp_path: Path) -> None:
    relative = os.path.relpath(tmp_path / "images")
    storage = open_storage(relative)
    before = os.getcwd()
    os.chdir("/")
    try:
        storage.check()
    finally:
        os.chdir(before)
    assert (tmp_path / "images").is_dir()


@pytest.mark.parametrize("address", ["s3://bucket", "S3://bucket/prefix/", "s3://bucket?region=eu-central-1"])
def test_a_bucket(address: str) -> None:
    assert isinstance(open_storage(address), S3Storage)


@pytest.mark.parametrize(
    "address",
    [
        "gs://bucket",
        "http://host/images",
        "redis://user:secret@host",
        "files:///images",
        "file://",
        "file:",
        "file:images",
        "file://images",
        "file://otherhost/images",
        "file:///images?mode=ro",
        "file:///images#1",
        "file:///images%00",
        "",
        " ",
        "\n",
        " /images",
        "/images\n",
        "/images\0",
        "~/images",
        "~other/images",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(StorageConfigurationError, match="accepted are a plain path and file:///absolute/path") as error:
        open_storage(address)
    assert isinstance(error.value, StorageError)
    assert "secret" not in str(error.value)
