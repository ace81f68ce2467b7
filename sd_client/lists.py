"""What a WebUI lists about itself.

Only the list of models may cost a WebUI: without it there is no API. Every other route that is broken, late, too large
or of another shape is a capability that is missing for now, and what was last read from it still counts.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from sd_client.errors import InvalidAnswerError, MissingRouteError, WebUIError, WebUITimeoutError
from sd_client.limits import SIZE_STEPS, Limits
from sd_client.models import DUMMY_HASH, BrokenList, Capabilities, Checkpoint, Sampler, bare_name
from sd_client.samplers import with_fewest_steps
from sd_client.tasks import look_at_task
from sd_client.transport import Transport

#: Far more than any list takes, and little enough to be read again and again.
MOST_BYTES = 8 * 1024 * 1024
#: A1111 adds each LoRA's whole training metadata to its list.
MOST_LORA_BYTES = 64 * 1024 * 1024
_MOST_ENTRIES = 20_000
_MOST_CHARACTERS = 1000

#: All lists together: the other processes take what they know for stale soon after.
LONGEST_LOOK_S = 8.0

#: stable-diffusion.cpp's server and KoboldCpp cut seeds to int32.
_NATIVE_MAX_SEED = 2**31 - 1

#: Of A1111 and Forge: whether an inpainting's mask and the repainted part come behind each picture.
MASK_OPTIONS = ("return_mask", "return_mask_composite")

#: A job's id that no WebUI has.
_NO_TASK = "stable-diffusion-api"

T = TypeVar("T")


def read_models(transport: Transport, *, timeout_s: float) -> tuple[Checkpoint, ...]:
    """
    The one cheap path that also tells whether the API is up.

    :raises WebUIError: it is not, or what it lists is no list.
    """
    listed = transport.get("/sdapi/v1/sd-models", timeout_s=timeout_s, max_bytes=MOST_BYTES)
    if listed is None:
        raise InvalidAnswerError("the WebUI's list of models has no text")
    return tuple(checkpoint for entry in _entries(listed) if (checkpoint := _checkpoint(entry)))


def read_chosen_model(transport: Transport, *, timeout_s: float) -> str | None:
    """The option with the model of jobs that name none; None where it has no such. :raises WebUIError:"""
    return _loaded(transport.get("/sdapi/v1/options", timeout_s=timeout_s, max_bytes=MOST_BYTES))


def read_capabilities(transport: Transport, *, timeout_s: float, known: Capabilities | None = None) -> Capabilities:
    """
    Everything a job must know about this WebUI, in a handful of GETs, one after another.

    :param timeout_s: for each of them; :data:`LONGEST_LOOK_S` bounds all together.
    :param known: what was read before; it stands in for what cannot be read now.
    :raises WebUIError: the list of models cannot be read.
    """
    reader = _Reader(transport, timeout_s)
    checkpoints = read_models(transport, timeout_s=timeout_s)
    known = known or Capabilities(checkpoints=checkpoints, has_progress=False, schedulers=())
    read = Capabilities(
        checkpoints=checkpoints,
        loaded=reader.get("options", _loaded, missing=None, broken=known.loaded),
        # No real server has an option of this name.
        simulated=reader.get("options", _is_simulator, missing=False, broken=known.simulated),
        returns_masks=reader.get("options", _returns_masks, missing=False, broken=known.returns_masks),
        **reader.get("memory", _gpu, missing=_gpu(None), broken=_known_gpu(known)),
        samplers=reader.get("samplers", _samplers, missing=(), broken=known.samplers),
        schedulers=reader.get("schedulers", _schedulers, missing=None, broken=known.schedulers),
        upscalers=reader.get("upscalers", _names, missing=(), broken=known.upscalers),
        loras=reader.get("loras", _names, missing=(), broken=known.loras, max_bytes=MOST_LORA_BYTES),
        has_progress=reader.get(
            "progress?skip_current_image=true",
            lambda told: isinstance(told, dict),
            missing=False,
            broken=known.has_progress,
        ),
    )
    if is_native(checkpoints):
        read = _native(read, known, reader)
        return replace(read, broken=tuple(reader.broken.values()))
    options = reader.get("options", lambda told: told, missing=None, broken=None)
    if read.schedulers:
        options = options if isinstance(options, dict) else {}
        read = replace(read, samplers=with_fewest_steps(read.samplers, read.schedulers, options))
        # A1111 lists schedulers from 1.9 on; before 1.8 it tells of its page's jobs only, not of those by our ids.
        # SD.Next has the route as well, lists no schedulers, and knows no job of its API there.
        read = replace(read, tells_tasks=reader.tells_tasks(known.tells_tasks))
    elif reader.get("version", _is_sdnext, missing=False, broken=not known.inpaint_options):
        # SD.Next takes inpainting_fill and reads it nowhere.
        read = replace(read, inpaint_options=False)
    return replace(read, broken=tuple(reader.broken.values()))


def is_native(checkpoints: Iterable[Checkpoint]) -> bool:
    """Whether they are stable-diffusion.cpp's or KoboldCpp's: neither tells a hash."""
    return any(checkpoint.hash == DUMMY_HASH for checkpoint in checkpoints)


class _Reader:
    """Gets routes, each once; ``broken`` has those that gave nothing usable."""

    def __init__(self, transport: Transport, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._clock = clock
        self._ends = clock() + LONGEST_LOOK_S
        self._answers: dict[str, Any] = {}
        self.broken: dict[str, BrokenList] = {}

    def get(
        self,
        route: str,
        read: Callable[[Any], T],
        *,
        missing: T,
        broken: T,
        folder: str = "/sdapi/v1/",
        max_bytes: int = MOST_BYTES,
    ) -> T:
        """What ``read`` makes of a route's JSON, ``missing`` where the server lacks it, ``broken`` where it fails."""
        name = route.partition("?")[0]
        if name in self.broken:
            return broken
        try:
            if name not in self._answers:
                self._answers[name] = self._answer(folder + route, max_bytes)
            return read(self._answers[name])
        except MissingRouteError:
            return missing
        except (WebUIError, ArithmeticError, ValueError) as error:
            late = isinstance(error, WebUITimeoutError)
            reason = str(error) if isinstance(error, WebUIError) else type(error).__name__
            self.broken[name] = BrokenList(route=name, reason=reason, late=late)
            return broken

    def tells_tasks(self, known: bool) -> bool:
        """Whether it tells of one job by its id; ``known`` where it does not answer now."""
        try:
            return look_at_task(self._transport, _NO_TASK, timeout_s=self._left_s()) is not None
        except WebUIError:
            return known

    def _answer(self, path: str, max_bytes: int) -> Any:
        return self._transport.get(path, timeout_s=self._left_s(), max_bytes=max_bytes)

    def _left_s(self) -> float:
        left_s = self._ends - self._clock()
        if left_s <= 0:
            raise WebUITimeoutError("the WebUI answered its other lists too late")
        return min(self._timeout_s, left_s)


def _native(read: Capabilities, known: Capabilities, reader: _Reader) -> Capabilities:
    """
    Of stable-diffusion.cpp's server or KoboldCpp, which only their own routes tell apart. Neither can interrupt: a POST
    of an interrupt is a 404 on the first, and waits behind the running job on the second. Both repaint what a mask
    shows, and read neither ``inpaint_full_res`` nor ``inpainting_fill``. KoboldCpp paints one picture a job, clamps
    steps and guidance unless a field lifts that, and since it tells progress it does so by ``genkey`` and ends a job
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
    sdcpp = reader.get("capabilities", _is_object, missing=False, broken=known.paints_batches, folder="/sdcpp/v1/")
    if sdcpp or not reader.get(
        "version", _is_koboldcpp, missing=False, broken=not known.paints_batches, folder="/api/extra/"
    ):
        return read
    return replace(
        read,
        paints_batches=False,
        lifts_limits=True,
        progress_by_genkey=read.has_progress,
        ends_on_hang_up=read.has_progress,
    )


def _is_object(told: object) -> bool:
    return isinstance(told, dict)


def _is_koboldcpp(told: object) -> bool:
    return isinstance(told, dict) and told.get("result") == "KoboldCpp"


def _is_sdnext(told: object) -> bool:
    return isinstance(told, dict) and told.get("app") == "sd.next"


def _is_simulator(options: object) -> bool:
    return isinstance(options, dict) and options.get("simulator") is True


def _returns_masks(options: object) -> bool:
    """Whether it puts masks between pictures, and knows both options that turn that off."""
    told = [options.get(name) for name in MASK_OPTIONS] if isinstance(options, dict) else []
    return any(told) and all(isinstance(value, bool) for value in told)


def _loaded(options: object) -> str | None:
    return _text(options.get("sd_model_checkpoint")) if isinstance(options, dict) else None


def _gpu(memory: object) -> dict[str, Any]:
    """The fields of :class:`Capabilities` that tell about the GPU."""
    cuda = memory.get("cuda") if isinstance(memory, dict) else None
    if not isinstance(cuda, dict):
        return {"gpu": None, "gpu_free_bytes": None, "gpu_total_bytes": None}
    return {
        "gpu": "error" not in cuda and bool(cuda),
        "gpu_free_bytes": _bytes(cuda, "free"),
        "gpu_total_bytes": _bytes(cuda, "total"),
    }


def _known_gpu(known: Capabilities) -> dict[str, Any]:
    names = ("gpu", "gpu_free_bytes", "gpu_total_bytes")
    return {name: getattr(known, name) for name in names}


def _bytes(cuda: Mapping[str, Any], part: str) -> int | None:
    system = cuda.get("system")
    told = system.get(part) if isinstance(system, dict) else None
    return int(told) if isinstance(told, int | float) and 0 <= told < 2**63 else None


def _samplers(listed: object) -> tuple[Sampler, ...]:
    return tuple(
        Sampler(name=name, aliases=_texts(entry.get("aliases")))
        for entry in _entries(listed)
        if (name := _text(entry.get("name")))
    )


def _schedulers(listed: object) -> tuple[Sampler, ...] | None:
    """SD.Next listed its samplers' classes under this route: entries without a label are no schedulers."""
    return tuple(
        Sampler(name=name, aliases=(label, *_texts(entry.get("aliases"))))
        for entry in _entries(listed)
        if (name := _text(entry.get("name"))) and (label := _text(entry.get("label")))
    )


def _names(listed: object) -> tuple[str, ...]:
    return tuple(name for entry in _entries(listed) if (name := _text(entry.get("name"))))


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


def number(value: object) -> float:
    """A JSON number as far as it is one that can be calculated with; else 0."""
    try:
        told = float(value) if isinstance(value, int | float) else 0.0
    except OverflowError:
        return 0.0
    return told if math.isfinite(told) else 0.0
