"""Small real servers on loopback: one that a test scripts byte by byte, and one that answers like a WebUI."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

DEADLINE_S = 20.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Polls a condition; fails with what was waited for."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.005)


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# --- Byte by byte ---------------------------------------------------------------------------------------------------


def read_request(connection: socket.socket) -> bytes:
    """Head and body, as they came."""
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        if not (piece := connection.recv(65536)):
            return bytes(received)
        received += piece
    lines = bytes(received[:end]).lower().split(b"\r\n")
    length = next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(received) < end + 4 + length and (piece := connection.recv(1_000_000)):
        received += piece
    return bytes(received)


def reset(connection: socket.socket) -> None:
    """Ends the connection with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def until_hung_up(connection: socket.socket) -> None:
    """Waits until the client closes its side."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


def drip(connection: socket.socket, piece: bytes, *, pause_s: float = 0.02) -> None:
    """Sends the same piece again and again until the client has gone."""
    deadline = time.monotonic() + DEADLINE_S
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            connection.sendall(piece)
            time.sleep(pause_s)


@contextlib.contextmanager
def socket_server(handle: Callable[[socket.socket], None]) -> Iterator[SocketServer]:
    server = SocketServer(handle)
    try:
        yield server
    finally:
        server.close()


class SocketServer:
    """Hands every connection to ``handle``, in another thread, and closes it afterwards."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._handle = handle
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._handle(connection)


# --- Like a WebUI ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def as_json(value: object, status: int = 200) -> Answer:
    return Answer(status=status, body=json.dumps(value).encode(), headers={"Content-Type": "application/json"})


NOT_FOUND = as_json({"detail": "Not Found"}, 404)


class WebServer:
    """
    Answers by ``routes``: "GET /path" to an answer, or to a function that makes one of what was received.

    ``received`` is the journal, in order of arrival.
    """

    def __init__(self, routes: Mapping[str, Answer | Callable[[Received], Answer]] | None = None) -> None:
        self.routes = dict(routes or {})
        self.received: list[Received] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = False  # closing waits for the answers under way
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def paths(self) -> list[str]:
        return [received.path.partition("?")[0] for received in list(self.received)]

    def answer(self, received: Received) -> Answer:
        self.received.append(received)
        route = self.routes.get(f"{received.method} {received.path.partition('?')[0]}", NOT_FOUND)
        return route(received) if callable(route) else route


def _handler(server: WebServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = server.answer(
                Received(method=self.command, path=self.path, headers=dict(self.headers.items()), body=body)
            )
            with contextlib.suppress(OSError):
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

        do_GET = do_POST = _serve

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


# --- What a WebUI lists ---------------------------------------------------------------------------------------------

A1111_MODELS = [
    {
        "title": "v1-5-pruned-emaonly.safetensors [6ce0161689]",
        "model_name": "v1-5-pruned-emaonly",
        "hash": "6ce0161689",
        "sha256": "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
        "filename": "/home/someone/models/Stable-diffusion/v1-5-pruned-emaonly.safetensors",
        "config": None,
    }
]
A1111_SAMPLERS = [
    {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "options": {}},
    {"name": "DPM++ 2S a", "aliases": ["k_dpmpp_2s_a"], "options": {}},
    {"name": "Euler a", "aliases": ["k_euler_a", "k_euler_ancestral"], "options": {"uses_ensd": "True"}},
    {"name": "Euler", "aliases": ["k_euler"], "options": {}},
    {"name": "DPM2 a", "aliases": ["k_dpm_2_a"], "options": {}},
    {"name": "DDIM", "aliases": ["ddim"], "options": {}},
]
A1111_SCHEDULERS = [
    {"name": "automatic", "label": "Automatic", "aliases": None, "default_rho": -1, "need_inner_model": False},
    {"name": "karras", "label": "Karras", "aliases": None, "default_rho": 7.0, "need_inner_model": False},
    {"name": "sgm_uniform", "label": "SGM Uniform", "aliases": ["SGMUniform"], "default_rho": -1},
]
A1111_OPTIONS = {
    "samples_format": "png",
    "sd_model_checkpoint": A1111_MODELS[0]["title"],
    "CLIP_stop_at_last_layers": 1,
    "lora_add_hashes_to_infotext": True,
}
A1111_UPSCALERS = [
    {"name": "None", "model_path": None},
    {"name": "Lanczos", "model_path": None, "scale": 4},
    {"name": "R-ESRGAN 4x+", "model_path": "https://example.org/RealESRGAN_x4plus.pth", "scale": 4},
]
A1111_CUDA = {"ram": {"free": 1.0, "used": 1, "total": 2.0}, "cuda": {"system": {"free": 1, "used": 1, "total": 2}}}
A1111_CPU = {"ram": {"free": 1.0, "used": 1, "total": 2.0}, "cuda": {"error": "unavailable"}}
A1111_PROGRESS = {"progress": 0.0, "eta_relative": 0.0, "state": {"job_count": 0}, "current_image": None}


def a1111_routes(*, memory: object = A1111_CUDA) -> dict[str, Answer | Callable[[Received], Answer]]:
    return {
        "GET /sdapi/v1/sd-models": as_json(A1111_MODELS),
        "GET /sdapi/v1/options": as_json(A1111_OPTIONS),
        "GET /sdapi/v1/samplers": as_json(A1111_SAMPLERS),
        "GET /sdapi/v1/schedulers": as_json(A1111_SCHEDULERS),
        "GET /sdapi/v1/upscalers": as_json(A1111_UPSCALERS),
        "GET /sdapi/v1/latent-upscale-modes": as_json([{"name": "Latent"}]),
        "GET /sdapi/v1/loras": as_json([{"name": "detail", "alias": "detail", "path": "/x", "metadata": {}}]),
        "GET /sdapi/v1/memory": as_json(memory),
        "GET /sdapi/v1/progress": as_json(A1111_PROGRESS),
    }


def encoded_image(size: tuple[int, int] = (8, 8), *, file_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 90)).save(buffer, file_format)
    return buffer.getvalue()


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class PaintingServer(WebServer):
    """
    A WebUI that paints: a job stays until ``gate`` is open or it is interrupted.

    ``most_at_once`` is how many jobs ran at the same time at most, ``interrupts_while_idle`` how many interrupts
    came when nothing ran.
    """

    def __init__(self, *, memory: object = A1111_CUDA) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.running = 0
        self.painted = 0
        self.most_at_once = 0
        self.interrupts = 0
        self.interrupts_while_idle = 0
        #: Whether an interrupt ends a running job; a WebUI that loads a model forgets it.
        self.heeds_interrupts = True
        self._interrupted = threading.Event()
        self._mutex = threading.Lock()
        super().__init__(a1111_routes(memory=memory))
        self.routes["POST /sdapi/v1/txt2img"] = self._paint
        self.routes["POST /sdapi/v1/img2img"] = self._paint
        self.routes["POST /sdapi/v1/interrupt"] = self._interrupt

    def close(self) -> None:
        self.gate.set()
        super().close()

    def jobs(self) -> list[Received]:
        return [received for received in list(self.received) if received.path.endswith("2img")]

    def _paint(self, received: Received) -> Answer:
        with self._mutex:
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
            self._interrupted.clear()
        deadline = time.monotonic() + DEADLINE_S
        while not self.gate.wait(0.005) and not self._interrupted.is_set() and time.monotonic() < deadline:
            pass
        with self._mutex:
            self.running -= 1
            self.painted += 1
        return as_json(painted(received.json))

    def _interrupt(self, received: Received) -> Answer:
        with self._mutex:
            self.interrupts += 1
            self.interrupts_while_idle += self.running == 0
            if self.heeds_interrupts:
                self._interrupted.set()
        return as_json({})


def painted(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A1111's answer to a payload."""
    seeds = [asked["seed"] + number for number in range(asked["batch_size"])]
    info = {
        "seed": seeds[0],
        "all_seeds": seeds,
        "infotexts": [f"Seed: {seed}" for seed in seeds],
        "index_of_first_image": 0,
        "sampler_name": asked.get("sampler_name", "Euler"),
        "sd_model_name": "v1-5-pruned-emaonly",
        "sd_model_hash": "6ce0161689",
    }
    image = in_base64(encoded_image((asked["width"], asked["height"])))
    return {"images": [image] * len(seeds), "parameters": {}, "info": json.dumps(info)}
