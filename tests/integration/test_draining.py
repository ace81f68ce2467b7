"""A service that is told to stop says so while its own job still runs, and drops what waits."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from simulator import Simulator
from tests.api.answers import problem_of
from tests.running import running_service, wait_until

BODY = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}


def test_the_running_job_ends_while_waiting_and_new_ones_are_refused(tmp_path: Path) -> None:
    with (
        Simulator() as webui,
        running_service(tmp_path, webui.url, workers=1) as service,
        ThreadPoolExecutor(2) as threads,
    ):
        service.wait_until_answering()
        webui.set_fault("slow:seconds=3:times=1")
        jobs = [threads.submit(service.post, "/txt2img", BODY) for _ in range(2)]
        wait_until(lambda: len(webui.generations) == 1, "the WebUI paints")
        wait_until(lambda: service.get("/health").json()["queue"]["waiting"] == 1, "the other waits")
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: service.get("/health").json()["status"] == "draining", "health says so")
        assert service.get("/health").status_code == 503
        refused = service.post("/txt2img", BODY)
        assert service.stop() == 0
        answers = [job.result() for job in jobs]
        assert sorted(answer.status_code for answer in answers) == [200, 503]
        for answer in (refused, *(one for one in answers if one.status_code == 503)):
            problem = problem_of(answer)
            assert (problem["code"], problem["retryable"]) == ("draining", True)
            assert int(answer.headers["Retry-After"]) > 0
        assert len(webui.generations) == 1
        assert not [one for one in webui.requests if one.route == "interrupt"]
