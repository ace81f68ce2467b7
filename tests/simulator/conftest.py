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
def api_of() -> Iterator[Callable[[Simulator], Api]]:
    """Talk to a simulator that somebody else ends."""
    made: list[Api] = []

    def talk(sim: Simulator) -> Api:
        made.append(Api(sim))
        return made[-1]

    yield talk
    for api in made:
        api.session.close()


@pytest.fixture
def start(api_of) -> Iterator[Callable[..., Api]]:
    """Start simulators that end with the test."""
    started: list[Simulator] = []

    def start_one(**settings) -> Api:
        started.append(Simulator(**settings))
        started[-1].start()
        return api_of(started[-1])

    yield start_one
    for sim in started:
        sim.close()


@pytest.fixture(scope="module")
def shared_sim() -> Iterator[Simulator]:
    with Simulator() as sim:
        yield sim


@pytest.fixture
def api(shared_sim: Simulator, api_of) -> Api:
    """The module's A1111 in web-UI mode; tests leave its options as they were."""
    shared_sim.clear_faults()
    shared_sim.forget_requests()
    return api_of(shared_sim)
