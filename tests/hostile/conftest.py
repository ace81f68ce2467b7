from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulator import Simulator
from tests.running import Service, running_service


@pytest.fixture(scope="module")
def attacked(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two workers, whose queue is short: some 170 threads each."""
    shared_simulator.clear_faults()
    folder = tmp_path_factory.mktemp("attacked")
    with running_service(folder, shared_simulator.url, SD_QUEUE_LIMIT="4") as service:
        service.wait_until_answering()
        yield service
        assert "WORKER TIMEOUT" not in service.printed
        assert "Traceback" not in service.printed
