"""Retention: what is too old or too much goes, the oldest first, and one process does it."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from observability.metrics import Metrics
from services.retention import Retention, expire
from state.election import Election
from state.holders import Holders
from state.sqlite import SqliteStore
from storage import ImageNotFoundError, LocalStorage
from storage.base import StoredImage
from tests.running import wait_until
from tests.scraped import scraped


def stored(root: Path, *, age_s: float, size: int = 1000) -> UUID:
    image_id = uuid4()
    LocalStorage(root, fsync=False).save(image_id, b"x" * size, {})
    path = next(root.glob(f"*/*/{image_id}.png"))
    moment = time.time() - age_s
    os.utime(path, (moment, moment))
    return image_id


def kept(root: Path) -> set[UUID]:
    return {image.image_id for image in LocalStorage(root).images()}


def removed(metrics: Metrics) -> dict[str, float | None]:
    shown = scraped(metrics.exposition("")[0].decode())
    return {reason: shown.value("sd_api_images_removed_total", reason=reason) for reason in ("age", "size")}


def test_each_removal_has_its_reason(tmp_path):
    for age_s in (7200, 300, 200, 100):
        stored(tmp_path, age_s=age_s)
    metrics = Metrics()
    expire(LocalStorage(tmp_path), now=time.time(), ttl_s=3600, max_bytes=1500, metrics=metrics)
    assert removed(metrics) == {"age": 1, "size": 2}


def test_old_images_go(tmp_path):
    old, young = stored(tmp_path, age_s=7200), stored(tmp_path, age_s=10)
    assert expire(LocalStorage(tmp_path), now=time.time(), ttl_s=3600, max_bytes=None, metrics=Metrics()) == 1
    assert kept(tmp_path) == {young}
    with pytest.raises(ImageNotFoundError):
        LocalStorage(tmp_path).open(old)


def test_the_oldest_go_until_there_is_room(tmp_path):
    images = [stored(tmp_path, age_s=age) for age in (400, 300, 200, 100)]
    assert expire(LocalStorage(tmp_path), now=time.time(), ttl_s=None, max_bytes=2500, metrics=Metrics()) == 2
    assert kept(tmp_path) == set(images[2:])


def test_nothing_goes_without_a_reason(tmp_path):
    images = {stored(tmp_path, age_s=age) for age in (400, 300)}
    assert expire(LocalStorage(tmp_path), now=time.time(), ttl_s=3600, max_bytes=2000, metrics=Metrics()) == 0
    assert kept(tmp_path) == images


class Listing:
    """A storage of so many images that nobody wants to have them all in hand: what :func:`expire` needs of it."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.deleted: list[int] = []

    def images(self) -> Iterator[StoredImage]:
        for number in range(self._count):
            modified = number * 7919 % self._count  # each a second old, in no order
            if modified not in self.deleted:
                yield StoredImage(image_id=UUID(int=number), size_bytes=1000, modified=float(modified))

    def delete(self, image_id: UUID) -> None:
        self.deleted.append(image_id.int * 7919 % self._count)


@pytest.mark.parametrize(("ttl_s", "max_bytes"), [(20_000 - 100, None), (None, 19_900_000), (20_000 - 40, 19_900_000)])
def test_a_long_listing_is_not_held(ttl_s, max_bytes):
    storage, metrics = Listing(20_000), Metrics()
    tracemalloc.start()
    try:
        assert expire(storage, now=20_000.0 - 0.5, ttl_s=ttl_s, max_bytes=max_bytes, metrics=metrics) == 100
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sorted(storage.deleted) == list(range(100)), "the oldest of all"
    assert most_bytes < 200_000, "a hundred of them; all are several megabytes"


def test_an_image_that_is_read_is_read_to_its_end(tmp_path):
    image_id = stored(tmp_path, age_s=7200)
    with LocalStorage(tmp_path).open(image_id).file as file:
        assert expire(LocalStorage(tmp_path), now=time.time(), ttl_s=3600, max_bytes=None, metrics=Metrics()) == 1
        assert file.read() == b"x" * 1000


def retention(folder, holders, **more):
    return Retention(
        storage=LocalStorage(folder / "images"),
        election=Election(SqliteStore(folder / "run" / "state.sqlite"), holders, "retention"),
        ttl_s=3600,
        max_bytes=None,
        metrics=Metrics(),
        interval_s=0.01,
        **more,
    )


def test_one_process_does_it_and_another_takes_over_once_that_has_died(tmp_path):
    image_id = stored(tmp_path / "images", age_s=7200)
    elected, other = Holders(tmp_path / "run"), Holders(tmp_path / "run")
    assert Election(SqliteStore(tmp_path / "run" / "state.sqlite"), elected, "retention").is_won()
    keeping = retention(tmp_path, other)
    keeping.start()
    time.sleep(0.1)  # some ten rounds
    assert kept(tmp_path / "images") == {image_id}
    elected.close()
    wait_until(lambda: not kept(tmp_path / "images"), "the other one does it")
    keeping.close()
    other.close()


def test_what_fails_is_tried_again(tmp_path):
    stored(tmp_path / "images", age_s=7200)
    holders = Holders(tmp_path / "run")
    (tmp_path / "run" / "state.sqlite").mkdir()  # no file: it cannot be opened
    keeping = retention(tmp_path, holders)
    keeping.start()
    time.sleep(0.1)
    (tmp_path / "run" / "state.sqlite").rmdir()
    wait_until(lambda: not kept(tmp_path / "images"), "the old image is removed")
    keeping.close()
    holders.close()
