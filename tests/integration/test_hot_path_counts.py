"""What one picture costs in what can be counted, which a busy machine does not change: memory and round trips.

The figures are what is needed today, with the reason beside each. Whoever raises one adds a reason.
"""

from __future__ import annotations

import base64
import contextlib
import io
import resource
import socket
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from PIL import Image

from api import rendering
from sd_client.matching import Match
from sd_client.models import Capabilities, Checkpoint, GenerationParams
from sd_client.payloads import payload
from sd_client.samplers import Spelling
from services.generation import GeneratedImage, Generation
from services.pictures import fit, read_picture
from services.results import png_size, to_png
from simulator import Simulator
from storage.local import LocalStorage
from tests.running import DEADLINE_S, PREFIX, RedisServer, Service, running_service, wait_until

SIDE = 1024
#: What is worked on at a time; a piece of base64 is a third larger, and there may be two of them.
PIECE = 256 * 1024


@pytest.fixture(scope="module")
def png() -> bytes:
    """Of noise, as large as a picture of this size gets: 3 MB."""
    image, file = Image.effect_noise((SIDE, SIDE), 90).convert("RGB"), io.BytesIO()
    Image.merge("RGB", [channel.rotate(90 * turn) for turn, channel in enumerate(image.split())]).save(
        file, "PNG", compress_level=0
    )
    return file.getvalue()


# --- Memory: how much is allocated beside what is there already -----------------------------------------------------


def allocated(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes that are held afterwards, and that were at the most."""
    tracemalloc.start()
    try:
        kept = work()
        held, most = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return held, most


def generation(png: bytes, count: int = 1) -> Generation:
    image = GeneratedImage(image_id=uuid4(), png=png, seed=1, width=SIDE, height=SIDE, stored=True)
    return Generation(images=(image,) * count, model="m", processing_time_s=1.0, request_id="r")


def test_looking_at_a_png_costs_nothing(png: bytes) -> None:
    _, most = allocated(lambda: (to_png(png, parameters=None), png_size(png)))
    assert most < 1024


def test_storing_costs_no_copy(png: bytes, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.check()
    _, most = allocated(lambda: storage.save(uuid4(), png, {"prompt": "a"}))
    assert most < PIECE  # the buffers of two files, and paths


@pytest.mark.parametrize("count", [1, 4])
def test_the_answer_is_encoded_in_pieces(png: bytes, count: int) -> None:
    def send() -> None:
        response = rendering.as_json(generation(png, count), lambda image: "/x", with_base64=True)
        for piece in response.response:
            assert len(piece) <= PIECE

    _, most = allocated(send)
    assert most < 3 * PIECE


def test_as_a_file_it_is_sent_in_pieces(png: bytes) -> None:
    def send() -> None:
        response = rendering.as_png(generation(png), lambda image: "/x")
        assert sum(map(len, response.response)) == response.content_length == len(png)

    _, most = allocated(send)
    assert most < 3 * PIECE


def test_a_picture_is_looked_through_and_passed_on_without_a_copy(png: bytes) -> None:
    def look() -> bytes:
        return fit(read_picture(png, max_pixels=SIDE * SIDE), SIDE, SIDE, "stretch").data

    _, most = allocated(look)
    assert most < 4 * PIECE  # the inflater's in and out, and its window
    assert look() is png


def test_a_picture_is_encoded_for_the_webui_while_it_is_sent(png: bytes) -> None:
    checkpoint = Checkpoint(title="m", model_name="m")
    matched = Match(checkpoint=checkpoint, spelling=Spelling())
    params = GenerationParams(
        prompt="a",
        negative_prompt="",
        steps=1,
        cfg_scale=1.0,
        width=SIDE,
        height=SIDE,
        seed=1,
        batch_size=1,
        checkpoint=checkpoint,
        init_image=png,
        strength=0.5,
    )

    def send() -> None:
        body = payload(params, Capabilities(checkpoints=(checkpoint,)), matched, task_id="t")
        sizes = list(map(len, body))
        assert sum(sizes) == len(body)
        assert len(sizes) <= 2 + -(-len(body) // PIECE)  # each is a call, and some packets

    _, most = allocated(send)
    assert most < 3 * PIECE


# --- Memory of a worker with jobs that wait -------------------------------------------------------------------------


def resident_bytes(service: Service) -> int:
    (worker,) = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    return int(Path(f"/proc/{worker}/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_waiting_job_holds_its_picture_once(png: bytes, tmp_path: Path) -> None:
    """Its base64 beside it would be 2.4 times as much, and so would be what the C library keeps of the bodies."""
    body = b'{"prompt":"a","steps":1,"image":"' + base64.b64encode(png) + b'"}'
    fields = f"Host: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    request = f"POST {PREFIX}/img2img HTTP/1.1\r\n{fields}\r\n\r\n".encode() + body
    with (
        Simulator(step_time=60.0) as webui,
        running_service(tmp_path, webui.url, workers=1, SD_QUEUE_LIMIT="64") as service,
        contextlib.ExitStack() as callers,
    ):
        service.wait_until_answering()
        begun = resident_bytes(service)
        held = []
        for _ in range(12):
            address = ("127.0.0.1", service.port)
            held.append(callers.enter_context(socket.create_connection(address, timeout=DEADLINE_S)))
            held[-1].sendall(request)
        wait_until(lambda: service.get("/health").json()["queue"]["waiting"] == len(held) - 1, "all wait")
        # Beside the pictures: what the first request imports, 30 threads, and what is left between the pictures.

        def is_given_back() -> bool:
            more = resident_bytes(service) - begun
            print(f"{more / 1e6:.1f} MB more than before for {len(held)} x {len(png) / 1e6:.1f} MB")
            return more < 1.25 * len(held) * len(png) + 15e6

        wait_until(is_given_back, "what the bodies needed has been given back")


# --- Round trips to Redis -------------------------------------------------------------------------------------------

MANY = 20
BODY = {"prompt": "a", "width": 64, "height": 64, "steps": 1}


def commands(client: redis.Redis) -> dict[str, int]:
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): counted["calls"] for name, counted in stats.items()}


def test_round_trips_to_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    """
    Four for the limits (one per window, and one for the headers), three each time the schedule changes (watch, get, and
    the write: the job comes and goes), and two records of how it ended.
    """
    settings = {"REDIS_URL": redis_server.url, "RATE_LIMIT_GLOBAL": "1000000/second;1000000/hour"}
    with (
        Simulator() as webui,
        running_service(tmp_path, webui.url, workers=1, **settings) as service,
        redis.Redis.from_url(redis_server.url) as client,
    ):
        service.wait_until_answering()
        service.post("/txt2img", BODY)
        before, begun = commands(client), time.monotonic()
        for _ in range(MANY):
            assert service.post("/txt2img", BODY).status_code == 200
        taken_s, after = time.monotonic() - begun, commands(client)
    made = {name: count - before.get(name, 0) for name, count in after.items()}
    assert made["evalsha"] == 4 * MANY
    # In a write, MULTI and SET travel with EXEC.
    trips = sum(made.get(name, 0) for name in ("watch", "get", "set", "time", "exists"))
    beside = 5 + 40 * taken_s  # the holder's key, the prober's looks, the look for Redis itself: some 20 a second
    assert 8 * MANY <= trips <= 8 * MANY + beside
