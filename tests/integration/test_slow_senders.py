"""Senders that take their time hold neither health checks nor jobs up."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from api.transfers import SlowBodyError, Uploads
from config import BODIES_AT_A_TIME, PROMPTS_AT_A_TIME
from sd_client.errors import QueueFullError
from simulator import Simulator
from tests.api.bad_inputs import PNG, text
from tests.running import DEADLINE_S, PREFIX, Service, running_service, wait_until

BODY = {"prompt": "a harbour", "width": 64, "height": 64, "steps": 1}


class Connection:
    """What Flask's request has of gunicorn's connection."""

    def __init__(self, ours: socket.socket) -> None:
        self.environ = {"gunicorn.socket": ours}


@pytest.fixture(scope="module")
def service_of_one(shared_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, shared_simulator.url, workers=1, SD_QUEUE_LIMIT="1") as service:
        service.wait_until_answering()
        yield service


@pytest.mark.parametrize(
    ("slow", "other", "places"),
    [("img2img", "txt2img", BODIES_AT_A_TIME), ("txt2img", "img2img", PROMPTS_AT_A_TIME)],
)
def test_slow_bodies_take_their_own_places_only(service_of_one: Service, slow: str, other: str, places: int) -> None:
    bodies = {"txt2img": BODY, "img2img": {**BODY, "image": text(PNG)}}
    head = f"POST {PREFIX}/{slow} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(places):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", service_of_one.port), DEADLINE_S))
            connection.sendall(head.encode() + b'{"prompt": ')
        wait_until(lambda: service_of_one.post(f"/{slow}", bodies[slow]).status_code == 503, "all places are taken")
        refused = service_of_one.post(f"/{slow}", bodies[slow])
        assert (refused.json()["code"], refused.headers["Retry-After"]) == ("queue_full", "1")
        assert service_of_one.post(f"/{other}", bodies[other]).status_code == 200
        assert service_of_one.get("/health").status_code == 200
        assert service_of_one.get("/models").status_code == 200
    wait_until(lambda: service_of_one.post(f"/{slow}", bodies[slow]).status_code == 200, "the places are free again")


def test_a_body_that_never_ends_is_ended() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"a piece")
        with pytest.raises(SlowBodyError), Uploads(most=1, most_bytes=10, time_s=0.05).in_time(Connection(ours)):
            list(iter(lambda: ours.recv(100), b""))


def test_places_are_counted() -> None:
    uploads = Uploads(most=1, most_bytes=10)
    with uploads.place(), pytest.raises(QueueFullError), uploads.place():
        pass
    with uploads.place():
        pass


def test_the_bytes_of_all_bodies_are_counted_together() -> None:
    uploads = Uploads(most=2, most_bytes=10)
    with uploads.memory() as take, uploads.memory() as take_too:
        take(6)
        take_too(4)
        with pytest.raises(QueueFullError):
            take(1)
    with uploads.memory() as take:
        take(10)
