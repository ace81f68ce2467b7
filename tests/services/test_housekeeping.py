"""Retention: what is too old or too much goes, the oldest first, and one process does it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from observability.metrics import Metrics
from sd_client.leases import try_lock
from services.housekeeping import Housekeeping, expire
from storage import ImageNotFoundError, LocalStorage
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
        LocalStorage(tmp_path).read_record(old)


def test_the_oldest_go_until_there_is_room(tmp_path):
    images = [stored(tmp_path, age_s=age) for age in (400, 300, 200, 100)]
    assert expire(LocalStorage(tmp_path), now=time.time(), ttl_s=None, max_bytes=2500, metrics=Metrics()) == 2
    assert kept(tmp_path) == set(images[2:])


def test_nothing_goes_without_a_reason(tmp_path):
    images = {stored(tmp_path, age_s=age) for age in (400, 300)}
    assert expire(LocalStorage(tmp_path), now=time.time(), ttl_s=3600, max_bytes=2000, metrics=Metrics()) == 0
    assert kept(tmp_path) == images


def test_an_image_that_is_read_is_read_to_its_end(tmp_path):
    image_id = stored(tmp_path, age_s=7200)
    with LocalStorage(tmp_path).open(image_id).file as file:
        assert expire(LocalStorage(tmp_path), now=time.time(), ttl_s=3600, max_bytes=None, metrics=Metrics()) == 1
        assert file.read() == b"x" * 1000


def test_one_process_does_it(tmp_path):
    image_id = stored(tmp_path / "images", age_s=7200)
    done: list[bool] = []
    metrics = Metrics()
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    housekeeping = Housekeeping(
        storage=LocalStorage(tmp_path / "images"),
        lock=tmp_path / "lock",
        ttl_s=3600,
        max_bytes=None,
        more=lambda: done.append(True),
        metrics=metrics,
        interval_s=0.01,
    )
    housekeeping.start()
    time.sleep(0.1)  # some ten rounds
    assert kept(tmp_path / "images") == {image_id}
    os.close(lock)
    wait_until(lambda: bool(done), "the other one is gone")
    housekeeping.close()
    assert kept(tmp_path / "images") == set()
    assert removed(metrics) == {"age": 1, "size": 0}
