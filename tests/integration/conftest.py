from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from flask.testing import FlaskClient

from simulator import Simulator
from tests.running import service_in_process

Start = Callable[..., FlaskClient]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


@pytest.fixture
def start(stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts some WebUIs, and the service in front of them; all end with the test."""

    def starting(*webuis: Simulator, **settings: str) -> FlaskClient:
        urls = ",".join(stack.enter_context(webui).url for webui in webuis)
        folder = tmp_path_factory.mktemp("service")
        return stack.enter_context(service_in_process(folder, urls, **settings)).test_client()

    return starting
