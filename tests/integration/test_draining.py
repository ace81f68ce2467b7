"""A worker that was told to stop says so while its own job still runs."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

from simulator import Simulator
from tests.running import running_service, wait_until

BODY = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}


def test_health_and_new_jobs_are_told_while_the_running_one_ends(tmp_path) -> None:
    with (
        Simulator() as webui,
        running_service(tmp_path, webui.url, workers=1) as service,
        ThreadPoolExecutor(1) as thread,
    ):
        service.wait_until_answering()
        webui.set_fault("slow:seconds=2:times=1")
        running = thread.submit(service.post, "/txt2img", BODY)
        wait_until(lambda: len(webui.generations) == 1, "the job runs")
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: service.get("/health").json()["status"] == "draining", "health tells")
        assert service.get("/health").status_code == 503
        refused = service.post("/txt2img", BODY)
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert int(refused.headers["Retry-After"]) > 0
        assert running.result().status_code == 200
        assert service.stop() == 0
        assert len(webui.generations) == 1
