"""A WebUI without a model: its models, options, queue and progress, and the run of one job."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from simulator.checkpoints import Checkpoint, Checkpoints
from simulator.controlnet import (
    EXCEPTION,
    MOST_EXCEPTIONS,
    NO_MAPS,
    SCRIPT,
    Effects,
    Surroundings,
    apply,
    decode_mask,
    units_of,
)
from simulator.errors import CrashError
from simulator.flavour import Profile, Settings
from simulator.hires import SecondPass, second_pass
from simulator.infotext import extra_params, info_of, texts_of
from simulator.jobs import Job, check, step_time
from simulator.networks import load, texts
from simulator.options import Options
from simulator.progress import FIFOLock, Progress, Tasks

if TYPE_CHECKING:
    from PIL import Image

    from simulator.painting import Prepared, Source

CACHE_BYTES = 64 << 20
CLIP_LAYERS = 12
EXTRAS = {"mask": "return_mask", "composite": "return_mask_composite"}


def painted_by(model: Checkpoint, clip_skip: int) -> str:
    """Stands for what paints: the model, and the layer of CLIP unless it is the last."""
    return model.model_name if clip_skip == 1 else f"{model.model_name} {clip_skip}"


class EncodedPictures:
    """The last pictures in base64, so that an identical request costs next to nothing. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cache: LRUCache[Hashable, bytes] = LRUCache(CACHE_BYTES, getsizeof=len)

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The picture under `key`, made if it is not there."""
        with self._lock:
            data = self._cache.get(key)
        if data is None:
            data = make()
            with self._lock:
                self._cache[key] = data
        return data


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished job: what is said about it and what it shows, still to be painted."""

    info: str
    prepared: Prepared
    texts: list[str]
    finished: list[float]
    """For every image that was begun, how much of it was sampled (0 to 1)."""
    has_texts: bool
    """Whether the pictures have their text in them (option enable_pnginfo)."""
    extras: list[str]
    """What comes directly behind each picture of an inpainting: "mask", "composite"."""
    maps: tuple[Image.Image, ...] = ()
    """What ControlNet adds behind all of them."""


class WebUI:
    """The state behind the HTTP API, as A1111 has it."""

    def __init__(self, settings: Settings, profile: Profile) -> None:
        self.checkpoints = Checkpoints(settings.models, settings.weights)
        self.queue = FIFOLock()
        self.progress = Progress()
        self.tasks = Tasks()
        self._settings = settings
        self._profile = profile
        self._version = {"version": profile["version"]} if profile["version"] else {}
        self._loaded = self.checkpoints.find(settings.models[0]) if settings.models else None
        config: dict[str, Any] = {}
        if self._loaded is not None:
            self.checkpoints.learn_hash(self._loaded)
            title = self.checkpoints.title(self._loaded)
            config |= {"sd_model_checkpoint": title, "sd_checkpoint_hash": self._loaded.sha256}
        if settings.samples_format:
            config["samples_format"] = settings.samples_format
        self.options = Options(profile["options"], config)
        self._encoded = EncodedPictures()
        #: Of those that were only printed, the last, newest first.
        self.exceptions: deque[dict[str, object]] = deque(maxlen=MOST_EXCEPTIONS)

    @property
    def controlnet(self) -> str:
        """Which kind of ControlNet it has."""
        return self._settings.controlnet or str(self._profile["default_controlnet"])

    @property
    def scripts(self) -> list[str]:
        """Those that a request may name under `alwayson_scripts`."""
        return [*self._profile["scripts"], *([] if self.controlnet in ("none", "strict-unloaded") else [SCRIPT])]

    def close(self) -> None:
        """End all jobs and all waiting."""
        self.queue.close()
        self.progress.close()

    @property
    def loaded(self) -> Checkpoint:
        """The model in memory.

        :raises CrashError: there is none.
        """
        if self._loaded is None:
            raise CrashError("AttributeError", "'NoneType' object has no attribute 'sd_checkpoint_info'")
        return self._loaded

    def ensure_loaded(self) -> None:
        """Load what the options name, if it is not loaded. Only to be called by whoever holds the queue.

        :raises CrashError: it cannot be loaded; the one before stays in memory, the option as it is.
        """
        wanted = self.wanted()
        if wanted != self._loaded:
            self.load(wanted, refusal=("SafetensorError", "Error while deserializing header: MetadataIncompleteBuffer"))

    def wanted(self) -> Checkpoint:
        """What the options name, else what is loaded.

        :raises CrashError: there is no model at all.
        """
        wanted = self.checkpoints.find(str(self.options.get("sd_model_checkpoint"))) or self._loaded
        if wanted is None:
            raise CrashError("FileNotFoundError", "No checkpoints found. When searching for checkpoints, looked at: …")
        return wanted

    def load(self, wanted: Checkpoint, *, refusal: tuple[str, str]) -> None:
        """Read a file.

        :raises CrashError: of this class and text, it cannot be loaded.
        """
        self.progress.rest(self._settings.load_time)
        if wanted.file in self._settings.broken:
            raise CrashError(*refusal)
        self.checkpoints.learn_hash(wanted)
        self._loaded = wanted
        self.options.set("sd_checkpoint_hash", wanted.sha256)

    def choose(self, name: str) -> None:
        """POST options with a model: the option changes at once, the model when the queue lets it."""
        self.options.set("sd_model_checkpoint", name)
        with self.queue.held():
            self.ensure_loaded()
            self.options.set("sd_model_checkpoint", self.checkpoints.title(self.loaded))

    def run(self, job: Job, source: Source | None, task: str) -> Result:
        """Do a job. Only to be called by whoever holds the queue.

        :raises SimulatedError: it fails the way it would.
        """
        timestamp = self.progress.begin(f"scripts_{job.kind}")
        try:
            self.tasks.start(task)
            with self._overridden(job.fields):
                self.ensure_loaded()
                result = self._paint(job, source, timestamp)
            self.tasks.finish(task)
        finally:
            self.progress.end()
        return result

    @contextmanager
    def enlarging(self) -> Iterator[None]:
        """A picture is enlarged, which takes as long as a step. Only to be called by whoever holds the queue."""
        self.progress.begin("extras")
        try:
            self.progress.rest(self._settings.step_time)
            yield
        finally:
            self.progress.end()

    def _overridden(self, fields: Mapping[str, Any]) -> Any:
        settings = dict(fields["override_settings"] or {})
        name = settings.get("sd_model_checkpoint", "")
        if not isinstance(name, str) or not self.checkpoints.find(name):
            # Silently: the request is then done with the model of the options.
            settings.pop("sd_model_checkpoint", None)
        return self.options.overridden(settings, restore=bool(fields["override_settings_restore_afterwards"]))

    def clip_skip(self, _job: Job) -> int:
        """The layer of CLIP that is used, counted from the last.

        :raises CrashError: there are not so many, or it is no number.
        """
        value = self.options.get("CLIP_stop_at_last_layers")
        if not isinstance(value, int | float) or value != int(value):
            raise CrashError("TypeError", "tuple indices must be integers or slices, not " + type(value).__name__)
        if value > CLIP_LAYERS:
            raise CrashError("IndexError", "tuple index out of range")
        return max(1, int(value))

    def check_steps(self, _job: Job) -> None:
        """:raises CrashError: the sampler cannot do so few; here all can."""

    def _paint(self, job: Job, source: Source | None, timestamp: str) -> Result:
        from simulator.painting import prepare  # Pillow is half of a simulator's start.

        check(job)
        self.check_steps(job)
        loaded = load(job.prompt, self._profile)
        second = second_pass(job.fields, self._profile)
        clip_skip = self.clip_skip(job)
        model = painted_by(self.loaded, clip_skip)
        prepared = prepare(job, source, model, words=loaded.painted, second=second)
        effects = self.effects(job, second)
        for _ in range(effects.failures):
            self.exceptions.appendleft(EXCEPTION)
        if effects.tints:
            prepared = replace(prepared, tints=tuple(effects.tints), key=f"{prepared.key} {effects.tints}")
        self.progress.rest(effects.wait_s)
        finished = self._sample(prepared)
        with_hashes = bool(self.options.get("lora_add_hashes_to_infotext"))
        extra = {**effects.lines, **extra_params(job, inpaints=bool(prepared.canvases))}
        if second:
            extra |= {"Denoising strength": job.strength, **second.texts}
        extra |= texts(loaded, self._profile, with_hashes=with_hashes)
        infotexts = texts_of(job, self.loaded, extra, count=len(finished), clip_skip=clip_skip)
        more = {"job_timestamp": timestamp, "clip_skip": clip_skip, **self._version}
        return Result(
            info=info_of(job, self.loaded, extra, infotexts, **more),
            prepared=prepared,
            texts=infotexts,
            finished=finished,
            has_texts=bool(self.options.get("enable_pnginfo")),
            maps=tuple(effects.maps),
            extras=[name for name, option in EXTRAS.items() if prepared.canvases and self.options.get(option)],
        )

    def effects(self, job: Job, second: SecondPass | None) -> Effects:
        """What ControlNet makes of the job.

        :raises CrashError: it fails aloud.
        """
        units = units_of(job.fields, self.scripts)
        if not units:
            return Effects()
        fields = job.fields
        mask = decode_mask(fields) if fields.get("inpaint_full_res") else None
        around = Surroundings(
            size=job.size,
            final_size=second.size if second else None,
            init_image=(fields.get("init_images") or [None])[0],
            model=self.loaded.model_name,
            hides_maps=bool(self.options.get(NO_MAPS)),
            inpaints_masked=mask,
        )
        return apply(units, self.controlnet, self._profile, around)

    def _sample(self, prepared: Prepared) -> list[float]:
        job = prepared.job
        self.progress.plan(job.n_iter)
        finished: list[float] = []
        for _ in range(job.n_iter):
            done = self.progress.sample(job.sampling_steps, step_time(self._settings.step_time, job))
            finished += [done] * job.batch_size
            if not self.progress.next_round():
                break
        return finished

    def pictures(self, result: Result) -> list[bytes]:
        """The finished images in base64, each with what comes behind it.

        :raises HTTPError: the option samples_format names something that cannot be sent.
        """
        from simulator.pictures import encode

        kind = str(self.options.get("samples_format"))
        images = []
        for index, done in enumerate(result.finished):
            images.append(self._picture(result, index, kind))
            images += [encode(result.prepared.behind(index, done, name), kind, "") for name in result.extras]
        return images + [encode(one, kind, "") for one in result.maps]

    def _picture(self, result: Result, index: int, kind: str) -> bytes:
        from simulator.painting import encoded

        prepared, done = result.prepared, result.finished[index]
        text = result.texts[index] if result.has_texts else ""
        key = (kind, text, prepared.scene(index), done, prepared.key)
        return self._encoded.get(key, partial(encoded, prepared, index, done, kind, text))
