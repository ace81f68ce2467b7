"""The health report from what was last seen, without HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import UUID

import pytest

from sd_client.pool import WebUIPool
from services.catalog import Catalog
from services.health import HealthReport, HealthService
from simulator import Simulator
from storage import LocalStorage, OpenImage, StorageUnavailableError
from tests.pools import OwnPool
from tests.running import wait_until


class FullDisk:
    """A storage that takes nothing."""

    def save(self, image_id: UUID, png: bytes, record: Mapping[str, object]) -> None:
        raise StorageUnavailableError("disk_full")

    def open(self, image_id: UUID) -> OpenImage:
        raise StorageUnavailableError("disk_full")

    def delete(self, image_id: UUID) -> None:
        raise StorageUnavailableError("disk_full")

    def check(self) -> None:
        raise StorageUnavailableError("disk_full")


def catalog_of(pool: WebUIPool) -> Catalog:
    return Catalog(pool.view, default_model="sd-v1-5", aliases={}, default_sampler=None, default_scheduler=None)


@pytest.fixture
def pool(simulator: Simulator, tmp_path: Path) -> Iterator[WebUIPool]:
    made = OwnPool([simulator.url], slots=1, queue_limit=4, folder=tmp_path / "run", use_gpu=True, cpu_fallback=True)
    made.start()
    yield made
    made.close()


@pytest.fixture
def watch(pool: WebUIPool, tmp_path: Path) -> Iterator[Callable[..., HealthService]]:
    """Make a service that looks at its parts in the background until the test ends."""
    made: list[HealthService] = []

    def make(**changes: object) -> HealthService:
        own: dict[str, object] = {
            "pool": pool,
            "catalog": catalog_of(pool),
            "storage": LocalStorage(tmp_path / "images"),
            "redis_is_up": None,
        }
        made.append(HealthService(**{**own, "queue_limit": 4, "version": "1.2.3", **changes}))
        made[-1].start()
        return made[-1]

    yield make
    for service in made:
        service.close()


def wait_for(service: HealthService, says: Callable[[HealthReport], bool]) -> HealthReport:
    wait_until(lambda: says(service.report()), "the report says so")
    return service.report()


def test_healthy(watch: Callable[..., HealthService]) -> None:
    report = wait_for(watch(), lambda report: report.status == "healthy")
    assert report.serves
    assert (report.redis, report.storage, report.device, report.version) == ("off", "ok", "gpu", "1.2.3")


def test_a_full_disk_degrades(watch: Callable[..., HealthService]) -> None:
    report = wait_for(watch(storage=FullDisk()), lambda report: report.status == "degraded")
    assert (report.storage, report.serves) == ("failing", True)


@pytest.mark.parametrize(("answers", "redis", "status"), [(True, "up", "healthy"), (False, "down", "degraded")])
def test_redis(watch: Callable[..., HealthService], answers: bool, redis: str, status: str) -> None:
    wait_for(watch(redis_is_up=lambda: answers), lambda report: (report.redis, report.status) == (redis, status))


def test_uptime_is_by_its_own_clock(watch: Callable[..., HealthService]) -> None:
    times = iter((100.0, 142.5))
    assert watch(clock=lambda: next(times)).report().uptime_seconds == 42.5


def test_before_any_look(tmp_path: Path, simulator: Simulator) -> None:
    simulator.set_fault("hang-before", route="*")
    pool = OwnPool([simulator.url], slots=1, queue_limit=4, folder=tmp_path, use_gpu=True, cpu_fallback=True)
    pool.start()
    try:
        service = HealthService(
            pool=pool, catalog=catalog_of(pool), storage=FullDisk(), redis_is_up=None, queue_limit=4, version="1"
        )
        report = service.report()
        found = (report.status, report.device, report.webuis.total, report.webuis.available)
        assert found == ("unhealthy", "none", 1, 0)
        assert not report.serves
    finally:
        simulator.clear_faults()
        pool.close()
