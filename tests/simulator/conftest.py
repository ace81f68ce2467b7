from collections.abc import Callable, Iterator

import pytest
import requests

from simulator import Simulator


class Api:
    """One WebUI's HTTP API, answers uncompressed."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.session = requests.Session()
        self.session.headers["Accept-Encoding"] = "identity"

    def get(self, name: str, **kwargs) -> requests.Response:
        return self.session.get(f"{self.sim.url}/sdapi/v1/{name}", timeout=20, **kwargs)

    def post(self, name: str, body: object = None, **kwargs) -> requests.Response:
        return self.session.post(f"{self.sim.url}/sdapi/v1/{name}", json=body, timeout=20, **kwargs)

    def paint(self, **body) -> dict:
        """A small txt2img that works."""
        response = self.post("txt2img", {"prompt": "a cat", "steps": 1, "width": 64, "height": 64, "seed": 42, **body})
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
def start() -> Iterator[Callable[..., Api]]:
    """Start simulators that end with the test."""
    started: list[Api] = []

    def start_one(**settings) -> Api:
        sim = Simulator(**settings)
        sim.start()
        started.append(Api(sim))
        return started[-1]

    yield start_one
    for api in started:
        api.session.close()
        api.sim.close()


@pytest.fixture(scope="module")
def shared_api() -> Iterator[Api]:
    with Simulator() as sim:
        api = Api(sim)
        yield api
        api.session.close()


@pytest.fixture
def api(shared_api: Api) -> Api:
    """The module's A1111 in web-UI mode; tests leave its options as they were."""
    shared_api.sim.clear_faults()
    shared_api.sim.forget_requests()
    return shared_api


@pytest.fixture(scope="session")
def shared_sdcpp() -> Iterator[Api]:
    with Simulator(flavour="sdcpp") as sim:
        api = Api(sim)
        yield api
        api.session.close()
