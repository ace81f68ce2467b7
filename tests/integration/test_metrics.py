"""Metrics and logs of the real thing: two workers count together, and no death of a worker takes a count away."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from simulator import Simulator
from tests.running import DEADLINE_S, PREFIX, ROOT, Service, running_service, started, wait_until
from tests.scraped import Scraped, needs_promtool, promtool_says, scraped

BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}


@pytest.fixture
def fresh(simulator: Simulator, tmp_path: Path) -> Iterator[Service]:
    """Two workers that have counted nothing but looks at health."""
    with running_service(tmp_path, simulator.url) as running:
        running.wait_until_answering()
        yield running


def scrape(service: Service) -> Scraped:
    answer = requests.get(f"{service.root}/metrics", timeout=DEADLINE_S)
    assert answer.status_code == 200
    return scraped(answer.text)


def workers(service: Service) -> set[int]:
    pid = service.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def get_many(service: Service, times: int) -> None:
    """Each over another connection, so that both workers get some."""
    with ThreadPoolExecutor(8) as threads:
        assert {job.status_code for job in threads.map(service.get, ["/models"] * times)} == {200}


def models_counted(service: Service) -> float | None:
    return scrape(service).value(
        "sd_api_http_requests_total", door="own", route=f"{PREFIX}/models", method="GET", status="200"
    )


def assert_nothing_fell(before: Scraped, after: Scraped) -> None:
    later = after.counts()
    fallen = {key: (value, later.get(key)) for key, value in before.counts().items() if later.get(key, -1) < value}
    assert fallen == {}


def test_two_workers_count_together_and_outlive_each_other(fresh: Service) -> None:
    get_many(fresh, 40)
    assert fresh.post("/txt2img", BODY).status_code == 200
    assert {models_counted(fresh) for _ in range(10)} == {40}, "whoever answers"
    before = scrape(fresh)
    assert before.value("sd_api_jobs_total", mode="txt2img", outcome="done") == 1
    first = workers(fresh)
    assert len(first) == 2

    os.kill(min(first), signal.SIGKILL)
    wait_until(lambda: len(workers(fresh) - first) == 1, "a new worker")
    fresh.wait_until_answering()
    killed = scrape(fresh)
    assert_nothing_fell(before, killed)
    get_many(fresh, 10)
    assert models_counted(fresh) == 50

    second = workers(fresh)
    fresh.process.send_signal(signal.SIGHUP)  # the settings are read again, and all workers are new
    wait_until(lambda: len(workers(fresh)) == 2 and not workers(fresh) & second, "new workers")
    fresh.wait_until_answering()
    assert_nothing_fell(killed, scrape(fresh))
    assert models_counted(fresh) == 50
    # One series for each, not one for each process that ever was.
    assert "pid=" not in scrape(fresh).text
    (folder,) = (fresh.folder / "run").glob("metrics-*")
    assert len(list(folder.glob("histogram_*.db"))) <= 4, "no more files than there were workers at a time"


def test_files_do_not_grow_with_the_workers_that_ended(simulator: Simulator, tmp_path: Path) -> None:
    """Workers are replaced after five requests, and killed."""
    with running_service(tmp_path, simulator.url, workers=1, GUNICORN_CMD_ARGS="--max-requests 5") as service:
        service.wait_until_answering()
        (folder,) = (service.folder / "run").glob("metrics-*")
        for _ in range(3):
            before, counted = workers(service), models_counted(service) or 0

            def is_replaced(old: set[int] = before) -> bool:
                service.get("/models")
                return bool(workers(service)) and not workers(service) & old

            wait_until(is_replaced, "a new worker")
            service.wait_until_answering()
            assert (models_counted(service) or 0) > counted
        os.kill(min(workers(service)), signal.SIGKILL)
        service.wait_until_answering()
        assert len(list(folder.glob("counter_*.db"))) <= 2, "an old worker and its successor at a time"


@needs_promtool
def test_promtool_has_nothing_against_it(service: Service) -> None:
    get_many(service, 8)
    assert service.post("/txt2img", {**BODY, "steps": 0}).status_code == 422
    assert promtool_says(scrape(service).text) == ""


def test_services_that_share_a_folder_count_apart_and_begin_anew(
    service: Service, service_simulator: Simulator, tmp_path: Path
) -> None:
    shared = service.folder / "run"
    get_many(service, 5)
    before = models_counted(service)
    with running_service(tmp_path / "other", service_simulator.url, RUNTIME_DIR=str(shared)) as other:
        other.wait_until_answering()
        assert models_counted(other) is None
        get_many(other, 3)
        assert (models_counted(service), models_counted(other)) == (before, 3)
        assert len(list(shared.glob("metrics-*"))) == 2
    assert models_counted(service) == before
    assert len(list(shared.glob("metrics-*"))) == 1, "it took its folder with it"


def test_a_worker_without_room_for_its_metrics_serves_all_the_same(simulator: Simulator, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # No file may be as large as those that are set aside, as on a disk that is all but full.
        command = ["sh", "-c", 'ulimit -f 256 && exec "$@"', "sh", sys.executable, "-m", "gunicorn", "-w", "1"]
        command += ["-b", f"fd://{listener.fileno()}", "-c", str(ROOT / "gunicorn.conf.py"), "stable_diffusion_api:app"]
        with started(command, tmp_path, listener, SD_WEBUI_URL=simulator.url) as service:
            service.wait_until_answering()
            get_many(service, 3)
            assert models_counted(service) == 3
            (line,) = [line for line in lines(service) if "metrics" in line["message"]]
            assert line["level"] == "ERROR"


def lines(service: Service) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.printed.splitlines()]


def test_one_id_from_the_caller_to_the_webui(service: Service, service_simulator: Simulator) -> None:
    answer = service.post("/txt2img", BODY, headers={"X-Request-ID": "from-the-caller.1"})
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"] == "from-the-caller.1"
    (received,) = service_simulator.generations
    assert json.loads(received.body)["force_task_id"] == "from-the-caller.1"
    (line,) = [line for line in lines(service) if line.get("request_id") == "from-the-caller.1"]
    assert line["message"] == "request"


def test_each_request_has_one_line_with_what_an_operator_asks_for(
    service: Service, service_simulator: Simulator
) -> None:
    painted = service.post("/txt2img", {**BODY, "batch_size": 2}, headers={"X-Request-ID": "painted"})
    service_simulator.set_fault("oom", times=1)
    service.post("/txt2img", {**BODY, "seed": 5}, headers={"X-Request-ID": "failed"})
    service.post("/txt2img", {**BODY, "steps": 0}, headers={"X-Request-ID": "refused"})
    logged = {line["request_id"]: line for line in lines(service) if line["message"] == "request"}

    done = logged["painted"]
    assert done.keys() >= {"time", "level", "seconds", "queue_seconds", "webui_seconds", "store_seconds"}
    assert (done["method"], done["route"], done["status"]) == ("POST", f"{PREFIX}/txt2img", 200)
    assert (done["bytes_in"], done["bytes_out"]) == (len(painted.request.body or b""), len(painted.content))
    assert (done["mode"], done["model"], done["webui"]) == ("txt2img", painted.json()["model"], 0)
    assert done["seeds"] == [image["seed"] for image in painted.json()["images"]]
    assert done["seed"] == done["seeds"][0]

    failed = logged["failed"]
    assert (failed["status"], failed["code"], failed["webui"], failed["seed"]) == (503, "gpu_out_of_memory", 0, 5)
    assert "webui_seconds" in failed
    assert "store_seconds" not in failed
    assert any(
        line["level"] == "WARNING" and "gpu_out_of_memory" in line["message"]
        for line in lines(service)
        if line.get("request_id") == "failed"
    ), "a fault has a separate line"
    assert (logged["refused"]["status"], logged["refused"]["code"]) == (422, "validation_error")
    assert "webui" not in logged["refused"]
