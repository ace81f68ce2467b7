"""Every part below the HTTP edge, made from the settings and joined."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

from config import WAITING_RETRIES, Config
from observability.metrics import Metrics
from sd_client.pool import WebUIPool
from services.catalog import Catalog
from services.failing_fast import FailingFastRedis
from services.generation import GenerationService
from services.health import HealthService, answers
from services.housekeeping import Housekeeping, folder_name
from services.idempotency import IdempotencyService
from services.installations import Installations
from services.ledger import FileLedger, Ledger
from services.requests import FileNotes, RequestService, shared_notes
from services.runtime_folder import RuntimeFolder
from services.shared_ledger import SharedLedger
from state.connection import open_redis
from storage import open_storage
from storage.base import ImageStorage


@dataclass(frozen=True, kw_only=True)
class Parts:
    """``background``: what has threads, in the order in which they start."""

    pool: WebUIPool
    catalog: Catalog
    storage: ImageStorage
    requests: RequestService
    generation: GenerationService
    idempotency: IdempotencyService
    health: HealthService
    background: tuple[WebUIPool | HealthService | Housekeeping | SharedLedger, ...]


def make_parts(config: Config, *, version: str, metrics: Metrics) -> Parts:
    """
    Their threads are not started yet.

    :raises OSError: where ``RUNTIME_DIR`` cannot be used.
    :raises StorageConfigurationError: where ``STORAGE_URL`` or ``IMAGE_DIR`` cannot be used.
    """
    connection = open_redis(config.redis_url) if config.redis_url else None
    spare = _spare_redis(config, metrics)
    storage = open_storage(config.image_place, on_failure=metrics.storage_failed)
    ledger = _ledger(config)
    shared_ledger = _shared_ledger(config, ledger, spare)
    pool = _pool(config, connection, metrics)
    catalog = _catalog(config, pool)
    notes = shared_notes(FileNotes(Path(config.runtime_dir) / "requests"), spare, redis_prefix=config.redis_prefix)
    requests = RequestService(pool=pool, notes=notes, now=pool.now)
    health = HealthService(
        pool=pool,
        catalog=catalog,
        storage=storage,
        ping_redis=_ping(config, connection, metrics),
        check_runtime=RuntimeFolder(Path(config.runtime_dir)).can_be_written,
        queue_limit=config.sd_queue_limit,
        version=version,
    )
    housekeeping = _housekeeping(config, storage, ledger, metrics)
    return Parts(
        pool=pool,
        catalog=catalog,
        storage=storage,
        requests=requests,
        generation=_generation(config, pool, catalog, storage, requests, metrics),
        idempotency=_idempotency(config, shared_ledger or ledger, storage, requests),
        health=health,
        background=(pool, health, housekeeping, *([shared_ledger] if shared_ledger else [])),
    )


def _spare_redis(config: Config, metrics: Metrics) -> FailingFastRedis | None:
    """For what a request can go on without: the pool sees by itself when Redis is away."""
    if config.redis_url is None:
        return None
    spare = open_redis(config.redis_url, FailingFastRedis)
    assert isinstance(spare, FailingFastRedis)
    spare.on_error = metrics.redis_failed("records")
    return spare


def _ledger(config: Config) -> FileLedger:
    # What a bucket cannot do is lock: its keys are kept on this host, and in Redis.
    if config.storage_url:
        return FileLedger(Path(config.runtime_dir) / f"idempotency-{folder_name(config.image_place)}")
    return FileLedger(Path(config.image_dir) / "idempotency")


def _shared_ledger(config: Config, on_disk: FileLedger, spare: FailingFastRedis | None) -> SharedLedger | None:
    if spare is None:
        return None
    host = f"{socket.gethostname()}-{folder_name(config.image_place)}"
    return SharedLedger(spare, prefix=f"{config.redis_prefix}:idempotency", on_disk=on_disk, host=host)


def _pool(config: Config, connection: redis.Redis | None, metrics: Metrics) -> WebUIPool:
    return WebUIPool(
        config.sd_webui_url,
        slots=config.sd_webui_slots,
        queue_limit=config.sd_queue_limit,
        folder=Path(config.runtime_dir),
        redis_client=connection,
        redis_prefix=config.redis_prefix,
        on_redis_error=metrics.redis_failed("schedule"),
        use_gpu=config.use_gpu,
        cpu_fallback=config.cpu_fallback,
        ca_bundle=config.sd_webui_ca_bundle,
        patience_s=config.sd_model_switch_patience,
    )


def _catalog(config: Config, pool: WebUIPool) -> Catalog:
    return Catalog(
        pool.ready_view,
        default_model=config.sd_model,
        aliases=config.sd_model_aliases,
        default_sampler=config.sd_sampler,
        default_scheduler=config.sd_scheduler,
    )


def _generation(
    config: Config,
    pool: WebUIPool,
    catalog: Catalog,
    storage: ImageStorage,
    requests: RequestService,
    metrics: Metrics,
) -> GenerationService:
    return GenerationService(
        pool=pool,
        catalog=catalog,
        storage=storage,
        requests=requests,
        metrics=metrics,
        max_pixels=config.max_pixels,
        queue_timeout_s=config.sd_queue_timeout,
        timeout_s=config.sd_timeout,
    )


def _idempotency(config: Config, ledger: Ledger, storage: ImageStorage, requests: RequestService) -> IdempotencyService:
    return IdempotencyService(
        ledger=ledger,
        storage=storage,
        requests=requests,
        longest_wait_s=config.sd_queue_timeout + config.sd_timeout,
        most_waiting=WAITING_RETRIES,
    )


def _housekeeping(config: Config, storage: ImageStorage, ledger: FileLedger, metrics: Metrics) -> Housekeeping:
    return Housekeeping(
        storage=storage,
        lock=Path(config.runtime_dir) / f"housekeeping-{folder_name(config.image_place)}.lock",
        ttl_s=config.image_ttl_s,
        max_bytes=config.image_max_bytes,
        more=ledger.sweep,
        metrics=metrics,
    )


def _ping(config: Config, connection: redis.Redis | None, metrics: Metrics) -> Callable[[], bool] | None:
    if connection is None:
        return None
    prefix = config.redis_prefix
    installations = Installations(connection, prefix=prefix, webuis=config.sd_webui_url)

    def ping() -> bool:
        up = answers(connection, prefix=prefix, on_error=metrics.redis_failed("health"))
        if up:
            installations.look()
        return up

    return ping
