"""The service's table of contents: every part is made and joined here, and nowhere else.

Started by gunicorn (``gunicorn -w 2 -b 0.0.0.0:5002 stable_diffusion_api:app``) or by
``python stable_diffusion_api.py``, which starts the same gunicorn. Importing this module builds nothing.
"""

from __future__ import annotations

import logging.config
import os
import socket
import sys
from pathlib import Path
from typing import Any

from flask import Flask, g, has_request_context
from werkzeug.middleware.proxy_fix import ProxyFix

from api import auth, cors, errors, hooks, rate_limit
from api.docs import DocsRoutes
from api.generation import GenerationRoutes
from api.health import HealthRoutes
from api.images import ImageRoutes
from api.jobs import RequestRoutes
from api.metrics import MetricsRoutes
from api.models import ModelRoutes
from api.openapi import Offer
from api.schemas import Bounds
from api.studio import StudioRoutes
from api.transfers import Downloads, Uploads
from config import BODIES_AT_A_TIME, DOWNLOADS_AT_A_TIME, WAITING_RETRIES, Config, ConfigError
from observability.logs import log_config
from observability.metrics import Metrics
from sd_client.pool import WebUIPool
from services.catalog import Catalog
from services.copies import Copies
from services.failing_fast import FailingFastRedis
from services.generation import GenerationService
from services.health import HealthService, answers
from services.housekeeping import Housekeeping, folder_name
from services.idempotency import IdempotencyService
from services.ledger import FileLedger
from services.redis_connection import open_redis
from services.requests import FileNotes, RequestService, shared_notes
from services.shared_ledger import SharedLedger
from services.state import service_state
from services.watched_storage import WatchedStorage
from storage import StorageConfigurationError, open_storage

VERSION = "0.1.0"
PREFIX = "/api/v1/ai/generation"


def create_app(config: Config) -> Flask:
    """
    The whole service, its background threads started: to be called in the process that serves, after any fork.

    ``app.extensions["drain"]`` stops taking jobs, ``"idle"`` tells whether any is left, ``"close"`` ends the threads.

    :raises OSError: where ``RUNTIME_DIR`` cannot be used.
    :raises StorageConfigurationError: where ``STORAGE_URL`` or ``IMAGE_DIR`` cannot be used.
    """
    logging.config.dictConfig(
        log_config(level=config.log_level, form=config.log_format, request_id=_current_request_id)
    )
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # What has // in it is nothing here, and no redirect to whatever host the caller named.
    app.url_map.merge_slashes = False
    # A form may carry its picture as base64 text: its fields may be as large as the body.
    app.config.update(
        MAX_CONTENT_LENGTH=config.max_body_bytes, MAX_FORM_MEMORY_SIZE=config.max_body_bytes, MAX_FORM_PARTS=100
    )
    metrics = Metrics(redis=config.redis_url is not None)
    hooks.register(app, metrics)
    errors.register(app)
    auth.identify(app, keys=config.api_keys)
    limits = rate_limit.create(
        app,
        everything=config.rate_limit_global,
        generation=config.rate_limit_generation,
        redis_client=open_redis(config.redis_url) if config.redis_url else None,
        metrics=metrics,
    )
    if config.api_keys:
        auth.require(app)
    if config.cors_origins:
        cors.allow(app, config.cors_origins)
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    _add_routes(app, config, limits, metrics)
    return app


def _add_routes(app: Flask, config: Config, limits: rate_limit.RateLimits, metrics: Metrics) -> None:
    runtime = Path(config.runtime_dir)
    connection = open_redis(config.redis_url) if config.redis_url else None
    # For what a request can go on without: the pool sees by itself when Redis is away.
    spare = open_redis(config.redis_url, FailingFastRedis) if config.redis_url else None
    if isinstance(spare, FailingFastRedis):
        spare.on_error = metrics.redis_failed("records")
    ttl_s = None if config.image_ttl_hours is None else config.image_ttl_hours * 3600
    place = config.storage_url or config.image_dir
    storage = WatchedStorage(open_storage(place), metrics)
    # What a bucket cannot do is lock: its keys are kept on this host, and in Redis.
    ledger = FileLedger(
        runtime / f"idempotency-{folder_name(place)}" if config.storage_url else Path(place) / "idempotency"
    )
    host = f"{socket.gethostname()}-{folder_name(place)}"
    shared_ledger = SharedLedger(spare, prefix="sd-api:idempotency", on_disk=ledger, host=host) if spare else None
    pool = WebUIPool(
        config.sd_webui_url,
        slots=config.sd_webui_slots,
        queue_limit=config.sd_queue_limit,
        folder=runtime,
        redis_client=connection,
        on_redis_error=metrics.redis_failed("schedule"),
        use_gpu=config.use_gpu,
        cpu_fallback=config.cpu_fallback,
        patience_s=config.sd_model_switch_patience,
    )
    catalog = Catalog(
        pool.ready_view,
        default_model=config.sd_model,
        aliases=config.sd_model_aliases,
        default_sampler=config.sd_sampler,
        default_scheduler=config.sd_scheduler,
    )
    requests = RequestService(pool=pool, notes=shared_notes(FileNotes(runtime / "requests"), spare))
    generation = GenerationService(
        pool=pool,
        catalog=catalog,
        storage=storage,
        requests=requests,
        max_pixels=config.max_pixels,
        queue_timeout_s=config.sd_queue_timeout,
        timeout_s=config.sd_timeout,
    )
    idempotency = IdempotencyService(
        ledger=shared_ledger or ledger,
        storage=storage,
        requests=requests,
        longest_wait_s=config.sd_queue_timeout + config.sd_timeout,
        most_waiting=WAITING_RETRIES,
    )
    health = HealthService(
        pool=pool,
        storage=storage,
        ping_redis=(
            None if connection is None else lambda: answers(connection, on_error=metrics.redis_failed("health"))
        ),
        queue_limit=config.sd_queue_limit,
        version=VERSION,
    )
    housekeeping = Housekeeping(
        storage=storage,
        lock=runtime / f"housekeeping-{folder_name(place)}.lock",
        ttl_s=ttl_s,
        max_bytes=None if config.image_max_gb is None else config.image_max_gb * 1e9,
        more=ledger.sweep,
        metrics=metrics,
    )
    bounds = Bounds(
        max_prompt_chars=config.max_prompt_chars,
        max_steps=config.max_steps,
        max_pixels=config.max_pixels,
        max_batch_size=config.max_batch_size,
        max_input_pixels=config.max_input_pixels,
    )
    GenerationRoutes(
        service=generation,
        idempotency=idempotency,
        catalog=catalog,
        limits=limits,
        uploads=Uploads(most=BODIES_AT_A_TIME, decodings=os.cpu_count() or 1),
        bounds=bounds,
        image_base_url=f"{config.public_url or ''}{PREFIX}/image",
        metrics=metrics,
    ).register(app, PREFIX)
    downloads = Downloads(most=DOWNLOADS_AT_A_TIME)
    ImageRoutes(
        storage=storage,
        copies=Copies(),
        ttl_s=ttl_s,
        downloads=downloads,
        removed=metrics.images_removed.labels("request").inc,
        sendfile_header=config.sendfile_header,
    ).register(app, PREFIX)
    ModelRoutes(catalog=catalog, bounds=bounds).register(app, PREFIX)
    RequestRoutes(service=requests).register(app, PREFIX)
    HealthRoutes(service=health).register(app, PREFIX, limits.limiter)
    MetricsRoutes(metrics=metrics, look=lambda: service_state(health, pool)).register(app, limits.limiter)
    if config.studio:
        StudioRoutes(folder=Path(__file__).resolve().parent / "web").register(app, limits.limiter)
    DocsRoutes(offer=_offer(config, bounds), downloads=downloads).register(app, limits.limiter)
    background: list[WebUIPool | HealthService | Housekeeping | SharedLedger] = [pool, health, housekeeping]
    if shared_ledger is not None:
        background.append(shared_ledger)
    for part in background:
        part.start()
    app.extensions["drain"] = pool.drain
    app.extensions["idle"] = pool.is_idle
    app.extensions["close"] = lambda: [part.close() for part in reversed(background)]


def _offer(config: Config, bounds: Bounds) -> Offer:
    return Offer(
        version=VERSION,
        prefix=PREFIX,
        bounds=bounds,
        default_model=config.sd_model,
        default_sampler=config.sd_sampler,
        default_scheduler=config.sd_scheduler,
        keys=bool(config.api_keys),
        public_url=config.public_url,
        max_body_mb=config.max_body_mb,
        rate_limit_global=config.rate_limit_global,
        rate_limit_generation=config.rate_limit_generation,
    )


def _current_request_id() -> str | None:
    return g.get("request_id") if has_request_context() else None


def __getattr__(name: str) -> Any:
    """``app`` is made when a server asks for it, which is after its workers were forked."""
    if name != "app":
        raise AttributeError(name)
    try:
        app = create_app(Config.from_env(os.environ))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    except StorageConfigurationError as error:
        sys.stderr.write(f"invalid configuration:\n  STORAGE_URL or IMAGE_DIR: {error}\n")
        # The status at which gunicorn gives up; after any other it starts the next worker.
        raise SystemExit(3) from None
    globals()["app"] = app
    return app


def main() -> None:
    """Starts gunicorn with the settings' address and ``gunicorn.conf.py``."""
    from gunicorn.app.wsgiapp import run

    here = Path(__file__).resolve().parent
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
    sys.path.insert(0, str(here))
    sys.argv = ["gunicorn", "-c", str(here / "gunicorn.conf.py"), "stable_diffusion_api:app", *sys.argv[1:]]
    run()


if __name__ == "__main__":
    main()
