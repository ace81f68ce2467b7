from __future__ import annotations

import gc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest
from flask import Flask
from flask.testing import FlaskClient

from simulator import Simulator
from tests.running import RedisServer, Service, running_service, service_in_process

# No deadlines: machines are noisy. Where a change is judged, the same examples come every time; by hand, new ones.
hypothesis.settings.register_profile("calm", deadline=None)
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.load_profile("same" if os.environ.get("CI") else "calm")

MakeApp = Callable[..., Flask]

#: The files that take longest. They begin first, in this order, so that none is left when the others are done.
LONGEST = (
    *("browser/test_studio_trouble.py", "pool/test_failures.py", "hostile/test_signals.py"),
    *("browser/test_studio_looks.py", "integration/test_schemathesis.py", "pool/test_sharing.py"),
    *("browser/test_docs_page.py", "hostile/test_closing.py", "browser/test_studio_code.py"),
    *("integration/test_start.py", "test_docs_site.py", "pool/test_redis_failures.py"),
    *("browser/test_studio_generate.py", "integration/test_broken_models.py", "hostile/test_bodies.py"),
    "browser/test_studio_extras.py",
    *("pool/test_deadline.py", "browser/test_studio_mask.py", "examples/test_examples.py"),
    *("integration/test_runtime_folder.py", "integration/test_shared_webui.py", "integration/test_koboldcpp.py"),
    *("sd_client/test_shared_schedule.py", "tools/test_run.py", "pool/test_requests.py", "hostile/test_decoding.py"),
    *("bench/test_stopping.py", "webui/test_contract.py", "integration/test_flavours.py", "hostile/test_pipelines.py"),
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Thousands of tests are made, and all stay: a garbage collector that walks them takes a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    assert [name for name in LONGEST if not (folder / name).is_file()] == []
    places = {folder / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Make the whole service in this process with settings of the environment; its threads end with the test."""
    with ExitStack() as stack:

        def make(webui_url: str, **settings: str) -> Flask:
            folder = tmp_path / uuid4().hex
            return stack.enter_context(service_in_process(folder, webui_url, **settings))

        yield make


@pytest.fixture(scope="module")
def make_shared_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeApp]:
    """As `make_app`, for an app that all tests of a module share: making one costs more than most requests."""
    with ExitStack() as stack:

        def make(webui_url: str, **settings: str) -> Flask:
            folder = tmp_path_factory.mktemp("service")
            return stack.enter_context(service_in_process(folder, webui_url, **settings))

        yield make


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[Simulator]:
    """One WebUI for a module's tests; see `simulator` for how each finds it."""
    with Simulator() as running:
        yield running


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:
    """The module's WebUI without faults and without a past."""
    shared_simulator.clear_faults()
    shared_simulator.forget_requests()
    return shared_simulator


@pytest.fixture(scope="module")
def app(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The service in this process, in front of the module's WebUI."""
    with service_in_process(tmp_path_factory.mktemp("service"), shared_simulator.url) as made:
        yield made


@pytest.fixture
def client(app: Flask, simulator: Simulator) -> FlaskClient:
    """Speaks to `app`; the WebUI behind it has no faults and no past."""
    return app.test_client()


@pytest.fixture(scope="session")
def service_simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture(scope="session")
def running(service_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("service"), service_simulator.url) as service:
        service.wait_until_answering()
        yield service


@pytest.fixture
def service(running: Service, service_simulator: Simulator) -> Service:
    """gunicorn with two workers, shared by the session; the WebUI behind it has no faults and no past."""
    service_simulator.clear_faults()
    service_simulator.forget_requests()
    return running


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Not tmp_path: the path of a Unix socket may have 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="sd-", dir="/tmp" if os.path.isdir("/tmp") else None) as path:
        yield Path(path)


@pytest.fixture
def redis_server(short_folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(short_folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_mounts() -> list[str]:
    """What starts a process in a mount namespace: what is mounted there is gone with it, however it ends."""
    prefix = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    trial = ["mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, *trial], capture_output=True).returncode != 0:
        pytest.skip("mounting a small filesystem is not allowed here")
    return prefix
