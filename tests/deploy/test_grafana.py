"""The dashboard: what is drawn is there, with a real Prometheus that asks the real service."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
from PIL import Image

from simulator import Simulator
from tests.running import DEADLINE_S, ROOT, RedisServer, Service, free_port, running_service, wait_until

GRAFANA = ROOT / "deploy" / "grafana"
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", [])]

BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}
KEY = {"X-API-Key": "k1"}

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (apt-get install prometheus)"
)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dashboard", GRAFANA / "make_dashboard.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_file_is_what_the_generator_writes() -> None:
    assert (GRAFANA / "dashboard.json").read_text(encoding="utf-8") == generator().text()


def test_the_panels_lie_beside_each_other() -> None:
    cells = [
        (x, y)
        for panel in PANELS
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


class Prometheus:
    """A running one."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self._url}/-/ready", timeout=DEADLINE_S).status_code == 200
        except requests.ConnectionError:
            return False

    def query(self, expression: str) -> list[float]:
        answer = requests.get(f"{self._url}/api/v1/query", params={"query": expression}, timeout=DEADLINE_S).json()
        assert answer["status"] == "success", (expression, answer)
        return [float(sample["value"][1]) for sample in answer["data"]["result"]]

    def rules(self) -> list[dict[str, Any]]:
        groups = requests.get(f"{self._url}/api/v1/rules", timeout=DEADLINE_S).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def running_prometheus(folder: Path, service: Service) -> Iterator[Prometheus]:
    """With the project's own configuration; only how often it asks, and whom, are this test's."""
    shutil.copytree(PROMETHEUS, folder / "prometheus")
    configuration = folder / "prometheus" / "prometheus.yml"
    text = configuration.read_text()
    for there in ("scrape_interval: 15s", "evaluation_interval: 15s"):
        assert text.count(there) == 1
        text = text.replace(there, there.replace("15s", "1s"))
    configuration.write_text(text)
    targets = folder / "prometheus" / "targets.yml"
    targets.write_text(targets.read_text().replace("localhost:5002", f"127.0.0.1:{service.port}"))
    port = free_port()
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        prometheus = Prometheus(port)
        wait_until(prometheus.is_ready, "Prometheus is ready")
        yield prometheus
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def asked_by_grafana(expression: str) -> str:
    return expression.replace("$__rate_interval", "1m").replace("$job", "stable-diffusion-api")


def has_data(prometheus: Prometheus, expression: str) -> bool:
    return any(math.isfinite(value) for value in prometheus.query(asked_by_grafana(expression)))


@needs_prometheus
def test_every_panel_shows_something(tmp_path: Path, redis_server: RedisServer) -> None:
    settings = {"REDIS_URL": redis_server.url, "API_KEYS": "k1", "SD_QUEUE_TIMEOUT": "20"}
    with (
        Simulator() as first,
        Simulator(device="cpu") as second,
        running_service(tmp_path / "service", f"{first.url},{second.url}", **settings) as service,
        running_prometheus(tmp_path, service) as prometheus,
    ):
        service.wait_until_answering()
        wait_until(lambda: prometheus.query('up{job="stable-diffusion-api"}') == [1.0], "Prometheus asks the service")
        wait_until(lambda: has_data(prometheus, "sd_api_webuis_available > 0"), "the WebUIs have been seen")
        everyday(service)
        in_trouble(service, first, redis_server, prometheus)
        silent = dict.fromkeys(QUERIES)

        def all_speak() -> bool:
            everyday(service)
            for query in [query for query in silent if has_data(prometheus, query[1])]:
                del silent[query]
            return not silent

        try:
            wait_until(all_speak, "every panel has data")
        except AssertionError:
            pytest.fail(f"no data: {list(silent)}")
        rules_hold(prometheus)


def rules_hold(prometheus: Prometheus) -> None:
    """Each is computed, and what they are recorded as can be asked for."""
    wait_until(lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"}, "all rules are in order")
    for rule in prometheus.rules():
        if rule["type"] == "recording":
            wait_until(lambda name=rule["name"]: has_data(prometheus, name), f"{rule['name']} is recorded")  # type: ignore[misc]
    # What SdApiRestarting looks at.
    assert has_data(prometheus, 'sd_api_http_requests_total{route="/metrics",method="GET",status="200"}')


def everyday(service: Service) -> None:
    """What callers do, and get wrong."""
    for model in ("sd-v1-5", "sdxl"):
        answer = service.post("/txt2img", {**BODY, "model": model}, headers=KEY)
        assert answer.status_code == 200, answer.text
    path = f"/image/{answer.json()['image_id']}"
    assert service.get(path).status_code == 200
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    sent = {"prompt": (None, "b"), "image": ("a.png", picture.getvalue()), "steps": (None, "1")}
    assert service.post("/img2img", files=sent, headers=KEY).status_code == 200
    assert requests.delete(service.url + path, headers=KEY, timeout=DEADLINE_S).status_code == 204
    assert service.post("/txt2img", {**BODY, "steps": 0}, headers=KEY).status_code == 422
    assert service.get("/models").status_code == 401


def in_trouble(service: Service, webui: Simulator, redis_server: RedisServer, prometheus: Prometheus) -> None:
    """Each kind of failure once, until Prometheus has seen it."""
    webui.set_fault("error-plain", times=1)
    assert until_failed(lambda: service.post("/txt2img", BODY, headers=KEY)).status_code == 502
    again = {**KEY, "Idempotency-Key": "k"}
    assert [service.post("/txt2img", BODY, headers=again).status_code for _ in range(2)] == [200, 200]
    redis_server.stop()
    wait_until(lambda: prometheus.query("sd_api_redis_up") == [0.0], "Redis is seen to be away")
    redis_server.start()
    wait_until(lambda: prometheus.query("sd_api_redis_up") == [1.0], "Redis is seen to be back")
    incoming = service.images / ".incoming"

    def is_no_folder() -> bool:
        try:  # the workers put a probe there now and then, and make the folder for it
            shutil.rmtree(incoming)
            incoming.write_text("no folder")
        except OSError:
            return incoming.is_file()
        return True

    wait_until(is_no_folder, "there is no folder for what is to be stored")
    wait_until(lambda: prometheus.query("sd_api_storage_up") == [0.0], "the storage is seen to fail")
    assert service.post("/txt2img", BODY, headers=KEY).json()["image_url"] is None
    incoming.unlink()
    wait_until(lambda: prometheus.query("sd_api_storage_up") == [1.0], "the storage is seen to be back")


def until_failed(call: Callable[[], requests.Response]) -> requests.Response:
    """The fault is of one WebUI; jobs may go to the other."""
    answers: list[requests.Response] = []

    def failed() -> bool:
        answers.append(call())
        return answers[-1].status_code != 200

    wait_until(failed, "a job meets the fault")
    return answers[-1]
