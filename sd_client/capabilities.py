"""What a WebUI lists about itself.

Only the list of models may cost a WebUI: without it there is no API. Every other route that is broken, late, too large
or of another shape is a capability that is missing for now, and what was last read from it still counts.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from sd_client.errors import InvalidAnswerError, MissingRouteError, WebUIError, WebUITimeoutError
from sd_client.limits import SIZE_STEPS, Limits
from sd_client.loras import by_path, by_tag, listed_loras
from sd_client.models import DUMMY_HASH, BrokenList, Capabilities, Checkpoint, ListedLora, Sampler, bare_name
from sd_client.progress import read_task
from sd_client.references import controlnet_ways, sdnext_ways
from sd_client.samplers import with_fewest_steps
from sd_client.transport import Transport, as_json

#: Far more than any list takes, and little enough to be read again and again.
MOST_BYTES = 8 * 1024 * 1024
#: A1111 adds each LoRA's whole training metadata to its list.
MOST_LORA_BYTES = 64 * 1024 * 1024
_MOST_ENTRIES = 20_000
_MOST_CHARACTERS = 1000

#: For all lists together: soon after that the other processes take what they know to be stale.
LONGEST_LOOK_S = 8.0

#: stable-diffusion.cpp's server and KoboldCpp cut seeds to int32.
_NATIVE_MAX_SEED = 2**31 - 1

#: Of A1111 and Forge: whether an inpainting's mask and the repainted part come behind each picture.
MASK_OPTIONS = ("return_mask", "return_mask_composite")
#: Which layer of CLIP is used, counted from the last; and whether answers name LoRAs.
CLIP_SKIP_OPTION = "CLIP_stop_at_last_layers"
LORA_HASHES_OPTION = "lora_add_hashes_to_infotext"
#: Of the ControlNet extension: whether its prepared pictures are left out of answers.
MAPS_OPTION = "control_net_no_detectmap"

#: The id of a job that no WebUI has.
_NO_TASK = "stable-diffusion-api"


@dataclass(frozen=True, kw_only=True)
class _Route:
    """
    :param path: below the WebUI's address; :param read: what its JSON means. Each path is asked for once.
    :param missing: if the server lacks the route.
    """

    path: str
    read: Callable[[Any], Any]
    missing: Any
    max_bytes: int = MOST_BYTES


class ModelList:
    """
    The list of models of one WebUI: the one cheap path that also shows whether the API is up. It is asked for again and
    again, and parsed only when the answer is another one.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, tuple[Checkpoint, ...]] = (b"", ())

    def read(self, transport: Transport, *, timeout_s: float) -> tuple[Checkpoint, ...]:
        """
        The same object as the last time if nothing has changed.

        :raises WebUIError: the API is not up, or what it lists is not a list.
        """
        answer = transport.exchange("GET", "/sdapi/v1/sd-models", None, timeout_s=timeout_s, max_bytes=MOST_BYTES)
        digest = hashlib.sha256(answer).digest()
        last, models = self._last
        if digest != last:
            models = _checkpoints(as_json(answer))
            self._last = digest, models
        return models


def _checkpoints(listed: object) -> tuple[Checkpoint, ...]:
    """:raises InvalidAnswerError:"""
    if listed is None:
        raise InvalidAnswerError("the WebUI's list of models has no text")
    return tuple(checkpoint for entry in _entries(listed) if (checkpoint := _checkpoint(entry)))


def read_exceptions(transport: Transport, *, timeout_s: float) -> list[Any] | None:
    """
    The last exceptions that a WebUI of A1111's kind has met, newest first; None if it does not report them.

    :raises WebUIError:
    """
    return _exceptions(transport.get("/internal/sysinfo", timeout_s=timeout_s, max_bytes=MOST_BYTES))


def read_chosen_model(transport: Transport, *, timeout_s: float) -> str | None:
    """The option with the model of jobs that name none; None if it has no such option. :raises WebUIError:"""
    return _loaded(transport.get("/sdapi/v1/options", timeout_s=timeout_s, max_bytes=MOST_BYTES))


def read_capabilities(
    transport: Transport, models: ModelList, *, timeout_s: float, known: Capabilities | None = None
) -> Capabilities:
    """
    Everything a job must know about this WebUI, in a handful of GETs, one after another.

    :param timeout_s: for each of them; :data:`LONGEST_LOOK_S` bounds all together.
    :param known: what was read before; it stands in for what cannot be read now.
    :raises WebUIError: the list of models cannot be read.
    """
    reader = _Reader(transport, timeout_s)
    checkpoints = models.read(transport, timeout_s=timeout_s)
    known = known or Capabilities(checkpoints=checkpoints, has_progress=False, schedulers=())
    fields = {name: reader.get(route, broken=getattr(known, name)) for name, route in _FIELDS.items()}
    read = Capabilities(checkpoints=checkpoints, **fields)
    if read.hires_upscalers:
        read = replace(read, hires_upscalers=tuple(dict.fromkeys((*read.hires_upscalers, *read.upscalers))))
    if is_native(checkpoints):
        return replace(_native(read, known, reader), broken=tuple(reader.broken.values()))
    read = replace(read, loras=by_tag(read.loras), upscales=bool(read.upscalers))
    if read.schedulers:
        options = reader.get(_OPTIONS, broken={})
        read = replace(
            read,
            samplers=with_fewest_steps(read.samplers, read.schedulers, options),
            # A1111 lists schedulers from 1.9 on; before 1.8 it reports its page's jobs only, not those by our ids.
            # SD.Next has the route as well, lists no schedulers, and knows no job of its API there.
            reports_tasks=reader.reports_tasks(known.reports_tasks),
        )
    elif reader.get(_IS_SDNEXT, broken=not known.inpaint_options):
        # SD.Next takes inpainting_fill and reads it nowhere. A second pass that failed leaves no trace in its answer.
        ways = reader.get(_IP_ADAPTERS, broken=known.references)
        read = replace(
            read,
            inpaint_options=False,
            clip_skip="field",
            hires_upscalers=(),
            references=ways,
            reference_proof="words" if ways else None,
        )
        return replace(read, broken=tuple(reader.broken.values()))
    read = _with_controlnet(read, known, reader)
    return replace(read, broken=tuple(reader.broken.values()))


def is_native(checkpoints: Iterable[Checkpoint]) -> bool:
    """Whether they are stable-diffusion.cpp's or KoboldCpp's: neither reports a hash."""
    return any(checkpoint.hash == DUMMY_HASH for checkpoint in checkpoints)


def _with_controlnet(read: Capabilities, known: Capabilities, reader: _Reader) -> Capabilities:
    """Reference pictures by the ControlNet extension, whose version only its own API has."""
    ways = reader.get(_CONTROL_TYPES, broken=known.references)
    # The extension's routes are there as well where its script could not be loaded, for want of a package, and no job
    # can name it.
    if not ways or not reader.get(_HAS_CONTROLNET, broken=known.reference_proof is not None):
        return read
    # Pictures that come as JPEG could not be compared.
    if not reader.get(_SENDS_PNG, broken=known.reference_proof is not None):
        return read
    if reader.get(_CONTROLNET_VERSION, broken=known.reference_proof == "maps"):
        return replace(read, references=ways, reference_proof="maps")
    # Forge's answers prove little; it is asked whether it met an exception. That takes it a second, so that it is asked
    # once.
    if known.reference_proof == "exceptions" or reader.get(_EXCEPTIONS, broken=None) is not None:
        return replace(read, references=ways, reference_proof="exceptions")
    return read


class _Reader:
    """Gets routes, each once; ``broken`` has those that gave nothing usable."""

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._ends = time.monotonic() + LONGEST_LOOK_S
        self._answers: dict[str, Any] = {}
        self.broken: dict[str, BrokenList] = {}

    def get(self, route: _Route, *, broken: Any) -> Any:
        """:param broken: if the route gives nothing usable."""
        name = route.path.removeprefix("/sdapi/v1/").partition("?")[0]
        if name in self.broken:
            return broken
        try:
            if name not in self._answers:
                timeout_s = self._left_s()
                self._answers[name] = self._transport.get(route.path, timeout_s=timeout_s, max_bytes=route.max_bytes)
            return route.read(self._answers[name])
        except MissingRouteError:
            return route.missing
        except (WebUIError, ArithmeticError, ValueError) as error:
            late = isinstance(error, WebUITimeoutError)
            reason = str(error) if isinstance(error, WebUIError) else type(error).__name__
            self.broken[name] = BrokenList(route=name, reason=reason, late=late)
            return broken

    def reports_tasks(self, known: bool) -> bool:
        """Whether it reports one job by its id; ``known`` if it does not answer now."""
        try:
            return read_task(self._transport, _NO_TASK, timeout_s=self._left_s()) is not None
        except WebUIError:
            return known

    def _left_s(self) -> float:
        left_s = self._ends - time.monotonic()
        if left_s <= 0:
            raise WebUITimeoutError("the WebUI answered its other lists too late")
        return min(self._timeout_s, left_s)


def _native(read: Capabilities, known: Capabilities, reader: _Reader) -> Capabilities:
    """
    Of stable-diffusion.cpp's server or KoboldCpp, which only their own routes distinguish. Neither can interrupt: POST
    interrupt is a 404 on the first, and waits behind the running job on the second. Both repaint what a mask
    shows, and read neither ``inpaint_full_res`` nor ``inpainting_fill``. KoboldCpp paints one picture a job, clamps
    steps and guidance unless a field lifts that, and since it reports progress it does so by ``genkey`` and ends a job
    when its connection is closed.
    """
    read = replace(
        read,
        can_interrupt=False,
        clamps=True,
        inpaint_options=False,
        limits=Limits(sure_size_step=SIZE_STEPS[-1]),
        max_seed=_NATIVE_MAX_SEED,
    )
    is_sdcpp = reader.get(_IS_SDCPP, broken=known.paints_batches)
    if is_sdcpp:
        return replace(read, loras=by_path(read.loras), clip_skip="field")
    # What no other server's answer proves is not asked for.
    read = replace(read, loras=(), clip_skip=None, hires_upscalers=())
    if not reader.get(_IS_KOBOLDCPP, broken=not known.paints_batches):
        return read
    return replace(
        read,
        paints_batches=False,
        lifts_limits=True,
        progress_by_genkey=read.has_progress,
        ends_on_hang_up=read.has_progress,
    )


# --- What each answer means -------------------------------------------------------------------------------------------


def _object(answer: object) -> Mapping[str, Any]:
    return answer if isinstance(answer, dict) else {}


def _is_object(answer: object) -> bool:
    return isinstance(answer, dict)


def _returns_masks(options: object) -> bool:
    """Whether it puts masks between pictures, and knows both options that turn that off."""
    values = [_object(options).get(name) for name in MASK_OPTIONS]
    return any(values) and all(isinstance(value, bool) for value in values)


def _loaded(options: object) -> str | None:
    return _text(_object(options).get("sd_model_checkpoint"))


def _has_gpu(memory: object) -> bool | None:
    cuda = _object(memory).get("cuda")
    return "error" not in cuda and bool(cuda) if isinstance(cuda, dict) else None


def _gpu_bytes(memory: object, part: str) -> int | None:
    count = _object(_object(_object(memory).get("cuda")).get("system")).get(part)
    return int(count) if isinstance(count, int | float) and 0 <= count < 2**63 else None


def _samplers(listed: object) -> tuple[Sampler, ...]:
    return tuple(
        Sampler(name=name, aliases=_texts(entry.get("aliases")))
        for entry in _entries(listed)
        if (name := _text(entry.get("name")))
    )


def _schedulers(listed: object) -> tuple[Sampler, ...]:
    """SD.Next listed its samplers' classes under this route: entries without a label are not schedulers."""
    return tuple(
        Sampler(name=name, aliases=(label, *_texts(entry.get("aliases"))))
        for entry in _entries(listed)
        if (name := _text(entry.get("name"))) and (label := _text(entry.get("label")))
    )


def _names(listed: object) -> tuple[str, ...]:
    return tuple(name for entry in _entries(listed) if (name := _text(entry.get("name"))))


def _upscalers(listed: object) -> tuple[str, ...]:
    """
    Those that really scale up. The weights of one with an address for a path are not there: A1111 uses Lanczos in its
    place, and says that it used that one.
    """
    entries = [entry for entry in _entries(listed) if not str(entry.get("model_path")).startswith("http")]
    return tuple(name for entry in entries if (name := _text(entry.get("name"))) and name != "None")


def _loras(listed: object) -> tuple[ListedLora, ...]:
    return listed_loras(_entries(listed))


def _clip_skip(options: object) -> Literal["option"] | None:
    return "option" if CLIP_SKIP_OPTION in _object(options) else None


def _has_lora_hashes(options: object) -> bool:
    return isinstance(_object(options).get(LORA_HASHES_OPTION), bool)


def _exceptions(sysinfo: object) -> list[Any] | None:
    listed = _object(sysinfo).get("Exceptions")
    return listed if isinstance(listed, list) else None


def _has_controlnet(scripts: object) -> bool:
    return "controlnet" in (name.lower() for name in _texts(_object(scripts).get("txt2img")))


def _hides_maps(options: object) -> bool | None:
    value = _object(options).get(MAPS_OPTION)
    return value if isinstance(value, bool) else None


def _entries(listed: object) -> list[Mapping[str, Any]]:
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise InvalidAnswerError("the WebUI's list is not a list")
    if len(listed) > _MOST_ENTRIES:
        raise InvalidAnswerError(f"the WebUI's list has more than {_MOST_ENTRIES} entries")
    return [entry for entry in listed if isinstance(entry, dict)]


def _checkpoint(entry: Mapping[str, Any]) -> Checkpoint | None:
    title = _text(entry.get("title")) or _text(entry.get("model_name"))
    if title is None:
        return None
    return Checkpoint(
        title=title,
        model_name=_text(entry.get("model_name")) or bare_name(title),
        hash=_text(entry.get("hash")),
        filename=re.split(r"[\\/]", _text(entry.get("filename")) or "")[-1],
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MOST_CHARACTERS else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for item in value[:_MOST_CHARACTERS] if (text := _text(item))) if isinstance(value, list) else ()


def _route(name: str, read: Callable[[Any], Any], missing: Any, max_bytes: int = MOST_BYTES) -> _Route:
    return _Route(path=f"/sdapi/v1/{name}", read=read, missing=missing, max_bytes=max_bytes)


#: By field of :class:`Capabilities`.
_FIELDS = {
    "loaded": _route("options", _loaded, None),
    # No real server has an option of this name.
    "simulated": _route("options", lambda options: _object(options).get("simulator") is True, False),
    "returns_masks": _route("options", _returns_masks, False),
    "clip_skip": _route("options", _clip_skip, None),
    "lora_hashes": _route("options", _has_lora_hashes, False),
    "hides_maps": _route("options", _hides_maps, None),
    "gpu": _route("memory", _has_gpu, None),
    "gpu_free_bytes": _route("memory", lambda memory: _gpu_bytes(memory, "free"), None),
    "gpu_total_bytes": _route("memory", lambda memory: _gpu_bytes(memory, "total"), None),
    "samplers": _route("samplers", _samplers, ()),
    "schedulers": _route("schedulers", _schedulers, None),
    "upscalers": _route("upscalers", _upscalers, ()),
    "hires_upscalers": _route("latent-upscale-modes", _names, ()),
    "loras": _route("loras", _loras, (), MOST_LORA_BYTES),
    "has_progress": _route("progress?skip_current_image=true", _is_object, False),
}
_OPTIONS = _route("options", _object, {})
_IS_SDNEXT = _route("version", lambda version: _object(version).get("app") == "sd.next", False)
_SENDS_PNG = _route("options", lambda options: _object(options).get("samples_format") in ("png", None), True)
_IP_ADAPTERS = _route("ip-adapters", sdnext_ways, ())
_CONTROL_TYPES = _Route(path="/controlnet/control_types", read=controlnet_ways, missing=())
_HAS_CONTROLNET = _route("scripts", _has_controlnet, True)
_CONTROLNET_VERSION = _Route(path="/controlnet/version", read=_is_object, missing=False)
_EXCEPTIONS = _Route(path="/internal/sysinfo", read=_exceptions, missing=None)
_IS_SDCPP = _Route(path="/sdcpp/v1/capabilities", read=_is_object, missing=False)
_IS_KOBOLDCPP = _Route(
    path="/api/extra/version", read=lambda version: _object(version).get("result") == "KoboldCpp", missing=False
)
