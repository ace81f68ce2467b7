"""What is counted, and how it is shown."""

from __future__ import annotations

import pytest

from api.metrics import HealthCollector
from observability.metrics import MODES, REDIS_USES, REMOVALS, Metrics
from services.health import HealthReport, QueueCounts, WebUICounts, WebUIFigures
from tests.scraped import Scraped, needs_promtool, promtool_says, scraped

REPORT = HealthReport(
    status="draining",
    version="1.2",
    uptime_seconds=1,
    device="gpu",
    webuis=WebUICounts(total=3, available=2, busy=2, gpu=1, cpu=1),
    queue=QueueCounts(waiting=3, limit=64),
    redis="off",
    storage="failing",
    reasons=("draining", "storage_failing"),
)
WEBUIS = {
    0: WebUIFigures(up=True, gpu_free_bytes=5, gpu_total_bytes=8),
    2: WebUIFigures(up=False, gpu_free_bytes=None, gpu_total_bytes=None),
}
STATE = HealthCollector(REPORT, WEBUIS)


def shown_by(metrics: Metrics) -> Scraped:
    text, media_type = metrics.exposition("", STATE)
    assert media_type.startswith("text/plain; version=0.0.4")
    return scraped(text.decode())


def test_each_instance_counts_for_itself() -> None:
    first, second = Metrics(), Metrics()
    first.images_stored.inc(3)
    assert (
        shown_by(first).value("sd_api_images_stored_total"),
        shown_by(second).value("sd_api_images_stored_total"),
    ) == (3, 0)


def test_series_begin_at_zero() -> None:
    shown = shown_by(Metrics(redis=True))
    assert [shown.value("sd_api_jobs_total", mode=mode, outcome="done") for mode in MODES] == [0] * len(MODES)
    assert [shown.value("sd_api_images_removed_total", reason=reason) for reason in REMOVALS] == [0, 0, 0]
    assert [shown.value("sd_api_redis_errors_total", use=use) for use in REDIS_USES] == [0, 0]
    assert [shown.value("sd_api_queue_wait_seconds_count", mode=mode) for mode in MODES] == [0] * len(MODES)


def test_nothing_tells_of_a_redis_that_is_none() -> None:
    shown = shown_by(Metrics())
    assert shown.labels("sd_api_redis_errors_total") == set()
    assert shown.value("sd_api_redis_up") is None


def test_the_state_of_the_moment() -> None:
    shown = shown_by(Metrics())
    assert shown.value("sd_api_queue_waiting") == 3
    assert shown.value("sd_api_queue_limit") == 64
    assert shown.value("sd_api_webuis_configured") == 3
    assert shown.value("sd_api_webuis_available", device="gpu") == 1
    assert shown.value("sd_api_webuis_available", device="cpu") == 1
    assert shown.value("sd_api_webuis_busy") == 2
    assert [shown.value("sd_api_webui_up", webui=place) for place in "012"] == [1, None, 0]
    assert [shown.value("sd_api_webui_gpu_memory_free_bytes", webui=place) for place in "012"] == [5, None, None]
    assert [shown.value("sd_api_webui_gpu_memory_total_bytes", webui=place) for place in "012"] == [8, None, None]
    assert shown.value("sd_api_storage_up") == 0
    assert shown.value("sd_api_draining") == 1
    assert shown.total("sd_api_build_info", version="1.2") == 1


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=x", "text/plain;version=y;escaping=z", ";=,"])
def test_who_asks_for_nonsense_gets_plain_text(accept: str) -> None:
    text, media_type = Metrics().exposition(accept, STATE)
    assert media_type.startswith("text/plain; version=0.0.4")
    assert b"sd_api_queue_waiting" in text


def test_openmetrics_for_who_asks_for_it() -> None:
    text, media_type = Metrics().exposition("application/openmetrics-text;version=1.0.0", STATE)
    assert media_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


@needs_promtool
def test_promtool_has_nothing_against_it() -> None:
    metrics = Metrics(redis=True)
    metrics.http_requests.labels("/x", "GET", 200, "own").inc()
    metrics.http_request_duration.labels("/x", "GET").observe(0.1)
    metrics.webui_failures.labels("webui_error").inc()
    text, _ = metrics.exposition("", STATE)
    assert promtool_says(text.decode()) == ""
