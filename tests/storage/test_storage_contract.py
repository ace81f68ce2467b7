"""What holds for every storage: the ``storage`` fixture makes one of each kind."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import pytest

from storage import ImageExistsError, ImageNotFoundError, ImageStorage, LocalStorage, StorageError
from tests.storage.conftest import RecordOf

PNG = b"\x89PNG\r\n\x1a\n" + Random(1).randbytes(5_000_000)
RECORD = {"prompt": "ein Fuchs, 狐 🦊", "seed": 4294967295, "size": [512, 768], "scale": 7.5, "extra": {"model": None}}


def read(storage: ImageStorage, image_id: UUID) -> bytes:
    with storage.open(image_id).file as file:
        return file.read()


def test_what_was_saved_is_what_is_opened(storage: ImageStorage, record_of: RecordOf) -> None:
    image_id = uuid4()
    storage.save(image_id, PNG, RECORD)
    image = storage.open(image_id)
    with image.file as file:
        assert file.tell() == 0
        assert file.fileno() >= 0
        assert file.read() == PNG
    assert image.size_bytes == len(PNG)
    assert record_of(image_id) == RECORD


def test_a_look_tells_what_opening_tells(storage: ImageStorage) -> None:
    image_id = uuid4()
    with pytest.raises(ImageNotFoundError):
        storage.look(image_id)
    storage.save(image_id, PNG, RECORD)
    facts, image = storage.look(image_id), storage.open(image_id)
    image.file.close()
    assert (facts.size_bytes, facts.etag, facts.modified) == (image.size_bytes, image.etag, image.modified)
    storage.delete(image_id)
    with pytest.raises(ImageNotFoundError):
        storage.look(image_id)


def test_etag_is_stable_and_distinct(storage: ImageStorage) -> None:
    ids = [uuid4(), uuid4()]
    for image_id in ids:
        storage.save(image_id, b"the same bytes", {})
    etags = []
    for image_id in [*ids, *ids]:
        image = storage.open(image_id)
        image.file.close()
        etags.append(image.etag)
    assert etags[:2] == etags[2:]
    assert etags[0] != etags[1]
    assert not any('"' in etag or etag.startswith("W/") for etag in etags)


def test_modified_is_the_moment_of_saving_in_utc(storage: ImageStorage) -> None:
    image_id = uuid4()
    storage.save(image_id, b"png", {})
    image = storage.open(image_id)
    image.file.close()
    assert image.modified.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - image.modified) < timedelta(hours=1)


def test_an_image_open_twice_has_two_positions(storage: ImageStorage) -> None:
    image_id = uuid4()
    storage.save(image_id, b"abcdef", {})
    with storage.open(image_id).file as first, storage.open(image_id).file as second:
        assert first.read(3) == b"abc"
        assert second.read() == b"abcdef"
        assert first.read() == b"def"


@pytest.mark.parametrize("method", ["open", "delete"])
def test_an_unknown_id_is_not_found(storage: ImageStorage, method: str) -> None:
    image_id = uuid4()
    with pytest.raises(ImageNotFoundError) as fresh:
        getattr(storage, method)(image_id)
    assert fresh.value.image_id == image_id
    storage.save(uuid4(), b"png", {})
    with pytest.raises(ImageNotFoundError):
        getattr(storage, method)(image_id)


def test_a_taken_id_keeps_what_it_has(storage: ImageStorage, record_of: RecordOf) -> None:
    image_id = uuid4()
    storage.save(image_id, b"first", {"n": 1})
    with pytest.raises(ImageExistsError) as error:
        storage.save(image_id, b"second", {"n": 2})
    assert error.value.image_id == image_id
    assert read(storage, image_id) == b"first"
    assert record_of(image_id) == {"n": 1}


def test_a_deleted_image_is_gone_with_its_record(storage: ImageStorage, record_of: RecordOf) -> None:
    kept, image_id = uuid4(), uuid4()
    storage.save(kept, b"kept", {"n": 1})
    storage.save(image_id, b"png", {"n": 2})
    storage.delete(image_id)
    for method in (storage.open, storage.delete):
        with pytest.raises(ImageNotFoundError):
            method(image_id)
    assert read(storage, kept) == b"kept"
    assert record_of(kept) == {"n": 1}


def test_an_open_image_outlives_its_deletion(storage: ImageStorage) -> None:
    image_id = uuid4()
    storage.save(image_id, PNG, {})
    with storage.open(image_id).file as file:
        storage.delete(image_id)
        assert file.read() == PNG


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({}, id="empty"),
        pytest.param({"prompt": "half an emoji \ud83e and a backslash \\"}, id="lone surrogate"),
        pytest.param({"prompt": '\\\udfff "quoted" \x00\x1f\u2028\n'}, id="controls"),
        pytest.param({"prompt": "🦊" * 10_000}, id="long"),
        pytest.param({"seed": -(2**53) - 1, "ok": True, "none": None, "list": [[], {}]}, id="types"),
    ],
)
def test_records_come_back_unchanged(storage: ImageStorage, record_of: RecordOf, record: dict[str, object]) -> None:
    image_id = uuid4()
    storage.save(image_id, b"png", record)
    assert record_of(image_id) == record


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({"value": b"bytes"}, TypeError),
        ({"value": {1, 2}}, TypeError),
        ({"value": float("nan")}, ValueError),
        ({"value": float("inf")}, ValueError),
    ],
)
def test_a_record_that_is_not_json_saves_nothing(
    storage: ImageStorage, record: dict[str, object], error: type[Exception]
) -> None:
    image_id = uuid4()
    with pytest.raises(error):
        storage.save(image_id, b"png", record)
    with pytest.raises(ImageNotFoundError):
        storage.open(image_id)
    storage.save(image_id, b"png", {})


@pytest.mark.parametrize("text", ["../../etc/passwd", "0b9f9f9f-0000-4000-8000-000000000000"])
@pytest.mark.parametrize("method", ["open", "delete"])
def test_text_is_not_an_id(storage: ImageStorage, method: str, text: str) -> None:
    with pytest.raises(AttributeError):
        getattr(storage, method)(text)


def test_check_passes_where_a_save_passes(storage: ImageStorage) -> None:
    storage.check()
    image_id = uuid4()
    storage.save(image_id, b"png", {})
    storage.check()
    assert read(storage, image_id) == b"png"


def test_all_images_are_listed(storage: ImageStorage) -> None:
    assert list(storage.images()) == []
    sizes = {uuid4(): size for size in (1, 10, 100)}
    for image_id, size in sizes.items():
        storage.save(image_id, b"x" * size, RECORD)
    removed = uuid4()
    storage.save(removed, b"png", {})
    storage.delete(removed)
    images = list(storage.images())
    assert {image.image_id: image.size_bytes for image in images} == sizes
    assert all(abs(datetime.now(UTC).timestamp() - image.modified) < 3600 for image in images)
    assert storage.sweep() == 0
    assert len(list(storage.images())) == len(sizes)


def test_many_threads_save_open_and_delete(storage: ImageStorage, record_of: RecordOf) -> None:
    def use(n: int) -> bool:
        image_id, png = uuid4(), str(n).encode() * 10_000
        storage.save(image_id, png, {"n": n})
        whole = read(storage, image_id) == png and record_of(image_id) == {"n": n}
        storage.delete(image_id)
        return whole

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(use, range(80)))


def test_one_thread_wins_an_id(storage: ImageStorage, record_of: RecordOf) -> None:
    image_id = uuid4()

    def save(n: int) -> int | None:
        try:
            storage.save(image_id, str(n).encode() * 10_000, {"n": n})
        except ImageExistsError:
            return None
        return n

    with ThreadPoolExecutor(8) as threads:
        winners = [n for n in threads.map(save, range(8)) if n is not None]
    assert len(winners) == 1
    assert record_of(image_id) == {"n": winners[0]}
    assert read(storage, image_id) == str(winners[0]).encode() * 10_000


def test_several_threads_delete_an_image(storage: ImageStorage) -> None:
    image_id = uuid4()
    storage.save(image_id, b"png", {})

    def delete(_: int) -> bool:
        try:
            storage.delete(image_id)
        except ImageNotFoundError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert 1 <= sum(threads.map(delete, range(8))) <= (1 if isinstance(storage, LocalStorage) else 8)
    with pytest.raises(ImageNotFoundError):
        storage.open(image_id)


def test_readers_see_a_whole_image_or_none(storage: ImageStorage, record_of: RecordOf) -> None:
    image_id = uuid4()

    def look(_: int) -> bytes | None:
        try:
            png = read(storage, image_id)
        except ImageNotFoundError:
            return None
        return png if record_of(image_id) == RECORD else b"another record"

    with ThreadPoolExecutor(4) as threads:
        looks = [threads.submit(look, n) for n in range(100)]
        storage.save(image_id, PNG, RECORD)
        looks += [threads.submit(look, n) for n in range(20)]
        seen = [each.result() for each in looks]
    assert {png for png in seen if png is not None} == {PNG}


def test_every_error_is_a_storage_error(storage: ImageStorage) -> None:
    with pytest.raises(StorageError):
        storage.open(uuid4())
