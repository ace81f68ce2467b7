"""The service's table of contents: every part of it is made and joined here, in reading order.

Started by gunicorn (``gunicorn -w 2 -b 0.0.0.0:5002 stable_diffusion_api:app``) or by
``python stable_diffusion_api.py``, which starts the same gunicorn. Importing this module builds nothing.
"""

from __future__ import annotations

import functools
import logging.config
import os
import sys
from pathlib import Path
from typing import Any

from flask import Flask, g, has_request_context
from werkzeug.middleware.proxy_fix import ProxyFix

from api import auth, errors, hooks, rate_limit
from api.doors.a1111 import A1111Routes
from api.doors.openai import OpenAIRoutes
from api.generation import Generations
from api.generation_routes import GenerationRoutes
from api.health import HealthRoutes
from api.images import ImageRoutes
from api.metrics import MetricsRoutes
from api.models import ModelRoutes
from api.openapi import DocumentSettings
from api.pages import PageRoutes
from api.requests import RequestRoutes
from api.schemas import Bounds, FieldSet
from api.transfers import Downloads, Uploads
from config import (
    BODIES_AT_A_TIME,
    BODY_BYTES_AT_A_TIME,
    DOWNLOADS_AT_A_TIME,
    PROMPTS_AT_A_TIME,
    WAITING_RETRIES,
    Config,
    ConfigError,
)
from observability.logs import log_config
from observability.metrics import Metrics
from sd_client.pool import WebUIPool
from services import idempotency, model_choices
from services.catalog import Catalog
from services.decoders import Decoders
from services.generation import GenerationService
from services.health import HealthService
from services.idempotency import IdempotencyService
from services.installations import Installations
from services.model_choices import ModelChoices
from services.open_jobs import OpenJobs
from services.retention import Retention, folder_name
from services.runtime_folder import RuntimeFolder
from services.stored_images import StoredImages
from services.thumbnails import Thumbnails
from services.tracking import RequestService
from state.election import Election
from state.stores import Stores, open_stores
from storage import StorageConfigurationError, open_storage

VERSION = "0.1.0"
PREFIX = "/api/v1/ai/generation"


def create_app(config: Config) -> Flask:
    """
    The whole service, its background threads started: to be called in the process that serves, after any fork.

    Entries of ``app.extensions``: ``"looked"`` says whether the WebUIs have been looked at, ``"drain"`` stops taking
    jobs, ``"idle"`` says whether none is left, ``"close"`` ends the threads.

    :raises OSError: ``RUNTIME_DIR`` cannot be used.
    :raises StorageConfigurationError: ``STORAGE_URL`` or ``IMAGE_DIR`` cannot be used.
    """
    logging.config.dictConfig(
        log_config(level=config.log_level, form=config.log_format, request_id=_current_request_id)
    )
    metrics = Metrics(redis=config.redis_url is not None)

    # What the services rest on: finished images, small shared values, WebUIs.
    storage = open_storage(config.image_place, on_failure=metrics.storage_failed)
    stores = _stores(config, metrics)
    images = StoredImages(storage=storage, ttl_s=config.image_ttl_s)
    pool = WebUIPool(
        config.sd_webui_url,
        slots=config.sd_webui_slots,
        queue_limit=config.sd_queue_limit,
        store=stores.shared,
        holders=stores.holders,
        host=stores.host,
        use_gpu=config.use_gpu,
        cpu_fallback=config.cpu_fallback,
        ca_bundle=config.sd_webui_ca_bundle,
        patience_s=config.sd_model_switch_patience,
        count_trial=lambda result: metrics.reference_trials.labels(result).inc(),
    )

    # The services.
    catalog = Catalog(
        pool.ready_view,
        default_model=config.sd_model,
        aliases=config.sd_model_aliases,
        default_sampler=config.sd_sampler,
        default_scheduler=config.sd_scheduler,
        default_clip_skip=config.sd_clip_skip,
        default_upscaler=config.sd_upscaler,
    )
    requests = RequestService(pool=pool, store=stores.shared, host=stores.host, holders=stores.holders)
    generation = GenerationService(
        pool=pool,
        catalog=catalog,
        storage=storage,
        requests=requests,
        metrics=metrics,
        max_pixels=config.max_pixels,
        queue_timeout_s=config.sd_queue_timeout,
        timeout_s=config.sd_timeout,
    )
    retries = IdempotencyService(
        store=stores.durable,
        holders=stores.holders,
        storage=storage,
        requests=requests,
        longest_wait_s=config.sd_queue_timeout + config.sd_timeout,
        most_waiting=WAITING_RETRIES,
    )
    failover = stores.failover
    installations = Installations(stores.shared, prefix=config.redis_prefix, webuis=config.sd_webui_url)
    health = HealthService(
        pool=pool,
        catalog=catalog,
        storage=storage,
        redis_is_up=None if failover is None else lambda: failover.up,
        check_runtime=RuntimeFolder(Path(config.runtime_dir)).can_be_written,
        more=lambda: installations.look() if failover and failover.up else None,
        queue_limit=config.sd_queue_limit,
        version=VERSION,
    )
    retention = Retention(
        storage=storage,
        election=Election(stores.host, stores.holders, f"retention:{folder_name(config.image_place)}"),
        ttl_s=config.image_ttl_s,
        max_bytes=config.image_max_bytes,
        metrics=metrics,
    )

    # What every request passes, in this order.
    app = _flask(config)
    hooks.register(app, metrics, doors=config.doors)
    errors.register(app, public_url=config.public_url)
    auth.identify(app, keys=config.api_keys)
    limits = rate_limit.create(
        app,
        everything=config.rate_limit_global,
        generation=config.rate_limit_generation,
        images=config.rate_limit_images,
        redis_client=stores.redis,
        redis_prefix=config.redis_prefix,
        store=failover,
        metrics=metrics,
    )
    if config.api_keys:
        auth.require(app)
    if config.cors_origins:
        hooks.allow_origins(app, config.cors_origins)

    # The routes.
    fields = field_set(bounds_of(config))
    downloads = Downloads(most=DOWNLOADS_AT_A_TIME)
    body_bytes = max(BODY_BYTES_AT_A_TIME, 2 * config.max_body_bytes)
    generations = Generations(
        service=generation,
        idempotency=retries,
        catalog=catalog,
        images=images,
        limits=limits,
        uploads=Uploads(most=BODIES_AT_A_TIME, most_bytes=body_bytes),
        prompt_uploads=Uploads(most=PROMPTS_AT_A_TIME, most_bytes=body_bytes),
        decoders=Decoders(count=os.cpu_count() or 1),
        queue_timeout_s=config.sd_queue_timeout,
        fields=fields,
        metrics=metrics,
    )
    image_base_url = f"{config.public_url or ''}{PREFIX}/image"
    GenerationRoutes(generations=generations, image_base_url=image_base_url).register(app, PREFIX)
    if "a1111" in config.doors:
        A1111Routes(
            generations=generations,
            catalog=catalog,
            choices=ModelChoices(
                store=stores.durable, host=stores.host, is_shared=lambda: failover is None or failover.up
            ),
            jobs=OpenJobs(
                store=stores.shared,
                host=stores.host,
                holders=stores.holders,
                longest_s=2 * (config.sd_queue_timeout + 2 * config.sd_timeout),
            ),
            requests=requests,
        ).register(app, limits.limiter)
    ImageRoutes(
        images=images,
        thumbnails=Thumbnails(),
        downloads=downloads,
        removed=metrics.images_removed.labels("request").inc,
        sendfile_header=config.sendfile_header,
    ).register(app, PREFIX)
    ModelRoutes(catalog=catalog, fields=fields).register(app, PREFIX)
    RequestRoutes(service=requests).register(app, PREFIX)
    HealthRoutes(service=health).register(app, PREFIX, limits.limiter)
    MetricsRoutes(metrics=metrics, health=health).register(app, limits.limiter)
    PageRoutes(
        settings=_document_settings(config, fields),
        downloads=downloads,
        studio=Path(__file__).resolve().parent / "web" if config.studio else None,
    ).register(app, limits.limiter)

    # The doors: the same for programs that speak other APIs.
    if "openai" in config.doors:
        absolute = image_base_url if config.public_url else None
        OpenAIRoutes(generations=generations, catalog=catalog, image_base_url=absolute).register(app)

    # The background threads.
    background = (stores, pool, health, retention)
    for part in background:
        part.start()
    app.extensions["looked"] = pool.has_looked
    app.extensions["drain"] = pool.drain
    app.extensions["idle"] = pool.is_idle
    app.extensions["close"] = lambda: [part.close() for part in reversed(background)]
    return app


def _stores(config: Config, metrics: Metrics) -> Stores:
    runtime_dir = Path(config.runtime_dir)
    # A bucket has no room for them: they are kept in RUNTIME_DIR, and in Redis.
    beside = runtime_dir / f"idempotency-{folder_name(config.image_place)}"
    return open_stores(
        runtime_dir,
        durable_dir=beside if config.storage_url else Path(config.image_dir) / "idempotency",
        durable=(idempotency.PREFIX, model_choices.PREFIX),
        redis_url=config.redis_url,
        redis_prefix=config.redis_prefix,
        on_redis_error=metrics.redis_failed("store"),
    )


def _flask(config: Config) -> Flask:
    app = Flask(__name__, static_folder=None)
    # Flask would look at each view and hook at each call, but none is a coroutine.
    app.ensure_sync = lambda func: func  # type: ignore[method-assign]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # A path with // matches nothing. Flask would redirect to whatever host the caller named.
    app.url_map.merge_slashes = False
    app.config.update(MAX_CONTENT_LENGTH=config.max_body_bytes)
    if hops := config.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app


@functools.cache
def field_set(bounds: Bounds) -> FieldSet:
    """One for each process and those that are forked from it: it takes long to build, and 3 MB."""
    return FieldSet(bounds)


def bounds_of(config: Config) -> Bounds:
    return Bounds(
        max_prompt_chars=config.max_prompt_chars,
        max_steps=config.max_steps,
        max_pixels=config.max_pixels,
        max_hires_pixels=config.max_hires_pixels,
        max_upscale_pixels=config.max_upscale_pixels,
        max_batch_size=config.max_batch_size,
        max_input_pixels=config.max_input_pixels,
    )


def _document_settings(config: Config, fields: FieldSet) -> DocumentSettings:
    return DocumentSettings(
        version=VERSION,
        fields=fields,
        default_model=config.sd_model,
        default_sampler=config.sd_sampler,
        default_scheduler=config.sd_scheduler,
        default_clip_skip=config.sd_clip_skip,
        default_upscaler=config.sd_upscaler,
        doors=config.doors,
        keys=bool(config.api_keys),
        public_url=config.public_url,
        max_body_mb=config.max_body_mb,
        rate_limit_global=config.rate_limit_global,
        rate_limit_generation=config.rate_limit_generation,
        rate_limit_images=config.rate_limit_images,
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
    # On USR2 gunicorn starts this same command line once more.
    options = ["-c", str(here / "gunicorn.conf.py"), "stable_diffusion_api:app"]
    given = sys.argv[1:]
    sys.argv = [__file__, *(given if given[: len(options)] == options else [*options, *given])]
    run(prog="gunicorn")


if __name__ == "__main__":
    main()
