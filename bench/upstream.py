"""
A WebUI with ready-made pictures, so that only the server in front of it is measured.

Unlike the simulator, which paints, it sends the same noisy PNG every time, after a pause, for hardly any CPU. It serves
A1111's ``/sdapi/v1`` with the simulator's lists, and reports the seed and model it "used". Every path may begin with a
number, ``/7/sdapi/v1/txt2img``: any number of WebUIs in one process. ``/v1/images/generations`` is OpenAI's route for
the same picture; of a picture to enlarge only the size is looked at. ``POST /bench`` with an :class:`Order` sets how
the next jobs go; ``GET /bench`` counts them.

``python -m bench.upstream FD`` serves the listening socket with that number.
"""

from __future__ import annotations

import html
import json
import random
import re
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from io import BufferedReader, BytesIO
from typing import Any

import pybase64
import requests
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic_core import from_json

from simulator import Simulator
from simulator.wire import Head, read_body, read_head

LISTS = ("sd-models", "samplers", "schedulers", "upscalers", "loras", "options", "memory", "progress")
MODEL = {"sd_model_checkpoint": "v1-5-pruned-emaonly"}

#: 42 levels deflate to 2.4 MB at 1024 x 1024, about as much as a photograph; 3.2 MB as base64.
_LEVELS = bytes(byte % 42 for byte in range(256))


@cache
def picture(width: int, height: int, *, seed: int = 1) -> bytes:
    """Noise, with a text chunk as A1111 writes it."""
    noise = random.Random(seed).randbytes(3 * width * height).translate(_LEVELS)
    text = PngInfo()
    text.add_text("parameters", f"a lighthouse\nSteps: 20, Sampler: Euler, Size: {width}x{height}")
    file = BytesIO()
    Image.frombytes("RGB", (width, height), noise).save(file, "PNG", pnginfo=text)
    return file.getvalue()


@cache
def _encoded(width: int, height: int) -> bytes:
    return pybase64.b64encode(picture(width, height))


@dataclass(frozen=True, kw_only=True)
class Order:
    """
    :param seconds: from a job's arrival to its answer.
    :param together: if not 0, answers are held back until so many can be sent in the same instant.
    """

    seconds: float = 0.0
    together: int = 0


@dataclass(kw_only=True)
class Counts:
    """Since the last order. ``painting``: jobs in progress; ``busy_s``: the seconds of all jobs so far, summed."""

    painting: int = 0
    done: int = 0
    busy_s: float = 0.0


class Jobs:
    """What the jobs do instead of painting."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order = Order()
        self._held = 0
        self._counts = Counts()
        self._counted = time.monotonic()

    def obey(self, order: Order) -> None:
        with self._changed:
            self._order = order
            self._held = 0
            self._counts = Counts(painting=self._counts.painting)
            self._counted = time.monotonic()
            self._changed.notify_all()

    def counts(self) -> Counts:
        with self._changed:
            self._count(0)
            return replace(self._counts)

    def paint(self) -> None:
        """Takes as long as a job is to take."""
        with self._changed:
            order = self._order
            self._count(1)
        time.sleep(order.seconds)
        with self._changed:
            if order.together:
                self._held += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._held >= order.together or self._order is not order, 60)
            self._count(-1)

    def _count(self, more: int) -> None:
        now = time.monotonic()
        self._counts.busy_s += self._counts.painting * (now - self._counted)
        self._counted = now
        self._counts.painting += more
        self._counts.done += more < 0


class Upstream:
    """Answers on a listening socket, a thread for each connection, until the process ends."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._jobs = Jobs()
        self._hash = ""
        self._lists = self._simulated()
        for side in (512, 1024):
            _encoded(side, side)  # before the first request

    def serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _simulated(self) -> dict[str, bytes]:
        """The lists of a simulated A1111 after its first job, when it knows its model's hash."""
        with Simulator() as webui:
            job: Any = {"prompt": "a", "width": 64, "height": 64, "steps": 1, "override_settings": MODEL}
            answer = requests.post(f"{webui.url}/sdapi/v1/txt2img", json=job, timeout=60).json()
            self._hash = json.loads(answer["info"])["sd_model_hash"]
            return {name: requests.get(f"{webui.url}/sdapi/v1/{name}", timeout=60).content for name in LISTS}

    def _converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as reader:
            try:
                while (head := read_head(reader)) and self._exchange(connection, reader, head):
                    pass
            except OSError:  # the caller has hung up
                return

    def _exchange(self, connection: socket.socket, reader: BufferedReader, head: Head) -> bool:
        """Whether the connection is kept."""
        body = read_body(reader, head)
        if body is None:
            return False
        status, pieces = self._answer(head, body)
        keeps = head.keeps_alive
        lines = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {sum(map(len, pieces))}\r\n"
        lines += "\r\n" if keeps else "Connection: close\r\n\r\n"
        connection.sendall(lines.encode() + pieces[0])
        for piece in pieces[1:]:
            connection.sendall(piece)
        return keeps

    def _answer(self, head: Head, body: bytes) -> tuple[str, list[bytes]]:
        path = re.sub(r"^/\d+/", "/", head.path)
        name = path.removeprefix("/sdapi/v1/")
        if head.method == "POST" and name in ("txt2img", "img2img"):
            return "200 OK", self._painted(from_json(body))
        if head.method == "POST" and name == "extra-single-image":
            return "200 OK", self._enlarged(from_json(body))
        if head.method == "POST" and path == "/v1/images/generations":
            return "200 OK", self._painted_for_openai(from_json(body))
        if path == "/bench":
            if head.method == "POST":
                self._jobs.obey(Order(**from_json(body)))
            return "200 OK", [json.dumps(asdict(self._jobs.counts())).encode()]
        if path == "/sdapi/v1/interrupt":
            return "200 OK", [b"{}"]
        listed = self._lists.get(name)
        return ("200 OK", [listed]) if listed else ("404 Not Found", [b'{"detail": "Not Found"}'])

    def _painted(self, job: dict[str, Any]) -> list[bytes]:
        self._jobs.paint()
        width, height, count = job.get("width", 512), job.get("height", 512), job.get("batch_size", 1)
        image = _encoded(width, height)
        quoted = [piece for number in range(count) for piece in (b'","' if number else b'["', image)]
        seed = max(0, job.get("seed", 0))
        model = str(job.get("override_settings", MODEL).get("sd_model_checkpoint", "")).partition(" ")[0]
        text = f"{job.get('prompt')}\nSteps: 20, Sampler: Euler, Seed: {seed}, Size: {width}x{height}"
        info = {
            "prompt": job.get("prompt"),
            "seed": seed,
            "all_seeds": [seed + number for number in range(count)],
            "sd_model_name": model.removesuffix(".safetensors"),
            "sd_model_hash": self._hash,
            "infotexts": [text] * count,
            "index_of_first_image": 0,
        }
        tail = {"parameters": {"prompt": job.get("prompt")}, "info": json.dumps(info)}
        return [b'{"images":', *quoted, b'"],' + json.dumps(tail)[1:].encode()]

    def _enlarged(self, job: dict[str, Any]) -> list[bytes]:
        """Another picture than the one that was sent, but of the size that is due."""
        self._jobs.paint()
        with Image.open(BytesIO(pybase64.b64decode(job["image"]))) as sent:
            width, height = sent.size
        scale = job["upscaling_resize"]
        info = f"<p>Postprocess upscale by: {scale}, Postprocess upscaler: {html.escape(job['upscaler_1'])}</p>"
        image = _encoded(int(width * scale), int(height * scale))
        return [b'{"html_info":', json.dumps(info).encode(), b',"image":"', image, b'"}']

    def _painted_for_openai(self, job: dict[str, Any]) -> list[bytes]:
        self._jobs.paint()
        width, height = map(int, job.get("size", "512x512").split("x"))
        image = _encoded(width, height)
        pictures = [piece for _ in range(job.get("n", 1)) for piece in (b',{"b64_json":"', image, b'"}')]
        pictures[0] = pictures[0].removeprefix(b",")
        return [b'{"created":1,"data":[', *pictures, b"]}"]


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        Upstream(listener).serve()


if __name__ == "__main__":
    main()
