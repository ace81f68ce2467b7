"""What is counted of what callers do, and what each answer says of its time."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from simulator import Simulator
from tests.api.answers import Answer
from tests.api.bad_inputs import VALID
from tests.conftest import MakeApp
from tests.running import PREFIX, ROOT, free_port, wait_until
from tests.scraped import Scraped, needs_promtool, promtool_says, scraped

BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}


def scrape(client: FlaskClient) -> Scraped:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return scraped(answer.text)


def paint(client: FlaskClient, route: str = "txt2img", *, key: str | None = None, **changes: object) -> Answer:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(f"{PREFIX}/{route}", json={**VALID[route], **BODY, **changes}, headers=headers)


def timings(answer: Answer) -> dict[str, float]:
    """Milliseconds by stage."""
    parts = answer.headers["Server-Timing"].split(", ")
    assert all(re.fullmatch(r"[a-z]+;dur=\d+\.\d", part) for part in parts)
    return {name: float(value) for name, value in (part.split(";dur=") for part in parts)}


@pytest.fixture
def fresh(make_app: MakeApp, simulator: Simulator) -> FlaskClient:
    """A service that has counted nothing yet."""
    return make_app(simulator.url).test_client()


# --- The route ------------------------------------------------------------------------------------------------------


def test_it_asks_for_no_key_and_is_never_limited(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, API_KEYS="key", RATE_LIMIT_GLOBAL="1/hour").test_client()
    assert [client.get("/metrics").status_code for _ in range(5)] == [200] * 5
    assert client.head("/metrics").status_code == 200
    assert client.get(f"{PREFIX}/models").status_code == 401
    assert client.post("/metrics", headers={"X-API-Key": "key"}).status_code == 405


def test_prometheus_may_ask_for_openmetrics(client: FlaskClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


# --- Requests -------------------------------------------------------------------------------------------------------


def test_requests_by_route_method_and_status(fresh: FlaskClient) -> None:
    for path in ("models", "models", "image/0b9f0000-0000-4000-8000-000000000000", "image/x"):
        fresh.get(f"{PREFIX}/{path}")
    fresh.head(f"{PREFIX}/models")
    shown = scrape(fresh)

    requests = "sd_api_http_requests_total"
    assert shown.value(requests, door="own", route=f"{PREFIX}/models", method="GET", status="200") == 2
    assert shown.value(requests, door="own", route=f"{PREFIX}/models", method="HEAD", status="200") == 1
    assert shown.value(requests, door="own", route=f"{PREFIX}/image/<image_id>", method="GET", status="404") == 2
    assert shown.value("sd_api_http_request_duration_seconds_count", route=f"{PREFIX}/models", method="GET") == 2


def test_labels_are_bounded_whatever_callers_send(fresh: FlaskClient) -> None:
    for number in range(5):
        fresh.get(f"/nothing/{number}")
        fresh.open(f"{PREFIX}/models", method=f"BREW{number}")
        fresh.get(f"{PREFIX}/requests/id-{number}")
        paint(fresh, prompt=f"prompt {number}", model=f"none-{number}")
    shown = scrape(fresh)

    assert shown.total("sd_api_http_requests_total", route="<unmatched>", method="GET", status="404") == 5
    assert shown.total("sd_api_http_requests_total", method="OTHER") == 5
    assert not re.search(r"nothing|BREW|id-\d|prompt \d|none-\d", shown.text)


def test_limits_by_decision(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, RATE_LIMIT_GLOBAL="5/hour", RATE_LIMIT_GENERATION="1/hour").test_client()
    statuses = [paint(client).status_code for _ in range(3)]
    statuses += [client.get(f"{PREFIX}/models").status_code for _ in range(4)]
    assert statuses == [200, 429, 429, 200, 200, 429, 429]
    client.get(f"{PREFIX}/health")
    client.options(f"{PREFIX}/models")
    shown = scrape(client)

    def decisions(limit: str) -> list[float | None]:
        name = "sd_api_rate_limit_decisions_total"
        return [shown.value(name, limit=limit, decision=decision) for decision in ("allowed", "refused")]

    assert decisions("global") == [5, 2]
    assert decisions("generation") == [1, 2]
    assert shown.total("sd_api_jobs_total") == 1, "one that was refused is no job"


def stored_bytes(client: FlaskClient, image_id: str) -> int:
    with client.get(f"{PREFIX}/image/{image_id}") as answer:
        return len(answer.data)


# --- Generations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["txt2img", "img2img", "inpainting"])
def test_a_job_that_is_done(fresh: FlaskClient, mode: str) -> None:
    answer = paint(fresh, mode, batch_size=2)
    assert answer.status_code == 200
    stages = timings(answer)
    shown = scrape(fresh)

    assert stages.keys() == {"queue", "webui", "store", "total"}
    assert stages["queue"] + stages["webui"] + stages["store"] <= stages["total"] + 0.2, "all are rounded"
    assert shown.value("sd_api_jobs_total", mode=mode, outcome="done") == 1
    assert shown.total("sd_api_jobs_total") == 1
    for name in ("webui_duration", "queue_wait", "generation_overhead"):
        assert shown.value(f"sd_api_{name}_seconds_count", mode=mode) == 1
        assert shown.total(f"sd_api_{name}_seconds_count") == 1
    webui_s = shown.value("sd_api_webui_duration_seconds_sum", mode=mode) or 0
    assert webui_s == pytest.approx(stages["webui"] / 1000, abs=0.0001)
    own_s = shown.value("sd_api_generation_overhead_seconds_sum", mode=mode) or 0
    assert own_s == pytest.approx((stages["total"] - stages["webui"] - stages["queue"]) / 1000, abs=0.0003)
    assert shown.value("sd_api_images_stored_total") == 2
    ids = [image["image_id"] for image in answer.get_json()["images"]]  # type: ignore[attr-defined]
    assert shown.value("sd_api_images_stored_bytes_total") == sum(stored_bytes(fresh, image_id) for image_id in ids)


def test_the_webuis_time_is_not_the_services(fresh: FlaskClient, simulator: Simulator) -> None:
    simulator.set_fault("slow", seconds=0.5)
    assert timings(paint(fresh))["webui"] >= 500
    shown = scrape(fresh)
    assert shown.total("sd_api_webui_duration_seconds_sum") >= 0.5
    total_s = shown.total("sd_api_http_request_duration_seconds_sum", route=f"{PREFIX}/txt2img")
    assert shown.total("sd_api_generation_overhead_seconds_sum") <= total_s - 0.5


@pytest.mark.parametrize(
    ("fault", "code", "stages"),
    [
        ("oom", "gpu_out_of_memory", {"queue", "webui", "total"}),
        ("error-json", "webui_error", {"queue", "webui", "total"}),
        ("wrong-size", "webui_error", {"queue", "webui", "total"}),
        ("reset-after", "webui_error", {"queue", "webui", "total"}),
    ],
)
def test_a_job_that_fails(fresh: FlaskClient, simulator: Simulator, fault: str, code: str, stages: set[str]) -> None:
    simulator.set_fault(fault, times=1)
    assert timings(paint(fresh)).keys() == stages
    shown = scrape(fresh)

    assert shown.value("sd_api_jobs_total", mode="txt2img", outcome=code) == 1
    assert shown.value("sd_api_jobs_total", mode="txt2img", outcome="done") == 0
    assert shown.value("sd_api_webui_failures_total", code=code) == 1
    assert shown.total("sd_api_webui_failures_total") == 1
    assert shown.total("sd_api_webui_duration_seconds_count") == 0
    assert shown.total("sd_api_queue_wait_seconds_count") == 1


def test_a_request_that_is_no_job(fresh: FlaskClient) -> None:
    assert timings(paint(fresh, prompt="")).keys() == {"total"}
    shown = scrape(fresh)
    assert shown.total("sd_api_jobs_total") == 0
    assert shown.total("sd_api_queue_wait_seconds_count") == 0


def test_a_job_that_runs_too_long_is_the_webuis_failure(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, SD_TIMEOUT="1").test_client()
    simulator.set_fault("slow", seconds=1.5, times=1)
    answer = paint(client)
    assert answer.status_code == 504
    assert timings(answer)["webui"] >= 1000
    assert scrape(client).value("sd_api_webui_failures_total", code="webui_timeout") == 1


def test_a_failure_that_another_webui_made_good(make_app: MakeApp, simulator: Simulator) -> None:
    with Simulator() as lost:
        client = make_app(f"{lost.url},{simulator.url}").test_client()
        wait_until(lambda: scrape(client).total("sd_api_webui_up") == 2, "both are there")
    simulator.set_fault("slow", seconds=0.5)
    with ThreadPoolExecutor(2) as threads:  # while one of them paints the other job has to be sent to the lost one
        assert [job.result().status_code for job in [threads.submit(paint, client) for _ in range(2)]] == [200, 200]
    shown = scrape(client)

    assert shown.value("sd_api_jobs_total", mode="txt2img", outcome="done") == 2
    assert shown.value("sd_api_webui_failures_total", code="webui_unavailable") == 1
    assert [shown.value("sd_api_webui_up", webui=place) for place in "01"] == [0, 1]
    assert shown.value("sd_api_webui_gpu_memory_free_bytes", webui="0") is None
    assert shown.value("sd_api_webuis_available", device="gpu") == 1
    assert shown.value("sd_api_webuis_configured") == 2


def test_models_that_have_to_be_loaded(make_app: MakeApp) -> None:
    with Simulator() as webui:
        client = make_app(webui.url).test_client()
        models = [model["id"] for model in client.get(f"{PREFIX}/models").get_json()["models"]]
        assert paint(client, model=models[0]).status_code == 200
        before = scrape(client).total("sd_api_model_switches_total")
        asked = [models[0], models[1], models[0]]
        assert [paint(client, model=model).status_code for model in asked] == [200] * 3
        after = scrape(client).total("sd_api_model_switches_total")
    assert after - before == 2


def test_the_queue_as_it_is(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, SD_QUEUE_LIMIT="7").test_client()
    simulator.set_fault("hang-before")
    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(paint, client) for _ in range(3)]
        wait_until(lambda: scrape(client).value("sd_api_queue_waiting") == 2, "two jobs wait")
        shown = scrape(client)
        simulator.clear_faults()
        for job in jobs:
            job.result()
    assert shown.value("sd_api_queue_limit") == 7
    assert shown.value("sd_api_webuis_busy") == 1
    assert scrape(client).value("sd_api_queue_waiting") == 0


def test_answers_given_again(fresh: FlaskClient) -> None:
    first, second = paint(fresh, key="k"), paint(fresh, key="k")
    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.get_json()["seed"] == second.get_json()["seed"]  # type: ignore[attr-defined]
    assert timings(second).keys() == {"total"}
    shown = scrape(fresh)
    assert shown.value("sd_api_idempotent_replays_total") == 1
    assert shown.total("sd_api_jobs_total") == 1


def test_a_page_of_another_origin_may_read_the_timing(make_app: MakeApp, simulator: Simulator) -> None:
    origin = "https://app.example"
    client = make_app(simulator.url, CORS_ORIGINS=origin).test_client()
    answer = client.post(f"{PREFIX}/txt2img", json={}, headers={"Origin": origin})
    assert "Server-Timing" in answer.headers["Access-Control-Expose-Headers"]
    assert "Server-Timing" in answer.headers


# --- Images ---------------------------------------------------------------------------------------------------------


def test_images_that_cannot_be_stored(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.write_text("a file where the folder should be")
    client = make_app(simulator.url, IMAGE_DIR=str(folder)).test_client()
    wait_until(lambda: scrape(client).value("sd_api_storage_up") == 0, "the storage was looked at")
    assert paint(client).status_code == 200
    shown = scrape(client)

    assert (shown.value("sd_api_images_unstored_total"), shown.value("sd_api_images_stored_total")) == (1, 0)
    assert shown.value("sd_api_storage_errors_total", operation="save") == 1
    assert shown.total("sd_api_storage_errors_total", operation="check") >= 1


def test_images_that_are_removed(make_app: MakeApp, simulator: Simulator) -> None:
    client = make_app(simulator.url, API_KEYS="key").test_client()
    key = {"X-API-Key": "key"}
    image_id = client.post(f"{PREFIX}/txt2img", json=BODY, headers=key).get_json()["image_id"]
    assert [client.delete(f"{PREFIX}/image/{image_id}", headers=key).status_code for _ in range(2)] == [204, 404]
    shown = scrape(client)
    assert shown.value("sd_api_images_removed_total", reason="request") == 1
    assert shown.total("sd_api_images_removed_total") == 1
    assert shown.total("sd_api_storage_errors_total") == 0, "an image that is not there is no fault"


# --- All of them ----------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(make_app: MakeApp, simulator: Simulator) -> Scraped:
    """After one of everything."""
    client = make_app(f"{simulator.url},http://127.0.0.1:{free_port()}").test_client()
    for mode in VALID:
        assert paint(client, mode).status_code == 200
    simulator.set_fault("oom", times=1)
    paint(client)
    client.get("/nothing")
    wait_until(lambda: scrape(client).value("sd_api_webui_up", webui="1") == 0, "both have been looked at")
    return scrape(client)


@needs_promtool
def test_promtool_has_nothing_against_it(busy: Scraped) -> None:
    assert promtool_says(busy.text) == ""


def test_labels_are_those_of_the_documentation(busy: Scraped) -> None:
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    seen = {}
    for name, labels in re.findall(r"^\|\s*`(sd_api_\w+)(?:\{([\w,]+)\})?`", page, re.MULTILINE):
        sample = f"{name}_count" if busy.labels(f"{name}_count") else name
        if found := busy.labels(sample):
            seen[name] = (found, {frozenset(labels.split(",")) if labels else frozenset()})
    assert len(seen) >= 25
    assert {name: found for name, (found, _) in seen.items()} == {name: listed for name, (_, listed) in seen.items()}
