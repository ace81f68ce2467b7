"""What the rate limits cost a request: the same view with them and without, called in this process."""

from __future__ import annotations

import statistics
import time
from typing import Any

import redis
from flask import Flask

from api import rate_limit
from bench.stage import NO_LIMITS, Stage
from observability.metrics import Metrics

BATCH = 50


def rows(*, batches: int) -> list[dict[str, Any]]:
    """Interleaved batches of requests; medians over the batches, in milliseconds of wall time and of CPU."""
    with Stage() as stage:
        _, url = stage.redis()
        with redis.Redis.from_url(url) as client:
            apps = {
                "none": _app(limited=False, client=None),
                "in memory": _app(limited=True, client=None),
                "in Redis": _app(limited=True, client=client),
            }
            measured: dict[str, list[tuple[float, float]]] = {name: [] for name in apps}
            for app in apps.values():
                _batch(app)  # warm
            for _ in range(batches):
                for name, app in apps.items():
                    measured[name].append(_batch(app))
    wall = {name: statistics.median(wall for wall, _ in found) for name, found in measured.items()}
    cpu = {name: statistics.median(cpu for _, cpu in found) for name, found in measured.items()}
    return [
        {"limits": name, "ms": round(wall[name] - wall["none"], 3), "cpu_ms": round(cpu[name] - cpu["none"], 3)}
        for name in ("in memory", "in Redis")
    ]


def _app(*, limited: bool, client: redis.Redis | None) -> Flask:
    """One view that does nothing, as limited as a generation: by both kinds of limit."""
    app = Flask(__name__)
    if not limited:
        app.add_url_rule("/", "nothing", lambda: "")
        return app
    limits = rate_limit.create(
        app,
        everything=NO_LIMITS["RATE_LIMIT_GLOBAL"],
        generation=NO_LIMITS["RATE_LIMIT_GENERATION"],
        images=None,
        redis_client=client,
        redis_prefix="sd-api",
        metrics=Metrics(),
    )

    def nothing() -> str:
        limits.count_generation()
        return ""

    app.add_url_rule("/", "nothing", nothing)
    return app


def _batch(app: Flask) -> tuple[float, float]:
    """Milliseconds per request."""
    client = app.test_client()
    began, cpu = time.perf_counter(), time.thread_time()
    for _ in range(BATCH):
        status = client.get("/").status_code
        assert status == 200, status
    return 1000 * (time.perf_counter() - began) / BATCH, 1000 * (time.thread_time() - cpu) / BATCH
