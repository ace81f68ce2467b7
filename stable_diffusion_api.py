"""The service's table of contents: every part is made and joined here, and nowhere else.

Started by gunicorn (``gunicorn -w 2 -b 0.0.0.0:5002 stable_diffusion_api:app``) or by
``python stable_diffusion_api.py``, which starts the same gunicorn. Importing this module builds nothing.
"""

from __future__ import annotations

import logging.config
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from flask import Flask, g, has_request_context
from flask_cors import CORS
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.middleware.proxy_fix import ProxyFix

from api import auth, errors, hooks, rate_limit
from api.generation import GenerationRoutes
from api.health import HealthRoutes
from api.images import ImageRoutes
from api.jobs import RequestRoutes
from api.models import ModelRoutes
from api.schemas import Bounds
from config import Config, ConfigError
from observability.logs import log_config
from sd_client.pool import WebUIPool
from services.catalog import Catalog
from services.generation import GenerationService
from services.health import HealthService
from services.requests import FileNotes, Notes, RedisNotes, RequestService
from storage import ImageStorage, open_storage

VERSION = "0.1.0"
PREFIX = "/api/v1/ai/generation"


def create_app(config: Config) -> Flask:
    """
    The whole service, its background threads started: to be called in the process that serves, after any fork.

    ``app.extensions["close"]`` ends the threads.

    :raises OSError: where ``RUNTIME_DIR`` cannot be used.
    """
    logging.config.dictConfig(
        log_config(level=config.log_level, form=config.log_format, request_id=_current_request_id)
    )
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # A form may carry its picture as base64 text: its fields may be as large as the body.
    app.config.update(MAX_CONTENT_LENGTH=config.max_body_bytes, MAX_FORM_MEMORY_SIZE=config.max_body_bytes)
    app.config.update(MAX_FORM_PARTS=100)
    hooks.register(app)
    errors.register(app)
    auth.identify(app, keys=config.api_keys)
    limits = rate_limit.create(
        app,
        everything=config.rate_limit_global,
        generation=config.rate_limit_generation,
        redis_url=config.redis_url,
    )
    if config.api_keys:
        auth.require(app)
    if config.cors_origins:
        _allow_origins(app, config.cors_origins)
    if config.trusted_proxies:
        hops = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    connection = _redis(config.redis_url) if config.redis_url else None
    _add_routes(app, config, limits, open_storage(config.image_dir), connection)
    return app


def _add_routes(
    app: Flask, config: Config, limits: rate_limit.RateLimits, storage: ImageStorage, connection: redis.Redis | None
) -> None:
    pool = _pool(config, connection)
    requests = RequestService(pool=pool, notes=_notes(config, connection))
    catalog = Catalog(
        pool.ready_view,
        default_model=config.sd_model,
        aliases=config.sd_model_aliases,
        default_sampler=config.sd_sampler,
        default_scheduler=config.sd_scheduler,
    )
    generation = GenerationService(
        pool=pool,
        catalog=catalog,
        storage=storage,
        requests=requests,
        max_pixels=config.max_pixels,
        queue_timeout_s=config.sd_queue_timeout,
        timeout_s=config.sd_timeout,
    )
    health = HealthService(
        pool=pool,
        storage=storage,
        ping_redis=_ping(connection) if connection else None,
        queue_limit=config.sd_queue_limit,
        version=VERSION,
    )
    bounds = Bounds(
        max_prompt_chars=config.max_prompt_chars,
        max_steps=config.max_steps,
        max_pixels=config.max_pixels,
        max_batch_size=config.max_batch_size,
        max_input_pixels=config.max_input_pixels,
    )
    image_base_url = f"{config.public_url or ''}{PREFIX}/image"
    GenerationRoutes(
        service=generation, catalog=catalog, limits=limits, bounds=bounds, image_base_url=image_base_url
    ).register(app, PREFIX)
    ImageRoutes(storage=storage).register(app, PREFIX)
    ModelRoutes(catalog=catalog, bounds=bounds).register(app, PREFIX)
    RequestRoutes(service=requests).register(app, PREFIX)
    HealthRoutes(service=health).register(app, PREFIX, limits.limiter)
    pool.start()
    health.start()

    def close() -> None:
        health.close()
        pool.close()

    app.extensions["close"] = close
    app.extensions["drain"] = pool.drain


def _pool(config: Config, connection: redis.Redis | None) -> WebUIPool:
    return WebUIPool(
        config.sd_webui_url,
        slots=config.sd_webui_slots,
        queue_limit=config.sd_queue_limit,
        folder=Path(config.runtime_dir),
        redis_client=connection,
        use_gpu=config.use_gpu,
        cpu_fallback=config.cpu_fallback,
        patience_s=config.sd_model_switch_patience,
    )


def _notes(config: Config, connection: redis.Redis | None) -> Notes:
    on_disk = FileNotes(Path(config.runtime_dir) / "requests")
    return on_disk if connection is None else RedisNotes(connection, prefix="sd-api:request", otherwise=on_disk)


def _redis(url: str) -> redis.Redis:
    # One that hangs may cost a request a quarter of a second; redis-py's own retries would make that a minute.
    return redis.Redis.from_url(url, socket_timeout=0.25, socket_connect_timeout=0.25, retry=Retry(NoBackoff(), 0))


def _ping(connection: redis.Redis) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            return bool(connection.ping())
        except redis.RedisError:
            return False

    return answers


def _allow_origins(app: Flask, origins: tuple[str, ...]) -> None:
    CORS(
        app,
        origins=list(origins),
        methods=["GET", "HEAD", "POST", "DELETE", "OPTIONS"],
        allow_headers=["Content-Type", "Authorization", "X-API-Key", "X-Request-ID", "Prefer", "Idempotency-Key"],
        expose_headers=[
            *("X-Request-ID", "X-Image-Id", "X-Seed", "X-Model", "Location", "Retry-After"),
            *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
        ],
        max_age=86_400,
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
