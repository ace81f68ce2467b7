"""What one picture costs in what can be counted, which a busy machine does not change: memory, calls, round trips.

The figures are what is needed today, with the reason beside each. Whoever raises one adds a reason.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import resource
import shutil
import socket
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from PIL import Image

from api import rendering
from api.body import PIECE_BYTES
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
        return fit(read_picture(png, max_pixels=SIDE * SIDE), SIDE, SIDE, "stretch")

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


# --- System calls of a worker, jobs one after another ---------------------------------------------------------------

REQUESTS = 8
BODY = {"prompt": "a", "width": 512, "height": 512, "steps": 1}


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with (
        Simulator() as webui,
        running_service(tmp_path_factory.mktemp("counts"), webui.url, workers=1) as service,
    ):
        service.wait_until_answering()
        service.post("/txt2img", BODY)  # what is imported, opened and started once
        yield service


@contextmanager
def traced(service: Service, report: Path) -> Iterator[list[str]]:
    """The lines of strace for the service's one worker, there when the block has ended."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    master = service.process.pid
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    calls = "fsync,fdatasync,mkdir,mkdirat,clone,clone3,sendto,sendmsg,write,pwrite64,pread64,recvfrom,recvmsg,execve"
    command = ["strace", "-f", "-q", "-y", "-s", "0", "-e", f"trace={calls}", "-o", str(report), "-p", worker]
    lines: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        wait_until(lambda: strace.poll() is not None or is_traced(int(worker)), "strace is attached")
        if strace.poll() is not None:
            pytest.skip("strace may not attach here")
        yield lines
        strace.terminate()
    lines += whole(report.read_text().splitlines())


def whole(lines: list[str]) -> Iterator[str]:
    """A call that took a while has two lines, and only the first says which file it was for."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, rest = line.partition(" ")
        if rest.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
        elif rest.lstrip().startswith("<... "):
            yield begun.pop(thread, "") + rest.partition(" resumed>")[2]
        else:
            yield line


def is_traced(worker: int) -> bool:
    """Every thread of it."""
    tasks = Path(f"/proc/{worker}/task").glob("*/status")
    return all("\nTracerPid:\t0\n" not in task.read_text() for task in tasks)


def successes(lines: list[str], *names: str) -> list[int]:
    """What the calls returned, those aside that failed."""
    found = (re.search(rf"\b(?:{'|'.join(names)})\b.* = (\d+)", line) for line in lines)
    return [int(match[1]) for match in found if match]


@pytest.fixture(scope="module")
def calls(one_worker: Service, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[int], list[int]]:
    """The calls of some generations, and the sizes of the answers and of the images."""
    before = set(one_worker.images.rglob("*.png"))
    with traced(one_worker, tmp_path_factory.mktemp("strace") / "report") as lines:
        answers = [len(one_worker.post("/txt2img", BODY).content) for _ in range(REQUESTS)]
    sizes = [path.stat().st_size for path in one_worker.images.rglob("*.png") if path not in before]
    assert len(sizes) == REQUESTS
    return lines, answers, sizes


def test_what_is_flushed_to_the_disk(calls: tuple[list[str], list[int], list[int]]) -> None:
    """Record, image, and their folder before and after the image has its name; and the parent of each new folder."""
    lines, _, _ = calls
    # Every five seconds it is tried whether the disk takes images.
    lines = [line for line in lines if not re.search(r"\.probe>|/\.incoming>", line)]
    folders = len(successes(lines, "mkdir", "mkdirat"))
    assert len(successes(lines, "fsync", "fdatasync")) == 4 * REQUESTS + folders


def test_threads_that_are_started(calls: tuple[list[str], list[int], list[int]]) -> None:
    """One calls the WebUI, and may outlive its caller; gunicorn and the prober start their own as they need them."""
    lines, _, _ = calls
    assert len(successes(lines, "clone", "clone3")) < 2 * REQUESTS
    assert not [line for line in lines if "execve" in line]


def test_a_picture_comes_in_once_is_written_once_and_goes_out_once(
    calls: tuple[list[str], list[int], list[int]],
) -> None:
    """A tenth more is for heads, records, log lines, the schedule and the prober."""
    lines, answers, sizes = calls
    written = sum(successes(lines, "write", "pwrite64"))
    assert sum(sizes) < written < 1.1 * sum(sizes) + 20_000 * REQUESTS
    sent = sum(successes(lines, "sendto", "sendmsg"))
    assert sum(answers) < sent < 1.1 * sum(answers) + 20_000 * REQUESTS
    assert sum(successes(lines, "recvfrom", "recvmsg")) < 1.1 * sum(answers) + 20_000 * REQUESTS


def test_a_large_body_is_received_as_it_is_read(one_worker: Service, png: bytes, tmp_path: Path) -> None:
    """What a call brings beyond what is read next gunicorn copies, each time, to its buffer and back."""
    body = BODY | {"image": base64.b64encode(png).decode()}
    with traced(one_worker, tmp_path / "report") as lines:
        assert one_worker.post("/img2img", body).status_code == 200
    found = (re.search(r"^(\d+) .*\brecvfrom\b.*, (\d+), 0, NULL, NULL\) = (\d+)", line) for line in lines)
    large = [match for match in found if match and int(match[3]) > 8192]
    # The thread that comes first reads the body, another one the WebUI's answer.
    asked_for = [int(match[2]) for match in large if match[1] == large[0][1]]
    assert asked_for
    assert max(asked_for) == PIECE_BYTES


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
        for _ in range(30):
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


def commands(client: redis.Redis) -> dict[str, int]:
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): told["calls"] for name, told in stats.items()}


def test_round_trips_to_redis(redis_server: RedisServer, tmp_path: Path) -> None:
    """
    Four for the limits (one per window, and one for the headers), three each time the schedule changes (watch, get, and
    the write: the job comes and goes), and two records of how it ended.
    """
    body = BODY | {"width": 64, "height": 64}
    settings = {"REDIS_URL": redis_server.url, "RATE_LIMIT_GLOBAL": "1000000/second;1000000/hour"}
    with (
        Simulator() as webui,
        running_service(tmp_path, webui.url, workers=1, **settings) as service,
        redis.Redis.from_url(redis_server.url) as client,
    ):
        service.wait_until_answering()
        service.post("/txt2img", body)
        before, begun = commands(client), time.monotonic()
        for _ in range(MANY):
            assert service.post("/txt2img", body).status_code == 200
        taken_s, after = time.monotonic() - begun, commands(client)
    made = {name: count - before.get(name, 0) for name, count in after.items()}
    assert made["evalsha"] == 4 * MANY
    # In a write, MULTI and SET travel with EXEC.
    trips = sum(made.get(name, 0) for name in ("watch", "get", "set", "time", "exists"))
    beside = 5 + 40 * taken_s  # the holder's key, the prober's looks, the look for Redis itself: some 20 a second
    assert 8 * MANY <= trips <= 8 * MANY + beside
