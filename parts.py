"""Every part below the HTTP edge, made from the settings and joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

from config import WAITING_RETRIES, Config
from observability.metrics import Metrics
from sd_client.pool import WebUIPool
from services.catalog import Catalog
from services.generation import GenerationService
from services.health import HealthService
from services.idempotency import PREFIX, IdempotencyService
from services.installations import Installations
from services.retention import Retention, folder_name
from services.runtime_folder import RuntimeFolder
from services.tracking import RequestService
from state.connection import open_redis
from state.election import Election
from state.stores import Stores, open_stores
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
    background: tuple[WebUIPool | HealthService | Retention | Stores, ...]


def make_parts(config: Config, *, version: str, stores: Stores, metrics: Metrics) -> Parts:
    """
    Their threads are not started yet.

    :raises OSError: where ``RUNTIME_DIR`` cannot be used.
    :raises StorageConfigurationError: where ``STORAGE_URL`` or ``IMAGE_DIR`` cannot be used.
    """
    connection = open_redis(config.redis_url) if config.redis_url else None
    storage = open_storage(config.image_place, on_failure=metrics.storage_failed)
    failover = stores.failover
    pool = _pool(config, stores)
    catalog = _catalog(config, pool)
    requests = RequestService(pool=pool, store=stores.shared, host=stores.host, holders=stores.holders)
    health = HealthService(
        pool=pool,
        catalog=catalog,
        storage=storage,
        redis_is_up=None if failover is None else lambda: failover.up,
        check_runtime=RuntimeFolder(Path(config.runtime_dir)).can_be_written,
        more=_look_at_installations(config, connection),
        queue_limit=config.sd_queue_limit,
        version=version,
    )
    retention = _retention(config, stores, storage, metrics)
    return Parts(
        pool=pool,
        catalog=catalog,
        storage=storage,
        requests=requests,
        generation=_generation(config, pool, catalog, storage, requests, metrics),
        idempotency=_idempotency(config, stores, storage, requests),
        health=health,
        background=(stores, pool, health, retention),
    )


def make_stores(config: Config, metrics: Metrics) -> Stores:
    """:raises OSError: ``RUNTIME_DIR`` cannot be used."""
    runtime_dir = Path(config.runtime_dir)
    # A bucket has no room for them: they are kept in RUNTIME_DIR, and in Redis.
    beside = runtime_dir / f"idempotency-{folder_name(config.image_place)}"
    return open_stores(
        runtime_dir,
        durable_dir=beside if config.storage_url else Path(config.image_dir) / "idempotency",
        durable=PREFIX,
        redis_url=config.redis_url,
        redis_prefix=config.redis_prefix,
        on_redis_error=metrics.redis_failed("records"),
    )


def _pool(config: Config, stores: Stores) -> WebUIPool:
    return WebUIPool(
        config.sd_webui_url,
        slots=config.sd_webui_slots,
        queue_limit=config.sd_queue_limit,
        store=stores.shared,
        holders=stores.holders,
        folder=Path(config.runtime_dir),
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


def _idempotency(config: Config, stores: Stores, storage: ImageStorage, requests: RequestService) -> IdempotencyService:
    return IdempotencyService(
        store=stores.durable,
        holders=stores.holders,
        storage=storage,
        requests=requests,
        longest_wait_s=config.sd_queue_timeout + config.sd_timeout,
        most_waiting=WAITING_RETRIES,
    )


def _retention(config: Config, stores: Stores, storage: ImageStorage, metrics: Metrics) -> Retention:
    return Retention(
        storage=storage,
        election=Election(stores.host, stores.holders, f"retention:{folder_name(config.image_place)}"),
        ttl_s=config.image_ttl_s,
        max_bytes=config.image_max_bytes,
        metrics=metrics,
    )


def _look_at_installations(config: Config, connection: redis.Redis | None) -> Callable[[], None]:
    if connection is None:
        return lambda: None
    return Installations(connection, prefix=config.redis_prefix, webuis=config.sd_webui_url).look
