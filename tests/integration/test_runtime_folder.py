"""RUNTIME_DIR is deleted while the service runs, or full: nobody gets a 500, and it heals."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from simulator import Simulator
from state.sqlite import STATE_FILE
from tests.api.answers import problem_of
from tests.conftest import MakeApp
from tests.running import DEADLINE_S, PREFIX, ROOT, Service, running_service, started, wait_until

SMALL = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}


def delete(folder: Path) -> None:
    """At one moment: what is written meanwhile would keep a folder from being removed."""
    shutil.rmtree(folder.rename(folder.with_name("deleted")))


def workers(service: Service) -> set[int]:
    master = service.process.pid
    return {int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()}


def holders(folder: Path) -> int:
    """How many workers have started: one that is in the middle of it may fail where RUNTIME_DIR is deleted."""
    return len(list((folder / "run" / "holders").iterdir()))


def waiting(service: Service) -> int:
    return int(service.get("/health").json()["queue"]["waiting"])


def mounted(folder: Path, options: str) -> list[str]:
    """The beginning of a command, which goes on with a small file system there."""
    return ["sh", "-c", f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"', str(folder)]


@contextlib.contextmanager
def gunicorn(folder: Path, prefix: list[str], **settings: str) -> Iterator[Service]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [*prefix, sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"fd://{listener.fileno()}"]
        command += ["-c", str(ROOT / "gunicorn.conf.py"), "stable_diffusion_api:app"]
        with started(command, folder, listener, **settings) as service:
            yield service


def metrics(service: Service) -> requests.Response:
    return requests.get(f"{service.root}/metrics", timeout=DEADLINE_S)


def test_it_is_deleted_while_jobs_run_and_wait(simulator: Simulator, tmp_path: Path) -> None:
    with running_service(tmp_path, simulator.url) as service, ThreadPoolExecutor(8) as threads:
        service.wait_until_answering()
        wait_until(lambda: holders(tmp_path) == 2, "both workers are there")
        simulator.set_fault("hang-before")
        jobs = [threads.submit(service.post, "/txt2img", SMALL) for _ in range(4)]
        wait_until(lambda: all(waiting(service) == 3 for _ in range(8)), "both workers have seen three wait")
        delete(tmp_path / "run")
        jobs += [threads.submit(service.post, "/txt2img", SMALL) for _ in range(4)]
        wait_until(lambda: waiting(service) == 7, "all wait again")
        simulator.clear_faults()
        assert [job.result().status_code for job in jobs] == [200] * 8
        assert (len(simulator.generations), simulator.most_concurrent) == (8, 1)
        answer = service.post("/txt2img", SMALL)
        followed = service.get(f"/requests/{answer.headers['X-Request-ID']}")
        assert (answer.status_code, followed.json()["status"]) == (200, "done")
        shown = [metrics(service) for _ in range(4)]
        assert {one.status_code for one in shown} == {200}
        assert all("sd_api_jobs_total{" in one.text for one in shown)
        assert (tmp_path / "run").stat().st_mode & 0o077 == 0


def test_a_worker_that_begins_after_it_was_deleted(simulator: Simulator, tmp_path: Path) -> None:
    """gunicorn would give up altogether where one cannot."""
    with running_service(tmp_path, simulator.url) as service:
        service.wait_until_answering()
        wait_until(lambda: holders(tmp_path) == 2, "both workers are there")
        before = workers(service)
        delete(tmp_path / "run")
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(workers(service) - before) == 1, "another one begins")
        wait_until(lambda: service.printed.count("Booting worker") == 3, "it is started")
        for _ in range(20):
            assert service.post("/txt2img", SMALL).status_code == 200
            shown = metrics(service)
            assert shown.status_code == 200
            assert "sd_api_storage_up 1" in shown.text
        assert any("sd_api_jobs_total{" in metrics(service).text for _ in range(20)), "it counts again"
        wait_until(lambda: len(workers(service)) == 2, "both are there")  # the kernel's list may lack one for a moment
        assert service.printed.count("Booting worker") == 3


def test_it_is_full(own_mounts: list[str], simulator: Simulator, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(parents=True)
    mount = mounted(run, "size=8m,mode=700")
    with gunicorn(tmp_path, [*own_mounts, *mount], SD_WEBUI_URL=simulator.url) as service:
        service.wait_until_answering()
        assert service.post("/txt2img", SMALL).status_code == 200
        filling = Path(f"/proc/{service.process.pid}/root{run}/filling")
        with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

        def reasons() -> list[str]:
            listed: list[str] = service.get("/health").json()["reasons"]
            return listed

        wait_until(lambda: reasons() == ["runtime_dir_failing"], "health tells")
        answers = [service.post("/txt2img", SMALL) for _ in range(20)]
        assert {answer.status_code for answer in answers} <= {200, 503}
        for answer in answers:
            if answer.status_code == 503:
                assert problem_of(answer)["code"] == "queue_unavailable"
        assert {service.get(f"/requests/{n}").status_code for n in range(4)} == {404}
        assert metrics(service).status_code == 200
        assert "RUNTIME_DIR cannot be written: No space left on device" in service.printed
        filling.unlink()
        wait_until(lambda: all(reasons() == [] for _ in range(6)), "both workers heal")
        answer = service.post("/txt2img", SMALL)
        assert answer.status_code == 200
        assert service.get(f"/requests/{answer.headers['X-Request-ID']}").json()["status"] == "done"


def test_a_job_that_cannot_be_written_down(make_app: MakeApp, simulator: Simulator, tmp_path: Path) -> None:
    run = tmp_path / "run"
    client = make_app(simulator.url, RUNTIME_DIR=str(run)).test_client()
    assert client.post(f"{PREFIX}/txt2img", json=SMALL).status_code == 200
    file = run / STATE_FILE
    file.unlink()
    file.mkdir()
    refused = client.post(f"{PREFIX}/txt2img", json=SMALL)
    problem = problem_of(refused)
    assert (problem["status"], problem["code"], problem["retryable"]) == (503, "queue_unavailable", True)
    assert str(tmp_path) not in refused.text
    assert int(refused.headers["Retry-After"]) > 0
    assert problem_of(client.get(f"{PREFIX}/requests/unknown"))["code"] == "queue_unavailable"
    file.rmdir()
    assert client.post(f"{PREFIX}/txt2img", json=SMALL).status_code == 200
    assert len(simulator.generations) == 2


def test_a_form_needs_no_room_in_the_temporary_folder(
    own_mounts: list[str], simulator: Simulator, tmp_path: Path
) -> None:
    """However large its parts are: nothing of a body is written to a disk."""
    small = tmp_path / "small"
    small.mkdir()
    mount = mounted(small, "size=512k")
    with gunicorn(tmp_path, [*own_mounts, *mount], TMPDIR=str(small), SD_WEBUI_URL=simulator.url) as service:
        service.wait_until_answering()
        image = (ROOT / "docs" / "images" / "try-on.jpg").read_bytes() + bytes(3 * 1024 * 1024)
        form = {"prompt": "a" * 9000, "steps": "1", "width": "64", "height": "64"}
        for file in ("a.jpg", None):
            answer = requests.post(
                f"{service.url}/img2img", data=form, files={"image": (file, image)}, timeout=DEADLINE_S
            )
            assert answer.status_code == 200, answer.text
