"""The service's table of contents: its HTTP edge and its routes, on the parts that ``parts.py`` makes.

Started by gunicorn (``gunicorn -w 2 -b 0.0.0.0:5002 stable_diffusion_api:app``) or by
``python stable_diffusion_api.py``, which starts the same gunicorn. Importing this module builds nothing.
"""

from __future__ import annotations

import logging.config
import os
import sys
from pathlib import Path
from typing import Any

from flask import Flask, g, has_request_context
from werkzeug.middleware.proxy_fix import ProxyFix

from api import auth, errors, hooks, rate_limit
from api.generation import GenerationRoutes
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
    Config,
    ConfigError,
)
from observability.logs import log_config
from observability.metrics import Metrics
from parts import Parts, make_parts, make_stores
from services.decoders import Decoders
from services.thumbnails import Thumbnails
from state.connection import open_redis
from state.failover import FailoverStore
from storage import StorageConfigurationError

VERSION = "0.1.0"
PREFIX = "/api/v1/ai/generation"


def create_app(config: Config) -> Flask:
    """
    The whole service, its background threads started: to be called in the process that serves, after any fork.

    Of ``app.extensions``, ``"looked"`` tells whether the WebUIs have been looked at, ``"drain"`` stops taking jobs,
    ``"idle"`` tells whether none is left, ``"close"`` ends the threads.

    :raises OSError: where ``RUNTIME_DIR`` cannot be used.
    :raises StorageConfigurationError: where ``STORAGE_URL`` or ``IMAGE_DIR`` cannot be used.
    """
    logging.config.dictConfig(
        log_config(level=config.log_level, form=config.log_format, request_id=_current_request_id)
    )
    metrics = Metrics(redis=config.redis_url is not None)
    app = _flask(config)
    stores = make_stores(config, metrics)
    limits = _add_edge(app, config, stores.failover, metrics)
    parts = make_parts(config, version=VERSION, stores=stores, metrics=metrics)
    _add_routes(app, config, parts, limits, metrics)
    for part in parts.background:
        part.start()
    app.extensions["looked"] = parts.pool.has_looked
    app.extensions["drain"] = parts.pool.drain
    app.extensions["idle"] = parts.pool.is_idle
    app.extensions["close"] = lambda: [part.close() for part in reversed(parts.background)]
    return app


def _flask(config: Config) -> Flask:
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # What has // in it is nothing here, and no redirect to whatever host the caller named.
    app.url_map.merge_slashes = False
    app.config.update(MAX_CONTENT_LENGTH=config.max_body_bytes)
    return app


def _add_edge(app: Flask, config: Config, store: FailoverStore | None, metrics: Metrics) -> rate_limit.RateLimits:
    """What every request passes, in this order."""
    hooks.register(app, metrics)
    errors.register(app, public_url=config.public_url)
    auth.identify(app, keys=config.api_keys)
    limits = rate_limit.create(
        app,
        everything=config.rate_limit_global,
        generation=config.rate_limit_generation,
        images=config.rate_limit_images,
        redis_client=open_redis(config.redis_url) if config.redis_url else None,
        redis_prefix=config.redis_prefix,
        store=store,
        metrics=metrics,
    )
    if config.api_keys:
        auth.require(app)
    if config.cors_origins:
        hooks.allow_origins(app, config.cors_origins)
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return limits


def _add_routes(app: Flask, config: Config, parts: Parts, limits: rate_limit.RateLimits, metrics: Metrics) -> None:
    fields = FieldSet(_bounds(config))
    downloads = Downloads(most=DOWNLOADS_AT_A_TIME)
    body_bytes = max(BODY_BYTES_AT_A_TIME, 2 * config.max_body_bytes)
    GenerationRoutes(
        service=parts.generation,
        idempotency=parts.idempotency,
        catalog=parts.catalog,
        limits=limits,
        uploads=Uploads(most=BODIES_AT_A_TIME, most_bytes=body_bytes),
        prompt_uploads=Uploads(most=PROMPTS_AT_A_TIME, most_bytes=body_bytes),
        decoders=Decoders(count=os.cpu_count() or 1),
        queue_timeout_s=config.sd_queue_timeout,
        fields=fields,
        image_base_url=f"{config.public_url or ''}{PREFIX}/image",
        metrics=metrics,
    ).register(app, PREFIX)
    ImageRoutes(
        storage=parts.storage,
        thumbnails=Thumbnails(),
        ttl_s=config.image_ttl_s,
        downloads=downloads,
        removed=metrics.images_removed.labels("request").inc,
        sendfile_header=config.sendfile_header,
    ).register(app, PREFIX)
    ModelRoutes(catalog=parts.catalog, fields=fields).register(app, PREFIX)
    RequestRoutes(service=parts.requests).register(app, PREFIX)
    HealthRoutes(service=parts.health).register(app, PREFIX, limits.limiter)
    MetricsRoutes(metrics=metrics, health=parts.health).register(app, limits.limiter)
    PageRoutes(
        settings=_document_settings(config, fields),
        downloads=downloads,
        studio=Path(__file__).resolve().parent / "web" if config.studio else None,
    ).register(app, limits.limiter)


def _bounds(config: Config) -> Bounds:
    return Bounds(
        max_prompt_chars=config.max_prompt_chars,
        max_steps=config.max_steps,
        max_pixels=config.max_pixels,
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
