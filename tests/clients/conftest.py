"""The service as gunicorn runs it, in front of simulated WebUIs, and pictures to give to programs."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageDraw

from simulator import ReceivedRequest, Simulator
from tests.clients.programs import PROGRAMS, Program, Running
from tests.running import Service, running_service

#: In API_KEYS: each program's, and five people's.
PEOPLE = ("ann", "bob", "carl", "dora", "emma")
KEYS = {"API_KEYS": ",".join([*(program.key for program in PROGRAMS.values()), *(f"key-of-{name}" for name in PEOPLE)])}
SIZE = 256
#: What the masks give free, and the pixels around it that a blurred edge may change.
FREE, EDGE = (64, 64, 192, 192), 24


@pytest.fixture(scope="session")
def guarded(service_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With keys, and where callers find it."""
    settings = {**KEYS, "PUBLIC_URL": "https://pictures.example.com"}
    with running_service(tmp_path_factory.mktemp("guarded"), service_simulator.url, **settings) as service:
        service.wait_until_answering()
        yield service


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Program], Running]]:
    """Starts a client's script, which ends with the test."""
    with ExitStack() as stack:
        numbers = count()
        yield lambda program: stack.enter_context(Running(program.command(), tmp_path / f"client-{next(numbers)}.log"))


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Program], Running]]:
    """The one running script of a program: some take five seconds to start."""
    folder = tmp_path_factory.mktemp("clients")
    with ExitStack() as stack:
        yield cache(lambda program: stack.enter_context(Running(program.command(), folder / f"{program.name}.log")))


@pytest.fixture
def client(program: Program, clients: Callable[[Program], Running]) -> Running:
    return clients(program)


@dataclass(frozen=True)
class Edit:
    """Files of a photo and of its masks: in A1111's white is repainted, in OpenAI's what is transparent."""

    image: Path
    white: Path
    transparent: Path

    def is_kept(self, picture: Image.Image) -> bool:
        """Whether each pixel beyond the mask's edge is the photo's."""
        return self._changed(picture, inside=False).getbbox() is None

    def is_painted(self, picture: Image.Image) -> bool:
        return self._changed(picture, inside=True).getbbox() is not None

    def _changed(self, picture: Image.Image, *, inside: bool) -> Image.Image:
        with Image.open(self.image) as photo:
            changed = ImageChops.difference(photo, picture.convert("RGB")).convert("L")
        left, top, right, bottom = FREE
        grown = (left - EDGE, top - EDGE, right + EDGE, bottom + EDGE)
        looked_at = Image.new("L", photo.size, 0 if inside else 255)
        ImageDraw.Draw(looked_at).rectangle(FREE if inside else grown, fill=255 if inside else 0)
        return ImageChops.multiply(changed.point(lambda value: 255 if value else 0), looked_at)


@pytest.fixture(scope="session")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Edit:
    folder = tmp_path_factory.mktemp("pictures")
    gradients = [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L").rotate(90)]
    photo, white = Image.merge("RGB", gradients), Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(white).rectangle(FREE, fill=255)
    transparent = photo.copy()
    transparent.putalpha(ImageChops.invert(white))
    files = Edit(folder / "photo.png", folder / "white.png", folder / "transparent.png")
    photo.save(files.image)
    white.save(files.white)
    transparent.save(files.transparent)
    return files


def opened(encoded: str) -> Image.Image:
    """A picture as programs hand it over: base64, with or without a data URI's head."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded.rpartition(",")[2])))
    picture.load()
    return picture


def model_of(job: ReceivedRequest) -> str:
    """Its name alone: a WebUI adds a hash once it has loaded the file."""
    title: str = json.loads(job.body)["override_settings"]["sd_model_checkpoint"]
    return title.partition(".safetensors")[0]


def generations(service: Service, *, since: int = 0) -> list[int]:
    """The statuses of all requests for pictures, by whichever API; of the log, what comes after so many characters."""
    lines = [json.loads(line) for line in service.printed[since:].splitlines() if line.startswith("{")]
    return [line["status"] for line in lines if _is_generation(line)]


def _is_generation(line: dict[str, Any]) -> bool:
    return (
        line["message"] == "request"
        and line.get("method") == "POST"
        and line["route"].endswith(("/txt2img", "/img2img", "/images/generations", "/images/edits"))
    )
