from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from simulator import Simulator
from tests.pool.callers import Callers, callers, wait_for_webuis
from tests.pool.webuis import STEP_TIME, SimulatorProcess, WebUI, urls
from tests.running import Service, running_service

MakeWebUIs = Callable[..., list[Simulator]]
MakeProcesses = Callable[..., list[SimulatorProcess]]
StartService = Callable[..., Service]


@pytest.fixture(name="callers")
def many_callers() -> Iterator[Callers]:
    with callers() as made:
        yield made


@pytest.fixture
def make_webuis() -> Iterator[MakeWebUIs]:
    """Simulators in this process."""
    with ExitStack() as stack:

        def make(count: int, **settings: Any) -> list[Simulator]:
            settings = {"step_time": STEP_TIME, **settings}
            return [stack.enter_context(Simulator(**settings)) for _ in range(count)]

        yield make


@pytest.fixture
def make_processes() -> Iterator[MakeProcesses]:
    """Simulators that can be killed and frozen."""
    started: list[SimulatorProcess] = []

    def make(count: int, *options: str) -> list[SimulatorProcess]:
        made = [SimulatorProcess(*options) for _ in range(count)]
        for webui in made:
            webui.start()
        started.extend(made)
        return made

    yield make
    for webui in started:
        webui.kill()


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[StartService]:
    """The service in front of WebUIs; every worker has seen them all. ``host``: services of one share RUNTIME_DIR."""
    with ExitStack() as stack:

        def start(webuis: list[WebUI], *, host: str = "host", workers: int = 1, **settings: str) -> Service:
            folder = tmp_path / f"{host}-{len(list(tmp_path.iterdir()))}"
            settings = {"RUNTIME_DIR": str(tmp_path / host), "SD_MODEL": "v1-5-pruned-emaonly", **settings}
            service = stack.enter_context(running_service(folder, urls(webuis), workers=workers, **settings))
            service.wait_until_answering()
            wait_for_webuis(service, len(webuis))
            return service

        yield start
