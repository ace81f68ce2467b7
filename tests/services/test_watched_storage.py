"""What a storage does and fails at is counted, and goes on to whoever asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from observability.metrics import STORAGE_OPERATIONS, Metrics
from services.watched_storage import WatchedStorage
from storage import ImageExistsError, ImageNotFoundError, LocalStorage, StorageUnavailableError
from tests.scraped import Scraped, scraped

PNG = b"\x89PNG 123"


def shown(metrics: Metrics) -> Scraped:
    return scraped(metrics.exposition("")[0].decode())


def test_it_does_as_the_storage_does(tmp_path: Path) -> None:
    metrics = Metrics()
    storage, image_id = WatchedStorage(LocalStorage(tmp_path), metrics), uuid4()
    storage.check()
    storage.save(image_id, PNG, {"prompt": "a"})
    with storage.open(image_id).file as file:
        assert file.read() == PNG
    assert storage.look(image_id).size_bytes == len(PNG)
    assert storage.read_record(image_id) == {"prompt": "a"}
    assert [image.image_id for image in storage.images()] == [image_id]
    assert storage.sweep() == 0
    with pytest.raises(ImageExistsError):
        storage.save(image_id, PNG, {})
    storage.delete(image_id)
    with pytest.raises(ImageNotFoundError):
        storage.open(image_id)

    counted = shown(metrics)
    assert counted.value("sd_api_images_stored_total") == 1
    assert counted.value("sd_api_images_stored_bytes_total") == len(PNG)
    assert counted.value("sd_api_images_unstored_total") == 0
    assert counted.total("sd_api_storage_errors_total") == 0, "none of that is a fault"


DEEDS: dict[str, Callable[[WatchedStorage, UUID], object]] = {
    "save": lambda storage, image_id: storage.save(image_id, PNG, {}),
    "open": lambda storage, image_id: storage.open(image_id),
    "look": lambda storage, image_id: storage.look(image_id),
    "read_record": lambda storage, image_id: storage.read_record(image_id),
    "delete": lambda storage, image_id: storage.delete(image_id),
    "images": lambda storage, image_id: list(storage.images()),
    "sweep": lambda storage, image_id: storage.sweep(),
    "check": lambda storage, image_id: storage.check(),
}


@pytest.mark.parametrize("operation", STORAGE_OPERATIONS)
def test_each_fault_is_counted_by_what_was_asked(tmp_path: Path, operation: str) -> None:
    # Neither a folder nor missing: nothing at all can be done there.
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    metrics = Metrics()
    with pytest.raises(StorageUnavailableError):
        DEEDS[operation](WatchedStorage(LocalStorage(loop), metrics), uuid4())
    counted = shown(metrics)
    assert counted.value("sd_api_storage_errors_total", operation=operation) == 1
    assert counted.total("sd_api_storage_errors_total") == 1
    assert counted.value("sd_api_images_unstored_total") == (operation == "save")
