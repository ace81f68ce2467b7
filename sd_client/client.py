"""One WebUI's HTTP API as Python: a method per endpoint, in the WebUI's own words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sd_client.answer_stream import AnswerStream
from sd_client.errors import InvalidAnswerError, MissingRouteError, WebUIStatusError
from sd_client.exchange_time import ExchangeTime
from sd_client.models import (
    DUMMY_HASH,
    Capabilities,
    Checkpoint,
    GenerationParams,
    PaintedImage,
    Progress,
    Sampler,
    bare_name,
)
from sd_client.payloads import payload, read_answer
from sd_client.samplers import spell
from sd_client.transport import Transport
from spool import Spool

#: Lists come from memory; only a WebUI whose threads are all taken needs longer.
READ_TIMEOUT_S = 5.0

#: stable-diffusion.cpp's server and KoboldCpp paint multiples of 64, cut seeds to int32, and lack an interrupt.
_NATIVE_SIZE_STEP = 64
_NATIVE_MAX_SEED = 2**31 - 1

Took = Callable[[float], None]


def _nobody(_seconds: float) -> None:
    """Nobody wants to know."""


class WebUIClient:
    """
    :param ca_bundle: see :class:`Transport`.
    :param new_file: what a picture is put into while it arrives.
    :raises WebUIError: every method, one of the tree in :mod:`sd_client.errors`.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_bundle: str | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
        new_file: Callable[[], Spool] = Spool,
    ) -> None:
        self._transport = Transport(url, ca_bundle=ca_bundle)
        self._new_file = new_file
        self._read_timeout_s = read_timeout_s

    def txt2img(
        self,
        params: GenerationParams,
        capabilities: Capabilities,
        *,
        task_id: str,
        timeout_s: float,
        took: Took = _nobody,
    ) -> tuple[PaintedImage, ...]:
        """
        :param timeout_s: seconds until the whole answer must be there; the WebUI may go on painting after that.
        :param took: is told how many seconds the WebUI was waited for, also where it failed.
        """
        return self._generate("/sdapi/v1/txt2img", params, capabilities, task_id, timeout_s, took)

    def img2img(
        self,
        params: GenerationParams,
        capabilities: Capabilities,
        *,
        task_id: str,
        timeout_s: float,
        took: Took = _nobody,
    ) -> tuple[PaintedImage, ...]:
        """With ``params.inpainting`` as well; see :meth:`txt2img`."""
        return self._generate("/sdapi/v1/img2img", params, capabilities, task_id, timeout_s, took)

    def sd_models(self) -> tuple[Checkpoint, ...]:
        """The one cheap path that also tells whether the API is up. :raises MissingRouteError: it is not."""
        listed = self._transport.get("/sdapi/v1/sd-models", timeout_s=self._read_timeout_s)
        if listed is None:
            raise InvalidAnswerError("the WebUI's list of models has no text")
        return tuple(checkpoint for entry in _entries(listed) if (checkpoint := _checkpoint(entry)))

    def capabilities(self) -> Capabilities:
        """Everything a job must know about this WebUI, in a handful of GETs, one after another."""
        checkpoints = self.sd_models()
        options = self._options()
        gpu_memory = self._gpu_memory()
        native = any(checkpoint.hash == DUMMY_HASH for checkpoint in checkpoints)
        return Capabilities(
            checkpoints=checkpoints,
            loaded=_loaded(options),
            samplers=self._samplers(),
            schedulers=self._schedulers(),
            upscalers=tuple(_names(self._shown("/sdapi/v1/upscalers"))),
            loras=tuple(_names(self._shown("/sdapi/v1/loras"))),
            gpu=None if gpu_memory is None else "error" not in gpu_memory and bool(gpu_memory),
            has_progress=self.progress() is not None,
            can_interrupt=not native,
            size_step=_NATIVE_SIZE_STEP if native else 8,
            max_seed=_NATIVE_MAX_SEED if native else 2**63 - 1,
            # No real server has an option of this name.
            simulated=options.get("simulator") is True,
            gpu_free_bytes=_bytes(gpu_memory, "free"),
            gpu_total_bytes=_bytes(gpu_memory, "total"),
        )

    def progress(self) -> Progress | None:
        """Of whatever runs; None where the server does not tell."""
        answer = self._shown("/sdapi/v1/progress?skip_current_image=true")
        if not isinstance(answer, dict):
            return None
        return Progress(fraction=_number(answer.get("progress")), eta_seconds=_number(answer.get("eta_relative")))

    def interrupt(self) -> bool:
        """Stops whatever runs, at its next step; False where the server cannot."""
        try:
            self._transport.post("/sdapi/v1/interrupt", b"", timeout_s=self._read_timeout_s)
        except MissingRouteError:
            return False
        return True

    def _generate(
        self,
        path: str,
        params: GenerationParams,
        capabilities: Capabilities,
        task_id: str,
        timeout_s: float,
        took: Took,
    ) -> tuple[PaintedImage, ...]:
        checkpoint = find_checkpoint(capabilities, params.checkpoint)
        spelling = spell(capabilities, params.sampler, params.scheduler)
        if checkpoint is None or spelling is None:
            # Whoever chose this WebUI looked at the same capabilities.
            raise LookupError("the WebUI does not offer the job's checkpoint or sampler")
        body = payload(params, title=checkpoint.title, spelling=spelling, task_id=task_id)
        exchange = ExchangeTime()
        try:
            take = exchange.apart(partial(AnswerStream, new_file=self._new_file))
            answer = self._transport.receive("POST", path, body, take, timeout_s=timeout_s)
        finally:
            took(exchange.webui_s())
        # Where this WebUI does not know the file's hash yet, the answer's must be the one that was asked for.
        expected = checkpoint if checkpoint.known_hash else replace(checkpoint, hash=params.checkpoint.hash)
        return read_answer(answer.object(), params, checkpoint=expected, spelling=spelling)

    def _options(self) -> Mapping[str, Any]:
        options = self._shown("/sdapi/v1/options")
        return options if isinstance(options, dict) else {}

    def _samplers(self) -> tuple[Sampler, ...]:
        return tuple(
            Sampler(name=name, aliases=_strings(entry.get("aliases")))
            for entry in _entries(self._optional("/sdapi/v1/samplers"))
            if isinstance(name := entry.get("name"), str)
        )

    def _schedulers(self) -> tuple[Sampler, ...] | None:
        """SD.Next lists its samplers' classes under this route: entries without a label are no schedulers."""
        listed = self._optional("/sdapi/v1/schedulers")
        if listed is None:
            return None
        return tuple(
            Sampler(name=name, aliases=(label, *_strings(entry.get("aliases"))))
            for entry in _entries(listed)
            if isinstance(name := entry.get("name"), str) and isinstance(label := entry.get("label"), str)
        )

    def _gpu_memory(self) -> Mapping[str, Any] | None:
        memory = self._shown("/sdapi/v1/memory")
        cuda = memory.get("cuda") if isinstance(memory, dict) else None
        return cuda if isinstance(cuda, dict) else None

    def _optional(self, path: str) -> Any:
        """The JSON of a route that a server may lack: None then."""
        try:
            return self._transport.get(path, timeout_s=self._read_timeout_s)
        except MissingRouteError:
            return None

    def _shown(self, path: str) -> Any:
        """
        The JSON of a route that no job depends on: None also where it is broken, which must not cost the WebUI.

        A1111 answers 500 to ``options`` on some fresh installations, others to ``loras`` over one damaged file.
        """
        try:
            return self._transport.get(path, timeout_s=self._read_timeout_s)
        except WebUIStatusError:
            return None


def find_checkpoint(capabilities: Capabilities, wanted: Checkpoint) -> Checkpoint | None:
    """
    The same file as this WebUI lists it: by its path there, else by its hash where both know that, else by its name,
    else by its bare name where that names one file. Never one whose hash is known to be another.
    """
    possible = [checkpoint for checkpoint in capabilities.checkpoints if checkpoint.may_be(wanted)]
    for same in (_same_path, _same_hash, _same_name):
        for checkpoint in possible:
            if same(checkpoint, wanted):
                return checkpoint
    bare = [checkpoint for checkpoint in possible if checkpoint.stem.lower() == wanted.stem.lower()]
    return bare[0] if len(bare) == 1 else None


def _same_path(one: Checkpoint, other: Checkpoint) -> bool:
    return one.path == other.path


def _same_hash(one: Checkpoint, other: Checkpoint) -> bool:
    return bool(one.known_hash) and one.known_hash == other.known_hash


def _same_name(one: Checkpoint, other: Checkpoint) -> bool:
    return one.model_name.lower() == other.model_name.lower()


def loaded_model(capabilities: Capabilities) -> str | None:
    """``model_name`` of the checkpoint that the WebUI says it has loaded."""
    if capabilities.loaded is None:
        return None
    for checkpoint in capabilities.checkpoints:
        if capabilities.loaded in checkpoint.names():
            return checkpoint.model_name
    return bare_name(capabilities.loaded)


def _loaded(options: Mapping[str, Any]) -> str | None:
    loaded = options.get("sd_model_checkpoint")
    return loaded if isinstance(loaded, str) and loaded else None


def _bytes(gpu_memory: Mapping[str, Any] | None, part: str) -> int | None:
    system = (gpu_memory or {}).get("system")
    told = system.get(part) if isinstance(system, dict) else None
    return int(told) if isinstance(told, int | float) and math.isfinite(told) and told >= 0 else None


def _entries(listed: object) -> list[Mapping[str, Any]]:
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise InvalidAnswerError("the WebUI's list is not a list")
    return [entry for entry in listed if isinstance(entry, dict)]


def _checkpoint(entry: Mapping[str, Any]) -> Checkpoint | None:
    title = entry.get("title") or entry.get("model_name")
    if not isinstance(title, str) or not title:
        return None
    filename = entry.get("filename")
    model_name = entry.get("model_name")
    sha = entry.get("hash")
    return Checkpoint(
        title=title,
        model_name=model_name if isinstance(model_name, str) and model_name else bare_name(title),
        hash=sha if isinstance(sha, str) and sha else None,
        filename=re.split(r"[\\/]", filename)[-1] if isinstance(filename, str) else "",
    )


def _names(listed: object) -> list[str]:
    return [name for entry in _entries(listed) if isinstance(name := entry.get("name"), str) and name]


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
