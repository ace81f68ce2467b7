"""Large pictures wait for one another, and nobody else for them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from PIL import Image

from simulator import Simulator
from tests.api.bad_inputs import PNG, VALID, text
from tests.hostile.innocent import SMALL, assert_nothing_noticed, innocent_callers
from tests.hostile.wire import head
from tests.running import DEADLINE_S, PREFIX, Service, running_service, wait_until
from tests.services import picture_samples as samples

#: Each takes the memory of several pictures of 50 MP.
CPUS = os.cpu_count() or 1
pytestmark = pytest.mark.skipif(CPUS > 4, reason="as many large pictures as processors would take too much memory")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Simulator() as webui, running_service(tmp_path_factory.mktemp("decoding"), webui.url, workers=1) as running:
        running.wait_until_answering()
        running.post("/txt2img", SMALL)
        yield running


def test_nobody_waits_for_others_pictures_longer_than_he_wants_to(service: Service) -> None:
    photo = samples.encode(Image.new("RGBA", (8192, 6144), (200, 100, 50, 200)))  # 50 MP, as a phone has them
    large = {**SMALL, "image": text(photo)}

    def paint(_: int) -> requests.Response:
        return service.post("/img2img", large)

    with ThreadPoolExecutor(2 * CPUS) as callers, innocent_callers(service.root) as innocent:
        others = [callers.submit(paint, number) for number in range(2 * CPUS)]
        time.sleep(1)  # they are being decoded, and wait

        begun = time.monotonic()
        late = service.post("/img2img", {**VALID["img2img"], "steps": 1}, headers={"Prefer": "wait=1"})
        in_time_s = time.monotonic() - begun
        assert late.json()["code"] == "queue_timeout"

        body = b'{"prompt":"a","image":"' + text(PNG).encode() + b'"}'
        with socket.create_connection(("127.0.0.1", service.port), timeout=DEADLINE_S) as gone:
            fields = "Content-Type: application/json", f"Content-Length: {len(body)}"
            gone.sendall(head("POST", f"{PREFIX}/img2img", *fields) + body)
        wait_until(lambda: '"status":499' in service.printed.replace(" ", ""), "it is seen that he left")
        assert not all(other.done() for other in others)

        assert {other.result().status_code for other in others} == {200}
    print(f"wait=1 {in_time_s:.2f} s; waits: {[round(calls.worst_s, 2) for calls in innocent]} s")
    assert_nothing_noticed(*innocent)
