"""What is fuzzed: a function for each door that foreign bytes come through.

Each takes any bytes and returns; what it raises is a finding. An exception that may leave a door is caught in its
function, and is a finding too where its text says more than it may.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import io
import json
import re
import socket
import threading
from collections.abc import Callable, Mapping

from PIL import Image

from api.body import JsonKind, read_json
from api.doors import a1111_fields, openai_fields
from api.errors import MalformedRequestError, PayloadTooLargeError
from api.forms import read_form
from api.schemas import FIELDS
from sd_client.client import WebUIClient
from sd_client.errors import InvalidAnswerError, WebUIError, WebUIStatusError
from sd_client.models import Checkpoint, GenerationParams, Inpainting
from sd_client.payloads import read_answer
from sd_client.result import read_object
from sd_client.samplers import Spelling
from sd_client.transport import Transport, status_error
from services.base64_pictures import decode_base64
from services.masks import fit_mask, read_mask
from services.overlay import keep_unmasked
from services.picture_formats import PictureError
from services.pictures import fit, read_picture
from services.problems import InvalidParamsError
from services.results import check_whole, png_size, to_png
from tests.sd_client.servers import read_request

MAX_PIXELS = 250_000
SIZE = (24, 16)

#: What may be in the text of an error of a WebUI: our own words, numbers, and the name of a class.
_OUR_WORDS = re.compile(r"[A-Za-z0-9' :;,()_-]{1,200}")

CHECKPOINT = Checkpoint(title="sd.safetensors [0123456789]", model_name="sd", hash="0123456789")
JOB = GenerationParams(
    prompt="a",
    negative_prompt="",
    steps=1,
    cfg_scale=7,
    width=64,
    height=64,
    seed=1,
    batch_size=1,
    checkpoint=CHECKPOINT,
)


def pictures(data: bytes) -> None:
    """A caller's file, as picture, as mask and as base64 text: exactly the size asked for, or a PictureError."""
    with contextlib.suppress(PictureError):
        decode_base64(data.decode("utf-8", "replace"))
    try:
        picture = read_picture(data, max_pixels=MAX_PIXELS)
    except PictureError as error:
        _is_short(error)
        return
    assert min(picture.width, picture.height) >= 16
    assert picture.width * picture.height <= MAX_PIXELS
    reduced = read_picture(data, max_pixels=MAX_PIXELS, target=lambda width, height: SIZE, always_decode=True)
    assert (reduced.width, reduced.height) == (picture.width, picture.height)
    with Image.open(io.BytesIO(fit(reduced, *SIZE, "crop").data)) as fitted:
        assert fitted.size == SIZE
    for mode in ("stretch", "crop", "fill"):
        with Image.open(io.BytesIO(fit(picture, *SIZE, mode).data)) as fitted:
            assert fitted.size == SIZE
    for mask_mode in (None, "white", "black", "alpha"):
        with contextlib.suppress(PictureError):
            mask = read_mask(data, mode=mask_mode, max_pixels=MAX_PIXELS)
            repainted = fit_mask(mask, *SIZE, "fill")
            assert (repainted.size, repainted.mode) == (SIZE, "L")


def results(data: bytes) -> None:
    """The body of a WebUI's answer to a job: images, or an error of the tree."""
    for status in (302, 401, 404, 422, 500, 503):
        error = status_error(status, data)
        assert isinstance(error, WebUIStatusError)
        _is_discreet(error)
    try:
        painted = read_answer(read_object(data), JOB, checkpoint=CHECKPOINT, spelling=Spelling(sampler="Euler"))
    except InvalidAnswerError as error:
        _is_discreet(error)
        return
    assert len(painted) == JOB.batch_size
    with contextlib.suppress(PictureError):
        png = to_png(painted[0].data, parameters=painted[0].infotext)
        with contextlib.suppress(PictureError):
            check_whole(png)
        if png_size(png) == SIZE:
            assert keep_unmasked(png, _ORIGINAL, _INPAINTING).startswith(b"\x89PNG")


def wire(data: bytes) -> None:
    """A WebUI's answer to any request as it comes over the wire, head and all: values, or an error of the tree."""
    server = _server()
    server.answer = data[1:]
    client = WebUIClient(server.url, read_timeout_s=10)
    calls: list[Callable[[], object]] = [
        client.sd_models,
        client.progress,
        client.interrupt,
        client.capabilities,
        functools.partial(
            Transport(server.url, max_answer_bytes=10_000).post, "/sdapi/v1/txt2img", b"{}", timeout_s=10
        ),
    ]
    try:
        calls[data[0] % len(calls) if data else 0]()
    except WebUIError as error:
        _is_discreet(error)


#: Stands for a picture in a body, which is too large to be fuzzed.
PICTURE_BYTE = b"\x01"
_LARGE = base64.b64encode(bytes(range(256)) * 200)
_ALL_JSON = JsonKind(pictures=("init_images", "mask"), flat=False)
_REFUSALS = (MalformedRequestError, PayloadTooLargeError, InvalidParamsError)


def bodies(data: bytes) -> None:
    """A caller's body, as JSON and as a form: what a plain parser reads, or a refusal; then at both doors."""
    data = data.replace(PICTURE_BYTE, _LARGE, 3)
    with contextlib.suppress(*_REFUSALS):
        read_json([data[:7], data[7:]], most_text=16_384)
    with contextlib.suppress(*_REFUSALS):
        read_form([data], "x", piece_bytes=len(data) + 1, most_text=16_384)
    try:
        body = read_json([data], most_text=16_384, kind=_ALL_JSON)
    except _REFUSALS as error:
        _is_concise(error)
        return
    assert _as_texts(body) == _as_texts(json.loads(data))
    for route in ("txt2img", "img2img"):
        found = a1111_fields.translate(route, body, steps=20, chosen=lambda: None)
        assert found.values.keys() <= FIELDS[found.mode].model_fields.keys()
    openai, _ = openai_fields.translate("edits", body, most_steps=150, has_urls=False)
    assert all(len(problem.message) < 1000 for problem in openai.problems)


def _is_concise(error: Exception) -> None:
    assert len(str(error)) < 300


def _as_texts(value: object) -> object:
    """Pictures, which are bytes or base64 of any spelling, as one text."""
    if isinstance(value, dict):
        return {name: _as_texts(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_as_texts(entry) for entry in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.rpartition(";base64,")[2] if isinstance(value, str) and len(value) >= len(_LARGE) else value


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "pictures": pictures,
    "results": results,
    "wire": wire,
    "bodies": bodies,
}


def _is_short(error: PictureError) -> None:
    assert error.message
    assert len(error.message + error.received) < 300


def _is_discreet(error: WebUIError) -> None:
    assert _OUR_WORDS.fullmatch(str(error)), str(error)


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


_ORIGINAL = _encoded(Image.new("RGB", SIZE, "red"))
_INPAINTING = Inpainting(
    mask=_encoded(Image.new("L", SIZE, 255)), mask_blur=2, area="whole", padding=0, fill="original"
)


class _Echo:
    """A server that gives every connection the same answer, one connection after another."""

    def __init__(self) -> None:
        self.answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        atexit.register(self._listener.close)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                read_request(connection)
                connection.sendall(self.answer)


@functools.cache
def _server() -> _Echo:
    return _Echo()
