import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.simulator.pixels import until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run() -> Iterator:
    processes = []

    def start(*args: str) -> tuple[subprocess.Popen, str]:
        command = [sys.executable, "-m", "simulator", "--port", "0", *args]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process, process.stdout.readline()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def url_of(line: str) -> str:
    return line.split()[-1]


def test_one_line_says_where_it_is(run):
    _, line = run()
    assert re.fullmatch(r"simulated WebUI \(a1111\) on http://127\.0\.0\.1:\d+\n", line)
    assert requests.get(f"{url_of(line)}/sdapi/v1/sd-models", timeout=20).status_code == 200


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_even_while_a_job_runs(run, name):
    process, line = run("--step-time", "1000")
    url = url_of(line)

    def ask() -> None:
        with pytest.raises(requests.ConnectionError):
            requests.post(f"{url}/sdapi/v1/txt2img", json={"steps": 150}, timeout=60)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: requests.get(f"{url}/simulator/state", timeout=20).json()["generations"], "the job has come")
    process.send_signal(name)
    output, errors = process.communicate(timeout=20)
    asking.join()
    assert (process.returncode, output, errors) == (0, "", "")


def test_all_settings(run):
    _, line = run(
        *("--flavour", "forge", "--step-time", "0", "--load-time", "0", "--device", "cpu", "--model", "b.safetensors"),
        *("--model", "a.safetensors", "--samples-format", "jpg", "--api-auth", "me:secret", "--prefix", "/here"),
        *("--startup-time", "0", "--fault", "oom:times=1", "--controlnet", "none"),
    )
    url = url_of(line)
    assert line.startswith("simulated WebUI (forge) on http://127.0.0.1:")
    assert url.endswith("/here")
    auth = ("me", "secret")
    models = requests.get(f"{url}/sdapi/v1/sd-models", auth=auth, timeout=20).json()
    assert [model["model_name"] for model in models] == ["a", "b"]
    assert models[1]["hash"]
    memory = requests.get(f"{url}/sdapi/v1/memory", auth=auth, timeout=20).json()
    assert memory["cuda"] == {"error": "unavailable"}
    assert requests.get(f"{url}/controlnet/control_types", auth=auth, timeout=20).status_code == 404
    body = {"prompt": "a", "steps": 1, "width": 64, "height": 64}
    answers = [requests.post(f"{url}/sdapi/v1/txt2img", json=body, auth=auth, timeout=20) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [500, 200]
    assert answers[1].json()["images"][0].startswith("/9j/")


@pytest.mark.parametrize(
    "args", [["--fault", "nope"], ["--flavour", "nope"], ["--step-time", "x"], ["--controlnet", "nope"]]
)
def test_bad_arguments_are_explained(run, args):
    process, line = run(*args)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, line) == (2, "")
    assert "nope" in errors or "invalid float" in errors
