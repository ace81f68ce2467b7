"""Trials of LoRAs and reference pictures over workers, hosts and restarts: each is made once."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
import requests

from simulator import Simulator
from tests.integration.test_reference import REFERENCE
from tests.pool.callers import health, wait_for_webuis, when
from tests.pool.conftest import MakeWebUIs, StartService
from tests.running import RedisServer, Service

LORA = {"loras": [{"name": "add-detail"}]}


def generate(service: Service, **extras: Any) -> None:
    body = {"prompt": "a", "width": 64, "height": 64, "steps": 2, "response_format": "url", **extras}
    answer = requests.post(f"{service.url}/txt2img", json=body, timeout=60)
    assert answer.status_code == 200, answer.text


def small_pictures(webui: Simulator) -> int:
    prompts = [json.loads(received.body)["prompt"] for received in webui.generations]
    return sum(prompt.endswith("a small picture") for prompt in prompts)


@pytest.mark.parametrize("extras", [LORA, REFERENCE], ids=["lora", "reference"])
@pytest.mark.parametrize("shared_by", ["runtime_dir", "redis"])
def test_what_one_worker_has_tried(
    make_webuis: MakeWebUIs,
    start_service: StartService,
    redis_server: RedisServer,
    extras: dict[str, Any],
    shared_by: str,
) -> None:
    [webui] = make_webuis(1)
    settings, hosts = ({"REDIS_URL": redis_server.url}, "ab") if shared_by == "redis" else ({}, "aa")
    workers = [start_service([webui], host=host, **settings) for host in hosts]
    threads = [threading.Thread(target=generate, args=(one,), kwargs=extras) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert small_pictures(webui) == 2, "without it, and with it"
    for one in workers:
        generate(one, **extras)
    assert len(webui.generations) == 2 + 4


def test_a_service_that_starts_again(make_webuis: MakeWebUIs, start_service: StartService) -> None:
    [webui] = make_webuis(1)
    first = start_service([webui])
    generate(first, **LORA)
    assert first.stop() == 0
    generate(start_service([webui]), **LORA)
    assert small_pictures(webui) == 2


def test_a_webui_that_starts_again(make_webuis: MakeWebUIs, start_service: StartService) -> None:
    """It may have other files."""
    [webui] = make_webuis(1)
    service = start_service([webui])
    generate(service, **LORA)
    webui.set_fault("refuse", route="*")
    when(lambda: health(service)["webuis"]["available"] == 0, "it is down")
    webui.clear_faults()
    wait_for_webuis(service, 1)
    generate(service, **LORA)
    assert small_pictures(webui) == 4
