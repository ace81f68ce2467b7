"""Images sent by a real server give their places back, however their sending ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping

import pytest
import requests

from config import DOWNLOADS_AT_A_TIME
from simulator import Simulator
from tests.running import DEADLINE_S, PREFIX, Service, running_service

BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "response_format": "url"}


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with (
        Simulator() as webui,
        running_service(tmp_path_factory.mktemp("one"), webui.url, workers=1, SD_QUEUE_LIMIT="1") as service,
    ):
        service.wait_until_answering()
        yield service


@pytest.fixture(scope="module")
def image_id(one_worker: Service) -> str:
    return str(one_worker.post("/txt2img", BODY).json()["image_id"])


@pytest.mark.parametrize(
    ("method", "query", "headers", "status"),
    [
        ("GET", "", {}, 200),
        ("HEAD", "", {}, 200),
        ("GET", "", {"Range": "bytes=0-9"}, 206),
        ("GET", "", {"Range": "bytes=999999-"}, 416),
        ("GET", "", {"If-None-Match": "*"}, 304),
        ("GET", "?width=32", {}, 200),
        ("HEAD", "?width=32", {}, 200),
        ("GET", "?width=32", {"If-None-Match": "*"}, 304),
        ("GET", "?width=1", {}, 422),
    ],
)
def test_more_than_there_are_places(
    one_worker: Service, image_id: str, method: str, query: str, headers: Mapping[str, str], status: int
) -> None:
    with requests.Session() as session:
        for _ in range(DOWNLOADS_AT_A_TIME + 1):
            url = f"{one_worker.url}/image/{image_id}{query}"
            answer = session.request(method, url, headers=dict(headers), timeout=DEADLINE_S)
            assert answer.status_code == status, answer.text


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=100-"}, {"If-Range": "x"}])
def test_the_image_under_its_own_format_is_whole(
    one_worker: Service, image_id: str, headers: Mapping[str, str]
) -> None:
    """Its size is read from the file first, which is then sent from where it stands."""
    whole, asked = (one_worker.get(f"/image/{image_id}{query}", headers=dict(headers)) for query in ("", "?format=png"))
    assert (asked.status_code, asked.content) == (whole.status_code, whole.content)
    assert len(asked.content) == int(asked.headers["Content-Length"])


def test_callers_that_hang_up_meanwhile(one_worker: Service, image_id: str) -> None:
    request = f"GET {PREFIX}/image/{image_id} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for _ in range(DOWNLOADS_AT_A_TIME + 1):
        with socket.create_connection(("127.0.0.1", one_worker.port), timeout=DEADLINE_S) as connection:
            connection.sendall(request)
    assert one_worker.get(f"/image/{image_id}").status_code == 200
