"""Jobs that take too long, and callers that go away."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from simulator import Simulator
from tests.pool.callers import Callers, health, paint, statuses, wait_for_no_lease, wait_for_queue, when
from tests.pool.conftest import MakeWebUIs, StartService
from tests.pool.webuis import assert_never_crowded, jobs_of
from tests.running import DEADLINE_S, PREFIX, Service, free_port, wait_until


def interrupted(webui: Simulator) -> bool:
    return any(one.route == "interrupt" for one in webui.requests)


def test_a_job_over_its_time_is_interrupted_and_the_next_waits_for_its_end(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    webuis = make_webuis(1, step_time=30.0)  # half a second a step: an interrupt takes that long
    service = start_service(webuis, SD_TIMEOUT="1")
    long = callers.paint(service, seconds=0.5)
    when(lambda: jobs_of(webuis[0]), "it runs")
    next_one = callers.paint(service, seconds=0.01)
    assert (long.result().status, long.result().code) == (504, "webui_timeout")
    assert next_one.result().status == 200
    assert interrupted(webuis[0])
    assert_never_crowded(webuis)
    wait_for_no_lease(service)


def test_with_two_slots_an_interrupt_hits_nobody_else(
    callers: Callers, make_webuis: MakeWebUIs, start_service: StartService
) -> None:
    """The WebUI paints one after the other: the job to be ended waits in it while another one is being painted."""
    (webui,) = make_webuis(1)
    service = start_service([webui], SD_WEBUI_SLOTS="2")
    other = callers.paint(service, seconds=1.5, seed=5, headers={"X-Request-ID": "other"})
    when(lambda: jobs_of(webui), "it runs")
    ended = callers.paint(service, seconds=2, headers={"Prefer": "wait=1"})
    assert ended.result().code == "webui_timeout"
    assert other.result().status == 200
    wait_for_no_lease(service)
    assert interrupted(webui)
    assert paint(service, seconds=1.5, seed=5, headers={"X-Request-ID": "again"}).status == 200
    pictures = [image_of(service, name) for name in ("other", "again")]
    assert pictures[0] == pictures[1], "whole, as if it had been alone"


def image_of(service: Service, name: str) -> bytes:
    (image_id,) = service.get(f"/requests/{name}").json()["image_ids"]
    return service.get(f"/image/{image_id}").content


# --- Behind nginx -----------------------------------------------------------------------------------------------------

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

_NGINX_CONF = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 32m;
    location / {{ proxy_pass {service}; proxy_read_timeout 430s; proxy_next_upstream off; }}
  }}
}}
"""


@pytest.fixture
def front(make_webuis: MakeWebUIs, start_service: StartService, short_folder: Path) -> Iterator[tuple[Service, int]]:
    """A service and the port of an nginx in front of it."""
    if NGINX is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
    service = start_service(make_webuis(1))
    port = free_port()
    conf = short_folder / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(folder=short_folder, port=port, service=service.root))
    process = subprocess.Popen([NGINX, "-c", str(conf), "-e", str(short_folder / "error.log")])

    def answers() -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{port}{PREFIX}/health", timeout=5).ok
        except requests.ConnectionError:
            return False

    try:
        wait_until(answers, "nginx answers")
        yield service, port
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def test_a_caller_hangs_up_behind_nginx(callers: Callers, front: tuple[Service, int]) -> None:
    service, port = front
    running, waiting = (send_job(port) for _ in range(2))
    wait_for_queue(service, 1)
    waiting.close()
    wait_for_queue(service, 0)
    assert health(service)["webuis"]["busy"] == 1
    running.close()
    wait_for_no_lease(service)  # long before the job would have ended


def send_job(port: int) -> socket.socket:
    """A job of some 75 s, over a new connection."""
    body = json.dumps({"prompt": "a", "width": 512, "height": 512, "steps": 75}).encode()
    head = f"POST {PREFIX}/txt2img HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_many_hang_up_and_nothing_stays(make_webuis: MakeWebUIs, start_service: StartService) -> None:
    webuis = make_webuis(2)
    service = start_service(webuis)
    connections = [send_job(service.port) for _ in range(20)]
    wait_for_queue(service, 18)
    for connection in connections:
        connection.close()
    wait_for_no_lease(service)
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda _: paint(service, seconds=0.1), range(4)))
    assert statuses(outcomes) == {"200": 4}
    assert_never_crowded(webuis)
