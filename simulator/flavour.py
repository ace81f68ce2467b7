"""What every kind of server has, and its profile: the lists, defaults and shapes that distinguish the flavours."""

import json
import tomllib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from simulator.wire import Headers, Request, Response

API = "/sdapi/v1/"
PROFILES = Path(__file__).parent / "profiles"
DEFAULT_MODELS = ("v1-5-pruned-emaonly.safetensors", "sd_xl_base_1.0.safetensors", "dreamshaper_8.safetensors")

Profile = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server is started; times in seconds.

    :param flavour: one of `flavours.NAMES`.
    :param step_time: for one sampling step of one image of 512x512; grows with pixels and batch.
    :param load_time: for a switch of models.
    :param startup_time: how long /sdapi does not exist yet although the port answers.
    :param device: what /sdapi/v1/memory shows, "gpu" or "cpu".
    :param models: file names; the first is loaded at start. None at all is a WebUI as it is unpacked.
    :param broken: those of the models that cannot be loaded: cut off, or incomplete checkpoints.
    :param weights: another value stands for other weights under the same file names: the hashes differ.
    :param nothing_loaded: SD.Next's state after a start without a saved choice of model.
    :param samples_format: png, jpg or webp; None for the flavour's own default.
    :param api_auth: `user:password` as --api-auth takes it.
    :param controlnet: one of `controlnet.KINDS`; None for the flavour's own.
    :param has_page: False for A1111's --nowebui, which has nothing below /internal.
    """

    flavour: str = "a1111"
    step_time: float = 0.0
    load_time: float = 0.0
    startup_time: float = 0.0
    device: str = "gpu"
    models: tuple[str, ...] = DEFAULT_MODELS
    broken: tuple[str, ...] = ()
    weights: str = ""
    nothing_loaded: bool = False
    samples_format: str | None = None
    api_auth: str | None = None
    has_page: bool = True
    controlnet: str | None = None


@cache
def load_profile(name: str) -> Profile:
    """A flavour's profile, laid over the one it is based on. Not to be changed."""
    own = tomllib.loads((PROFILES / f"{name}.toml").read_text())
    return _merged(load_profile(own["based_on"]), own) if "based_on" in own else own


def _merged(base: Profile, own: Profile) -> Profile:
    both = {key: _merged(base[key], own[key]) for key in base.keys() & own.keys() if isinstance(own[key], dict)}
    return {**base, **own, **both}


def filled(shape: str, **values: object) -> dict[str, object]:
    """A JSON object of a profile, with `$name` replaced by the value of that name."""
    named = {f"${name}": value for name, value in values.items()}
    return {key: named.get(value, value) for key, value in json.loads(shape).items()}


class Flavour(ABC):
    """One kind of server: answers requests and shapes its own errors."""

    connection_threads: int | None = None
    """How many connections are served at once; None for no limit."""
    http_version = "1.1"
    """What its answers begin with; after an answer of HTTP/1.0 the connection is closed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.profile = load_profile(settings.flavour)

    @abstractmethod
    def respond(self, request: Request) -> Response:
        """Answer it, with all headers but content-length."""

    @abstractmethod
    def crash(self, name: str, text: str) -> Response:
        """The answer for an unhandled exception of this class and text."""

    @abstractmethod
    def refuse(self, status: int, text: str) -> Response:
        """The answer for a refusal on purpose."""

    @abstractmethod
    def dress(self, request: Request, response: Response, seconds: float) -> Response:
        """Put on the headers every answer of this server has; it took `seconds`."""

    @abstractmethod
    def close(self) -> None:
        """End all jobs and all waiting."""


def json_response(value: object, status: int = 200, headers: Headers = (), *, sort_keys: bool = False) -> Response:
    """A JSON answer without a charset.

    :raises ValueError: NaN or an infinity.
    """
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=sort_keys)
    return Response(status=status, body=body.encode(), headers=(*headers, ("content-type", "application/json")))


def generated(images: list[bytes], rest: dict[str, object]) -> Response:
    """A generation's answer; put together from bytes, because the pictures are megabytes."""
    quoted = b",".join(b'"' + image + b'"' for image in images)
    tail = json.dumps(rest, ensure_ascii=False, separators=(",", ":")).encode()
    headers = (("content-type", "application/json"),)
    return Response(status=200, body=b'{"images":[' + quoted + b"]," + tail[1:], headers=headers)


def enlarged(image: bytes, html_info: str) -> Response:
    """The answer of `extra-single-image`."""
    body = b'{"html_info":' + json.dumps(html_info, ensure_ascii=False).encode() + b',"image":"' + image + b'"}'
    return Response(status=200, body=body, headers=(("content-type", "application/json"),))
